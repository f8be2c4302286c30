"""Manifests: what was made, from what, and the proof that it is what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import Field

from twinloop.contracts.features import Feature
from twinloop.contracts.hashing import Hashed
from twinloop.contracts.model import Contract
from twinloop.contracts.outcomes import OutcomesTold


class FileEntry(Contract):
    """One file of an immutable set."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    rows: int | None = None


class SnapshotManifest(Contract):
    """An immutable, reproducible training set. `snapshot_id` is a hash of everything below but `created_at`."""

    snapshot_id: str
    system: str
    created_at: datetime
    lake_files: tuple[FileEntry, ...]
    files: tuple[FileEntry, ...]
    rows: dict[str, int] = Field(description="Rows of each split and table.")
    first_event: datetime
    last_event: datetime
    split: dict[str, Any]
    feature_versions: dict[str, str]
    schema_hash: str = Field(description="Of all its features; a model's is of those that it is asked with.")
    features: tuple[Feature, ...] = Field(description="The definitions that its columns were computed by.")
    history_length: int = Field(gt=0, description="Events of a user that serving keeps, and that features look at.")
    segments: tuple[str, ...] = Field((), description="Facts of a new user that popularity is counted by.")
    most_cases: int = Field(
        0, ge=0, description="Cases of a part at most, of the users with the smallest SHA-256 of their id; 0: all."
    )
    outcomes: OutcomesTold | None = Field(None, description="Of `impressions.parquet`; None where nothing was shown.")
    known_features: tuple[Feature, ...] = Field((), description="The definitions of the features of impressions.")
    example_columns: tuple[str, ...] = Field(
        (),
        description="Columns of `examples.parquet`, each `name:type`; none where the system learns from no examples.",
        exclude_if=lambda columns: not columns,  # so that snapshots from before it stay what they are
    )


class Parity(Contract):
    """Proof that the ONNX output equals the framework's on held-out rows."""

    max_abs_diff: float = Field(ge=0)
    rows: int = Field(ge=1)
    tolerance: float = 1e-4


class ComponentManifest(Contract):
    """One model file of a release: `retrieval`, `ranking`, `engagement`, `click`, or `model` where it is alone."""

    system: str
    component: str
    rung: str
    framework: str
    snapshot_id: str
    schema_hash: str = Field(
        description="Of the definitions of `context_names`, then `known_names`, in their order, and of `hashed`."
    )
    feature_versions: dict[str, str] = Field(description="Of `context_names` and `known_names`.")
    seed: int
    code_version: str
    library_versions: dict[str, str]
    hyperparameters: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    feature_names: tuple[str, ...] = Field((), description="Columns of the `features` tensor, in order.")
    context_names: tuple[str, ...] = Field(
        (), description="Features of the user that the `context` tensor holds, in order; see contracts/signature.py."
    )
    known_names: tuple[str, ...] = Field(
        (),
        description="Features that the `known` tensor of an `engagement` or a `click` holds, in order.",
    )
    situation: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Facts of a request's context that the `situation` tensor holds, in order, each with its values.",
    )
    hashed: Hashed | None = Field(None, description="What the `ids` tensor of a `click` holds, in order.")
    parity: Parity
    trained_seconds: float = Field(ge=0)


def release_schema(manifests: Iterable[ComponentManifest]) -> str:
    """Return the feature schema of a release: its components' own, or where they differ, a hash of all of theirs."""
    hashes = sorted({manifest.schema_hash for manifest in manifests})
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


class ReleaseManifest(Contract):
    """The models that serve together and move together."""

    system: str
    version: str
    rung: str
    snapshot_id: str
    schema_hash: str = Field(description="As `release_schema` has it.")
    components: dict[str, str] = Field(description="Component name -> its version in the registry.")
    created_at: datetime
    metrics: dict[str, float] = Field(default_factory=dict)
    verdict: str = ""
    refreshed_from: str | None = Field(
        None,
        description="The release that learning made, and whose models this one has with other items; None: learnt.",
        exclude_if=lambda version: version is None,  # so that what learning made stays as it was written before it
    )

    @property
    def learnt_as(self) -> str:
        """The release that learning made of these models: the same one however often its items were refreshed."""
        return self.refreshed_from or self.version


class Case(Contract):
    """One labelled request: what serving would have been asked, and what turned out to be right.

    Snapshots write them (`cases/test.jsonl.gz`, one JSON object a line); the gate replays them through serving code.
    """

    case_id: str
    request: dict[str, Any]
    truth: dict[str, Any]
    slices: dict[str, str] = Field(default_factory=dict)
