"""What suggestions' jobs have in common: examples as lists of the model's columns, and the assets beside a model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.contracts.signature import RANKING
from twinloop.features import geography as geo
from twinloop.systems.suggestions import catalogue, tastes, tastes_fit
from twinloop.systems.suggestions.columns import FEATURES, Floats, matrix
from twinloop.systems.suggestions.examples import FROM_SQL, LABEL
from twinloop.systems.suggestions.policy import distance_popularity
from twinloop.systems.suggestions.serve import BASELINE_FILE
from twinloop.training.config import JobConfig
from twinloop.training.events import Floats32
from twinloop.training.examples import ExamplesSnapshot, open_examples
from twinloop.training.grouped import Groups, RowScorer, write_ranking
from twinloop.training.grouped_linear import fit_linear
from twinloop.training.job import Job

DISTANCE_WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
_L2 = 1e-5
_KM, _GOING, _TASTE, _EFFECT = (
    list(FEATURES).index(name) for name in ("distance_km", "going", "taste", "organizer_effect")
)
_OF_TASTES = (
    "topics_shared",
    "topics_share",
    "topic_rsvps",
    "topic_share",
    "taste",
    "organizer_rate",
    "organizer_effect",
)
_OTHER = [place for place, name in enumerate(FEATURES) if name not in _OF_TASTES]


@dataclass(frozen=True)
class Learnt:
    """What jobs learn from: lists of the model's columns, and the tastes that two of these are made of.

    Attributes:
        snapshot: Whose lists they are.
        early: Lists of train, of which a row is told the tastes of other lists.
        held_out: Lists of validation, with the tastes of train.
        everything: Both, each row with the tastes of other lists.
        tastes: Of everything: these serve.
    """

    snapshot: ExamplesSnapshot
    early: Groups
    held_out: Groups
    everything: Groups
    tastes: tastes.Tastes


def read_lists(folder: Path) -> Learnt:
    """Return the lists of the snapshot in a folder; raises BadInputError as `open_examples` does."""
    snapshot = open_examples(folder)
    train, validation = snapshot.read("train"), snapshot.read("validation")
    both = pa.concat_tables([train, validation])
    early, early_groups = _taught(train)
    everything, groups = _taught(both)
    rows = zip(*_topics(validation), strict=True)
    taste = np.concatenate([early.of(liked, [about]) for liked, about in rows] or [np.zeros(0)])
    later = tastes_fit.Told(taste, early.effects(validation["organizer_id"].to_pylist()))
    return Learnt(snapshot, early_groups, _groups(validation, later), groups, everything)


def _taught(table: pa.Table) -> tuple[tastes.Tastes, Groups]:
    """Return tastes learnt from rows, and the rows, each told by other lists.

    What is known of rows beside topics and organisers is said first, by logistic regression: what that explains, such
    as that some organisers' events are near many people, is no taste.
    """
    nothing = np.zeros(len(table))
    plain, yes = _groups(table, tastes_fit.Told(nothing, nothing)), _numbers(table, LABEL)
    offset = nothing
    if 0 < yes.sum() < len(yes):
        other = replace(plain, features=plain.features[:, _OTHER])
        offset = fit_linear(other, _L2).scores(other.features).astype(np.float64)
    found, told = tastes_fit.fit(
        tastes_fit.Answers(
            *_topics(table),
            organizers=table["organizer_id"].to_pylist(),
            yes=yes,
            offset=offset,
            places=plain.places.astype(np.float64),
            lists=np.unique(np.array(table["group_id"].to_pylist(), object), return_inverse=True)[1],
        )
    )
    plain.features[:, _TASTE], plain.features[:, _EFFECT] = told.taste, told.effect
    return found, plain


def _groups(table: pa.Table, told: tastes_fit.Told) -> Groups:
    facts = {name: _numbers(table, name) for name in FROM_SQL}
    facts["offset_min"] = geo.offsets(table["time_zone"].to_pylist(), facts["lon"], facts["starts_ms"])
    facts |= {"taste": told.taste, "organizer_effect": told.effect}
    label, position = (_numbers(table, name).astype(np.float32) for name in (LABEL, "position"))
    return Groups.of(matrix(facts), label, position, table["group_id"].to_pylist())


def _topics(table: pa.Table) -> tuple[list[list[str]], list[list[str]]]:
    return table["liked"].to_pylist(), table["about"].to_pylist()


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(pc.fill_null(table[name].cast(pa.float64()), float("nan")).to_numpy(), np.float64)


def baseline_scores(features: Floats32, weight: float) -> Floats32:
    """Return the trivial baseline's scores of rows of columns."""
    km, going = features[:, _KM].astype(np.float64), features[:, _GOING].astype(np.float64)
    return distance_popularity(going, km, weight).astype(np.float32)


def distance_weight(groups: Groups) -> float:
    """Return what an e-fold of the distance costs the trivial baseline: of some, what ranks lists best."""
    if not len(groups):
        return 1.0
    found = [groups.ndcg(baseline_scores(groups.features, weight)) for weight in DISTANCE_WEIGHTS]
    return 1.0 if np.isnan(found).all() else DISTANCE_WEIGHTS[int(np.nanargmax(found))]


def write_release(
    job: Job,
    config: JobConfig,
    learnt: Learnt,
    model: RowScorer,
    *,
    framework: str,
    ndcg: float,
    more: dict[str, float] | None = None,
) -> None:
    """Write a ranking model, proven on validation where there is any, and the assets beside it.

    `ndcg` and `more` are metrics, as `training.grouped.write_ranking` has them.
    """
    proven = learnt.held_out if len(learnt.held_out) else learnt.early
    names = tuple(FEATURES)
    write_ranking(job, learnt.snapshot, config, model, proven, framework=framework, names=names, ndcg=ndcg, more=more)
    _write_assets(job, learnt)


def _write_assets(job: Job, learnt: Learnt) -> None:
    """Write upcoming events, tastes and the baseline's weight beside the component `ranking`; the same of every rung.

    Of organisers it is known what the latest example says that a job may read: nothing of what the test is of.
    """
    snapshot = learnt.snapshot
    items = snapshot.items().to_pylist()
    since = int(snapshot.manifest.last_event.timestamp() * 1000)
    data = catalogue.pack(items, _records(snapshot), since_ms=since)
    folder = job.model_dir / RANKING
    folder.mkdir(parents=True, exist_ok=True)
    (folder / catalogue.FILE).write_bytes(data)
    (folder / BASELINE_FILE).write_text(
        json.dumps({"distance_weight": distance_weight(learnt.everything)}), encoding="utf-8"
    )
    (folder / tastes.FILE).write_bytes(learnt.tastes.pack())
    job.say(f"{len(catalogue.unpack(data))} upcoming events of {len(items)}")


def _records(snapshot: ExamplesSnapshot) -> dict[str, tuple[float, ...]]:
    """Return of each organiser what its latest example says of it."""
    found: dict[str, tuple[int, tuple[float, ...]]] = {}
    for part in ("train", "validation"):
        table = snapshot.read(part)
        columns = (table[name].to_pylist() for name in ("organizer_id", "time_ms", *catalogue.RECORD))
        for organizer, at, *record in zip(*columns, strict=True):
            if organizer is not None and at >= found.get(organizer, (at, ()))[0]:
                found[organizer] = (at, tuple(record))
    return {organizer: record for organizer, (_, record) in found.items()}
