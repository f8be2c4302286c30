"""What a job leaves behind: a folder for each component, with its manifest and the proof that ONNX equals the model."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from twinloop import __version__
from twinloop.contracts.artefacts import ComponentManifest, Parity, SnapshotManifest
from twinloop.contracts.embeddings import pack_embeddings
from twinloop.contracts.hashing import Hashed
from twinloop.features.schema import chosen, feature_versions, schema_hash
from twinloop.training import catalogue, segments
from twinloop.training.config import JobConfig
from twinloop.training.events import Floats32
from twinloop.training.item_vectors import item_vectors
from twinloop.training.job import Job
from twinloop.training.proof import prove_parity, session
from twinloop.training.snapshot import Snapshot

__all__ = ["Component", "LearntFrom", "prove_parity", "session", "write_component", "write_items"]

CODE_VERSION_VARIABLE = "TWINLOOP_CODE_VERSION"
_LIBRARIES = ("numpy", "scipy", "onnx", "onnxruntime", "xgboost-cpu", "xgboost", "torch")


@dataclass(frozen=True)
class Component:
    """A trained model on its way out.

    Attributes:
        name: `retrieval`, `ranking`, `engagement` or `click`.
        framework: What fitted it.
        model: The ONNX file.
        parity: See `prove_parity`.
        metrics: Measured on the validation split by a model that had not seen it.
        feature_names: Columns of the `features` tensor, where there is one.
        context_names: The snapshot's features that the release is asked with, in the order of the `context` tensor.
        known_names: The features of impressions that it is asked with, in the order of the `known` tensor.
        situation: The facts of the moment that it is asked with, in the order of the `situation` tensor, with their
            values.
        hashed: The ids that it is asked with, if any.
    """

    name: str
    framework: str
    model: bytes
    parity: Parity
    metrics: Mapping[str, float]
    feature_names: Sequence[str] = ()
    context_names: Sequence[str] = ()
    known_names: Sequence[str] = ()
    situation: Mapping[str, Sequence[str]] = field(default_factory=dict)
    hashed: Hashed | None = None


class LearntFrom(Protocol):
    """What a model was learnt from: a snapshot, in whatever form a job read it."""

    @property
    def manifest(self) -> SnapshotManifest:
        """The snapshot's."""
        ...


def write_component(job: Job, snapshot: LearntFrom, config: JobConfig, component: Component) -> None:
    """Write the component's folder under /opt/ml/model."""
    folder = job.model_dir / component.name
    folder.mkdir(parents=True, exist_ok=True)
    opened = session(component.model)
    asked = chosen(snapshot.manifest.features, component.context_names)
    asked += chosen(snapshot.manifest.known_features, component.known_names)
    manifest = ComponentManifest(
        system=snapshot.manifest.system,
        component=component.name,
        rung=job.rung,
        framework=component.framework,
        snapshot_id=snapshot.manifest.snapshot_id,
        schema_hash=schema_hash(asked, component.hashed),
        feature_versions=feature_versions(asked),
        seed=config.seed,
        code_version=os.environ.get(CODE_VERSION_VARIABLE, __version__),
        library_versions=_library_versions(),
        hyperparameters={name: str(value) for name, value in config.model_dump().items()},
        inputs=tuple(entry.name for entry in opened.get_inputs()),
        outputs=tuple(entry.name for entry in opened.get_outputs()),
        feature_names=tuple(component.feature_names),
        context_names=tuple(component.context_names),
        known_names=tuple(component.known_names),
        situation={name: tuple(values) for name, values in component.situation.items()},
        hashed=component.hashed,
        parity=component.parity,
        trained_seconds=round(job.seconds, 3),
    )
    (folder / "model.onnx").write_bytes(component.model)
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    metrics = json.dumps({name: float(value) for name, value in component.metrics.items()}, indent=1, sort_keys=True)
    (folder / "metrics.json").write_text(metrics, encoding="utf-8")
    job.say(f"wrote {component.name}: {len(component.model) / 1e6:.1f} MB, parity {component.parity.max_abs_diff:.1g}")


def write_items(job: Job, snapshot: Snapshot, shares: Floats32) -> None:
    """Write what policy needs beside the retrieval model; the same of every rung, and none of it is a model's input.

    `items.json.gz`: ids and titles by item index, each item's share of the positives, and what the catalogue says of
    them (see `catalogue.packed`). `embeddings.bin`: a vector for each of those items, then for each new one.
    `segments.json.gz`: what is popular by what is known of a new user, where that tells anything.
    """
    body = {
        "item_ids": list(snapshot.items.ids),
        "titles": list(snapshot.items.titles),
        "popularity": [float(share) for share in shares],
    }
    new_tags: Sequence[Sequence[str]] = ()
    found: list[segments.Segments] = []
    if snapshot.folder is not None:
        described = catalogue.read_catalogue(snapshot.folder, snapshot.items.ids)
        new_tags = described.new.tags
        body |= catalogue.packed(described)
        known = segments.attributes(snapshot.folder, snapshot.user_ids, snapshot.manifest.segments)
        found = segments.fit_segments(snapshot.everything, known)
    folder = job.model_dir / "retrieval"
    _write_packed(folder / "items.json.gz", body)
    vectors = item_vectors(snapshot.everything, snapshot.items.tags, new_tags)
    (folder / "embeddings.bin").write_bytes(pack_embeddings(vectors))
    if found:
        _write_packed(folder / "segments.json.gz", segments.packed(found))


def _write_packed(path: Path, body: Mapping[str, Any]) -> None:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
