"""Labelled rows in groups of which each was one list, and what every ranker of such lists ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from onnx import TensorProto

from twinloop.contracts.signature import FEATURES, RANKING, SCORES
from twinloop.evaluation.ranking import ndcg_at_k
from twinloop.training.artefact import Component, LearntFrom, prove_parity, session, write_component
from twinloop.training.config import JobConfig
from twinloop.training.events import Floats32, Ints
from twinloop.training.graphs import Graph
from twinloop.training.job import Job

_MOST_PROVED = 2_000


@dataclass(frozen=True)
class Groups:
    """Rows of lists, list after list.

    Attributes:
        features: float32[N, F]; NaN is unknown.
        labels: float32[N], 0 or 1.
        places: float32[N], log(1 + the place in the list at which a row was seen, from 0). It is known to training
            alone; whoever is asked is asked as of the first place, 0.
        sizes: int64[G], rows of each list.
    """

    features: Floats32
    labels: Floats32
    places: Floats32
    sizes: Ints

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, features: Floats32, labels: Floats32, positions: Floats32, group_ids: Sequence[str]) -> Groups:
        """Return rows that lie together by their group's id."""
        changes = [n for n, (a, b) in enumerate(pairwise(group_ids), 1) if a != b]
        bounds = np.array([0, *changes, len(group_ids)], np.int64)
        return cls(features, labels, np.log1p(positions).astype(np.float32), np.diff(bounds))

    @staticmethod
    def join(first: Groups, second: Groups) -> Groups:
        """Return the rows of both."""
        pairs = ((getattr(first, name), getattr(second, name)) for name in ("features", "labels", "places", "sizes"))
        return Groups(*(np.concatenate(pair) for pair in pairs))

    def placed(self) -> Floats32:
        """Return float32[N, F + 1]: the features, and last where each row was seen."""
        return np.concatenate([self.features, self.places[:, None]], axis=1)

    def ndcg(self, scores: Floats32) -> float:
        """Return the mean NDCG@10 of the lists that tell anything; NaN where none does."""
        found, begin = [], 0
        for size in self.sizes.tolist():
            rows = slice(begin, begin + size)
            relevant = set(np.flatnonzero(self.labels[rows]).tolist())
            if 0 < len(relevant) < size:
                found.append(ndcg_at_k(np.argsort(-scores[rows], kind="stable").tolist(), relevant, 10))
            begin += size
        return float(np.mean(found)) if found else float("nan")


class RowScorer(Protocol):
    """What was fitted: scores of rows as if all were seen at the first place."""

    def scores(self, features: Floats32) -> Floats32:
        """Return float32[N] of float32[N, F]."""
        ...

    def add(self, g: Graph) -> str:
        """Add it to a graph that has the input `features`; returns float32[K]."""
        ...


def ranking_graph(model: RowScorer, columns: int) -> bytes:
    """Return the component `ranking`: `features` float32[K, columns] -> `scores` float32[K]."""
    g = Graph(RANKING)
    g.input(FEATURES, TensorProto.FLOAT, ["K", columns])
    g.output(model.add(g), SCORES, TensorProto.FLOAT, ["K"])
    return g.serialise()


def choose(
    candidates: Sequence[Callable[[], RowScorer]], held_out: Groups, say: Callable[[str], None]
) -> tuple[int, float]:
    """Return which candidate ranks rows that it has not learnt from best, and its NDCG@10; the first where none tells.

    Earlier ones win ties, so put the simpler ones first.
    """
    best, highest = 0, float("nan")
    for place, fit in enumerate(candidates):
        found = held_out.ndcg(fit().scores(held_out.features)) if len(held_out) else float("nan")
        say(f"candidate {place + 1} of {len(candidates)}: NDCG@10 {found:.4f} on validation")
        if not np.isnan(found) and not found <= highest:
            best, highest = place, found
    return best, highest


def write_ranking(
    job: Job,
    snapshot: LearntFrom,
    config: JobConfig,
    model: RowScorer,
    rows: Groups,
    *,
    framework: str,
    names: Sequence[str],
    ndcg: float,
    more: dict[str, float] | None = None,
) -> None:
    """Export a model as the component `ranking`, prove it, and write it.

    Args:
        job: Whose folder it goes to.
        snapshot: What it was learnt from.
        config: The hyperparameters.
        model: Which was fitted.
        rows: To prove parity on.
        framework: What fitted it.
        names: The columns.
        ndcg: On validation, of a model that had not seen it; NaN where nothing could be said.
        more: Metrics beside it.
    """
    exported = ranking_graph(model, len(names))
    features = rows.features[:_MOST_PROVED]
    said = session(exported).run([SCORES], {FEATURES: features})[0] if len(features) else np.zeros(0, np.float32)
    parity = prove_parity([(said, model.scores(features))])
    metrics = {"train_lists": float(len(rows.sizes)), **({} if np.isnan(ndcg) else {"ndcg@10": ndcg}), **(more or {})}
    write_component(
        job, snapshot, config, Component(RANKING, framework, exported, parity, metrics, feature_names=tuple(names))
    )
