"""Which rungs of a ladder are trained on a snapshot, and what the learn state machine is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.spec import Rung
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.features.snapshot import snapshot_key


def chosen_rungs(system: System, names: Sequence[str] | None) -> tuple[Rung, ...]:
    """Return the rungs of these names with the trivial baseline, which everybody is compared with; all for None.

    Raises BadInputError for a name that is not on the ladder.
    """
    ladder = system.spec.rungs
    if names is None:
        return ladder
    known = {rung.name for rung in ladder}
    if isinstance(names, str) or not set(names) <= known:
        raise BadInputError(f"rungs of {system.spec.name} are {', '.join(sorted(known))}, not {names}")
    trivial = min(rung.complexity for rung in ladder)
    return tuple(rung for rung in ladder if rung.name in names or rung.complexity == trivial)


@dataclass(frozen=True)
class GoingOn:
    """What learning goes on from: the champion's rung, and the prefix of its files."""

    rung: str
    key: str


def going_on(rungs: Sequence[Rung], rung: str, key: str) -> GoingOn:
    """Return what learning goes on from; raises BadInputError where none of the rungs can go on from it."""
    able = [entry.name for entry in rungs if entry.continues]
    if rung not in able:
        raise BadInputError(
            f"the champion is {rung}, and {', '.join(able) or 'no rung'} can go on, each from its own; learn from "
            "everything instead"
        )
    return GoingOn(rung, key)


def snapshot_answer(
    system: System,
    manifest: SnapshotManifest,
    rungs: Sequence[Rung],
    *,
    named: Sequence[str] = (),
    champion: GoingOn | None = None,
) -> dict[str, Any]:
    """Return what the learn state machine goes on with: where the snapshot is and which rungs to train on it.

    A rung that needs what the snapshot does not have is among those left out, which the gate tells of with the reason.
    So is one that cannot go on from the champion, where learning is to; but not the trivial baseline.

    Raises:
        BadInputError: A rung that needs what is not there was asked for by name.
    """
    lacking = {rung.name: [what for what in rung.needs if not manifest.rows.get(f"train/{what}")] for rung in rungs}
    reasons = {name: f"the snapshot has no {' and no '.join(missing)}" for name, missing in lacking.items() if missing}
    for name in named:
        if name in reasons:
            raise BadInputError(
                f"{name} cannot be trained: {reasons[name]} to train on; load such events, or ask for other rungs"
            )
    if champion is not None:
        trivial = min(rung.complexity for rung in system.spec.rungs)
        others = [rung.name for rung in rungs if rung.name != champion.rung and rung.complexity != trivial]
        reasons = dict.fromkeys(others, f"learning went on from the champion, which is {champion.rung}") | reasons
    return {
        "system": system.spec.name,
        "snapshot_id": manifest.snapshot_id,
        "snapshot_key": snapshot_key(system.spec.name, manifest.snapshot_id),
        "champion_key": champion.key if champion is not None else "",
        "rungs": [rung.model_dump(mode="json") for rung in rungs if rung.name not in reasons],
        "left_out": [{"rung": name, "reason": f"not trained, as {reason}"} for name, reason in reasons.items()],
        "rows": manifest.rows,
    }
