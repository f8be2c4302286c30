"""From a job's archive, or from the registry, to a judged model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from twinloop.contracts.artefacts import Case, ComponentManifest, ReleaseManifest, SnapshotManifest
from twinloop.contracts.spec import Rung
from twinloop.contracts.system import Model, System
from twinloop.errors import BadInputError, IntegrityError, NotFoundError, UnavailableError
from twinloop.evaluation.bundles import bundled, rare_as_other
from twinloop.evaluation.cases import CaseScores, read_cases
from twinloop.evaluation.foretold import Foretold, foretell
from twinloop.evaluation.messages import RungResult
from twinloop.evaluation.replay import replay
from twinloop.evaluation.verdict import Candidate, Champion, FailedRung
from twinloop.features.judged import (
    BUNDLE,
    ITEMS_FILE,
    SHOWN_FILE,
    USERS_FILE,
    ItemsAsOf,
    read_users,
    with_knowledge,
    with_values,
)
from twinloop.features.schema import chosen, schema_hash
from twinloop.ports import ObjectStore
from twinloop.registry.artefacts import Artefact, check_components, read_artefact, served_mb
from twinloop.registry.registry import Registry

CASES_FILE = "cases/test.jsonl.gz"
_LONGEST_REASON = 600

Load = Callable[[Mapping[str, Mapping[str, bytes]]], Mapping[str, Model]]


@dataclass(frozen=True)
class Bench:
    """What every model of one judgement is measured with: the same system, loader, snapshot, cases and impressions.

    `carried`: what people wrote for the champion, by component and file, as `System.carried` names it.
    """

    system: System
    load: Load
    snapshot: SnapshotManifest
    cases: Sequence[Case]
    shown: Sequence[Case] = ()
    carried: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)

    def complete(self, components: Mapping[str, Mapping[str, bytes]]) -> dict[str, Mapping[str, bytes]]:
        """Return a candidate's files with those beside them that people wrote for the champion."""
        return {name: {**files, **self.carried.get(name, {})} for name, files in components.items()}

    def scores(self, components: Mapping[str, Mapping[str, bytes]]) -> tuple[CaseScores, Foretold | None]:
        """Load a release as serving does, replay all cases, and ask what it predicts of what was shown."""
        predictor = self.system.predictor(self.load(components))
        scores = replay(predictor, self.cases, self.system.judge)
        predictions = self.system.predictions
        return scores, foretell(predictor, self.shown, predictions) if predictions is not None else None


def open_bench(store: ObjectStore, system: System, load: Load, snapshot_key: str) -> Bench:
    """Read a snapshot's manifest and test cases, with what was known at their moments where it says so; verify them.

    Where a system is judged by impressions, its cases are bundles of those; where it learns from examples, they have
    in them what is to be known.

    Raises:
        NotFoundError: There is no such snapshot.
        IntegrityError: The cases are not those of the manifest.
        BadInputError: The manifest or the cases cannot be read, or are another system's.
    """
    try:
        snapshot = SnapshotManifest.model_validate_json(store.read(f"{snapshot_key}manifest.json").body)
    except ValidationError as error:
        raise BadInputError(f"{snapshot_key}manifest.json is no snapshot's manifest; make the snapshot anew") from error
    if snapshot.system != system.spec.name:
        raise BadInputError(f"{snapshot_key} is a snapshot of {snapshot.system}, not of {system.spec.name}")
    if not snapshot_key.endswith(f"/{snapshot.snapshot_id}/"):
        raise IntegrityError(f"{snapshot_key} holds the manifest of snapshot {snapshot.snapshot_id}")
    if system.examples is not None:
        body = _verified(store, snapshot, snapshot_key, CASES_FILE)
        return Bench(system, load, snapshot, read_cases(body, system.examples.most_cases))
    shown: list[Case] = []
    if system.outcomes is not None and any(entry.path == SHOWN_FILE for entry in snapshot.files):
        body = _verified(store, snapshot, snapshot_key, SHOWN_FILE)
        shown = with_values(read_cases(body, system.outcomes.most_judged))
        shown = rare_as_other(shown, system.spec.gate.minimum_slice_cases * BUNDLE)
    if system.outcomes is not None and system.outcomes.judged:
        if not shown:
            raise BadInputError(
                f"{snapshot_key} has no {SHOWN_FILE} to judge {system.spec.name} by; take a new snapshot"
            )
        return Bench(system, load, snapshot, bundled(shown), shown)
    cases = read_cases(_verified(store, snapshot, snapshot_key, CASES_FILE))
    if snapshot.known_features and system.counting is not None:
        items = ItemsAsOf(system.counting, _verified(store, snapshot, snapshot_key, ITEMS_FILE))
        users = read_users(_verified(store, snapshot, snapshot_key, USERS_FILE))
        cases = with_knowledge(cases, system.counting, users, items)
    return Bench(system, load, snapshot, cases, shown)


def _verified(store: ObjectStore, snapshot: SnapshotManifest, snapshot_key: str, name: str) -> bytes:
    body = store.read(snapshot_key + name).body
    promised = {entry.path: entry.sha256 for entry in snapshot.files}.get(name)
    if promised != hashlib.sha256(body).hexdigest():
        raise IntegrityError(f"{snapshot_key}{name} is not the file of the manifest; make the snapshot anew")
    return body


def judge_result(
    result: RungResult, bench: Bench, store: ObjectStore, registry: Registry
) -> tuple[Candidate, ReleaseManifest] | FailedRung:
    """Measure what one rung's job left, and register its components; a rung that cannot be measured has failed.

    Raises:
        UnavailableError: The store did not answer; that is no fault of the rung.
    """
    rung = {entry.name: entry for entry in bench.system.spec.rungs}.get(result.rung)
    if rung is None:
        return FailedRung(result.rung, "it is not on the system's ladder")
    if result.status == "Failed" or result.model_key is None:
        return FailedRung(result.rung, _short(result.reason or "the job left no model"))
    try:
        artefact = read_artefact(store.read(result.model_key).body)
        _check_origin(artefact, rung, bench.snapshot)
        components = bench.complete(artefact.components)
        scores, foretold = bench.scores(components)
        versions = {name: registry.register_component(name, files) for name, files in components.items()}
    except UnavailableError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken model can break any code it reaches, and must sink only itself
        return FailedRung(result.rung, told(error))
    draft = registry.draft_release(
        rung=rung.name,
        snapshot_id=bench.snapshot.snapshot_id,
        schema_hash=artefact.schema_hash,
        components=versions,
    )
    seconds = artefact.trained_seconds if result.seconds is None else result.seconds
    return Candidate(rung, draft.version, scores, artefact.size_mb, seconds, artefact.parity, foretold), draft


def carried_files(system: System, registry: Registry, champion: str | None) -> dict[str, dict[str, bytes]]:
    """Return what people wrote beside the champion's components, as `System.carried` names it.

    Raises:
        IntegrityError, NotFoundError: The champion cannot be read: a candidate would serve without what was written.
        UnavailableError: The store did not answer.
    """
    if champion is None or not system.carried:
        return {}
    served = registry.read_release(champion)
    return {
        component: {name: served[component][name] for name in names if name in served[component]}
        for component, names in system.carried.items()
        if component in served
    }


def judge_champion(bench: Bench, registry: Registry, version: str) -> tuple[Champion | None, list[str]]:
    """Measure what serves now on the same cases; None, with a note that says why, where it cannot serve them.

    Raises:
        UnavailableError: The store did not answer.
    """
    notes = []
    try:
        manifest = registry.release(version)
        components = registry.read_release(version)
        if any(m.schema_hash != _schema(bench.snapshot, m) for m in check_components(components).manifests.values()):
            notes.append(f"The champion {version} was trained on another feature schema than this snapshot's.")
        scores, foretold = bench.scores(components)
    except UnavailableError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever keeps the champion from serving, it must be told and replaced
        notes.append(f"The champion {version} cannot serve these cases and counts as absent: {told(error)}")
        return None, notes
    return Champion(manifest.rung, version, scores, served_mb(components), foretold), notes


def told(error: Exception) -> str:
    """Return an error in words; one that is not ours with its class, because its text alone may say nothing."""
    ours = isinstance(error, BadInputError | IntegrityError | NotFoundError)
    return _short(str(error) if ours else f"{type(error).__name__}: {error}")


def _check_origin(artefact: Artefact, rung: Rung, snapshot: SnapshotManifest) -> None:
    manifest = artefact.any_manifest
    for what, found, wanted in (
        ("system", manifest.system, snapshot.system),
        ("rung", manifest.rung, rung.name),
        ("snapshot", manifest.snapshot_id, snapshot.snapshot_id),
        *(("feature schema", m.schema_hash, _schema(snapshot, m)) for m in artefact.manifests.values()),
    ):
        if found != wanted:
            raise IntegrityError(f"the model was trained for the {what} {found}, not {wanted}")


def _schema(snapshot: SnapshotManifest, manifest: ComponentManifest) -> str:
    """Return the schema that a model asked with these features has, by the snapshot's definitions."""
    features = (*snapshot.features, *snapshot.known_features)
    names = (*manifest.context_names, *manifest.known_names)
    known = {feature.name for feature in features}
    missing = [name for name in names if name not in known]
    return f"without {missing[0]}" if missing else schema_hash(chosen(features, names), manifest.hashed)


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _LONGEST_REASON else plain[: _LONGEST_REASON - 3] + "..."
