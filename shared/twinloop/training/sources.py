"""Candidate sources that are linear in a user's history, and the features that a ranker sees of their scores.

Everything a request needs is one ONNX graph: history -> scores of every source -> the best candidates of a blend ->
features of each candidate, and beside them what is known of the user. Training asks the same graph for its rows.
What the graph should answer is written down once more in `sources_reference.py`, in numpy; a job compares the two.
Matrices are kept in half precision; the graph computes in single.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from onnx import TensorProto

from twinloop.contracts.signature import CANDIDATES, CONTEXT, FEATURES
from twinloop.errors import BadInputError
from twinloop.training.events import Events, Floats32
from twinloop.training.graphs import Graph, excluded, retrieval_graph, top
from twinloop.training.linear import ease

MAX_ITEMS = 4_500  # four item x item matrices in half precision stay under 200 MB
_PERIODS = 40  # of equal event counts, for popularity over time
_DAY_S = 86_400.0
FLAT = 1e-3  # a source whose spread is this small a part of its greatest value says nothing: it may be rounding alone
LOWEST_BLEND = -1e6
_HALF_RANGE = 2.0**15  # values in half precision end at 65,504
BLEND = ("ease_400@.9", "factors@.9", "next@.7", "cosine@.9")
AS_IS = ("popularity", "trend", "trend_lift")  # sources whose plain values are columns too
# Scores whose order among the candidates says nothing that their value does not.
UNRANKED = frozenset({"popularity", "trend", "trend_sharp", "trend_lift", "popularity_gap", "age"})


@dataclass(frozen=True)
class Sources:
    """What is fitted of the events. n items, all float32 unless said.

    Attributes:
        ease_400, ease_100: EASE weights by ridge penalty, [n, n].
        together: How many users liked both, [n, n], zero diagonal.
        follows: How often the column's item came soon after the row's, [n, n].
        factors: Item factors of a truncated SVD, [n, k]: scores are (history @ factors) @ factors.T (PureSVD).
        counts: Positive events, [n].
        trend, trend_sharp: Log share of each item in each period, smoothed over neighbouring periods, [periods, n].
        edges: First second of each period, float64 [periods].
        first_seen: When each item was first liked, seconds, float64 [n].
        tags: Tags of each item, rows of length one, [n, t].
    """

    ease_400: Floats32
    ease_100: Floats32
    together: Floats32
    follows: Floats32
    factors: Floats32
    counts: Floats32
    trend: Floats32
    trend_sharp: Floats32
    edges: NDArray[np.float64]
    first_seen: NDArray[np.float64]
    tags: Floats32


def fit_sources(events: Events, tags: tuple[tuple[str, ...], ...], *, factors: int = 50) -> Sources:
    """Fit every source on the events; raises BadInputError where the catalogue is over MAX_ITEMS."""
    if events.n_items > MAX_ITEMS:
        raise BadInputError(
            f"the catalogue has {events.n_items} items with positive events; this ranker's item x item sources take up "
            f"to {MAX_ITEMS}. Use two_tower, or load a narrower catalogue"
        )
    matrix = events.matrix().astype(np.float64)
    gram = np.asarray((matrix.T @ matrix).todense())
    together = gram.astype(np.float32)
    np.fill_diagonal(together, 0)
    seconds = events.times / 1000.0
    edges = np.quantile(seconds, np.linspace(0, 1, _PERIODS + 1))[:-1]
    period = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, _PERIODS - 1)
    per_period = np.zeros((_PERIODS, events.n_items))
    np.add.at(per_period, (period, events.items), 1)
    first_seen = np.full(events.n_items, seconds.max())
    np.minimum.at(first_seen, events.items, seconds)
    return Sources(
        ease_400=ease(events, 400.0),
        ease_100=ease(events, 100.0),
        together=together,
        follows=_follows(events),
        factors=_factors(gram, factors),
        counts=events.counts().astype(np.float32),
        trend=_smoothed(per_period, width=2.0),
        trend_sharp=_smoothed(per_period, width=0.6),
        edges=edges,
        first_seen=first_seen,
        tags=_tags(tags),
    )


def _follows(events: Events, reach: int = 5, decay: float = 0.8) -> Floats32:
    """Count successions up to `reach` steps apart; a step further weighs `decay` as much."""
    matrix = sp.csr_matrix((events.n_items, events.n_items), dtype=np.float64)
    for step in range(1, reach + 1):
        same = events.users[:-step] == events.users[step:]
        pairs = (events.items[:-step][same], events.items[step:][same])
        weights = np.full(int(same.sum()), decay ** (step - 1))
        matrix = matrix + sp.csr_matrix((weights, pairs), shape=matrix.shape)
    return np.asarray(matrix.todense(), dtype=np.float32)


def _factors(gram: NDArray[np.float64], count: int) -> Floats32:
    """Return the right singular vectors of the events' matrix, from its Gram matrix.

    Not by ARPACK: where users are few the matrix has less rank than is asked for, and it fills up with random vectors.
    """
    first = max(len(gram) - count, 0)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(first, len(gram) - 1), check_finite=False)
    return np.asarray(vectors[:, values > 1e-9 * values.max()], dtype=np.float32)


def _smoothed(per_period: NDArray[np.float64], width: float) -> Floats32:
    steps = np.arange(len(per_period))
    kernel = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / width) ** 2)
    mass = kernel @ per_period
    total = np.maximum(
        mass.sum(axis=1, keepdims=True), 1e-300
    )  # few events can be too far from a period to count there
    return np.asarray(np.log(mass / total + 1e-6), dtype=np.float32)


def _tags(tags: tuple[tuple[str, ...], ...]) -> Floats32:
    names = {name: place for place, name in enumerate(sorted({tag for of_item in tags for tag in of_item}))}
    found = np.zeros((len(tags), max(len(names), 1)), dtype=np.float32)
    for item, of_item in enumerate(tags):
        found[item, [names[tag] for tag in of_item]] = 1
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(lengths, 1e-9), dtype=np.float32)


def half_scale(matrix: Floats32) -> np.float32:
    """Return the power of two to divide a matrix by, so that half precision holds it; 1 for all but great counts.

    Raises BadInputError for values that are not finite numbers.
    """
    greatest = max(float(matrix.max(initial=0)), -float(matrix.min(initial=0)))
    if not np.isfinite(greatest):
        raise BadInputError("a source of the tree ranker has values that are not finite numbers")
    return np.float32(2.0 ** max(np.ceil(np.log2(max(greatest, 1.0) / _HALF_RANGE)), 0.0))


def retrieval_with_features(s: Sources, context: Sequence[str] = ()) -> tuple[bytes, tuple[str, ...]]:
    """Return the retrieval model (`items`, `scores`, `features`) and the names of the feature columns.

    Args:
        s: The fitted sources.
        context: Names of the user's features that are asked with; each becomes a column.
    """
    g = retrieval_graph("sources", context=len(context))
    n = len(s.counts)
    log_counts = np.log(s.counts + 1)
    recent = _Recent(g, n)
    scores: dict[str, str] = {}  # source -> the value in the graph that holds its scores, [1, n]

    ease_400 = recent.rows(s.ease_400)
    for decay in (0.97, 0.9, 0.7):
        scores[f"ease_400@{decay:g}".replace("0.", ".")] = recent.sum(ease_400, decay)
    scores["ease_400_last5"] = recent.sum_of_last(ease_400, 5)
    scores["ease_100@1"] = recent.sum(recent.rows(s.ease_100), 1.0)
    # Cosine scales the co-occurrences by both items' counts: the history's side before the sum, the other after it.
    root = np.sqrt(s.counts)
    together = recent.rows(s.together)
    cosine = g.op("Mul", together, recent.of_history(1 / (root + 1e-9)))
    other = g.constant(1 / (root + 1))
    for decay in (1.0, 0.9, 0.7):
        scores[f"cosine@{decay:g}".replace("0.", ".")] = g.op("Mul", recent.sum(cosine, decay), other)
    scores["cosine_max10"] = g.op("Mul", recent.max_of_last(cosine, 10), other)
    scores["cosine_max3"] = g.op("Mul", recent.max_of_last(cosine, 3), other)
    scores["cosine_last10"] = g.op("Mul", recent.sum_of_last(cosine, 10), other)
    share = g.op("Mul", together, recent.of_history(1 / (s.counts + 20)))
    scores["together@.9"] = recent.sum(share, 0.9)
    follows = g.op("Mul", recent.rows(s.follows), recent.of_history(1 / (s.follows.sum(axis=1) + 10)))
    scores["next@.7"] = recent.sum(follows, 0.7)
    scores["next@.3"] = recent.sum(follows, 0.3)
    scores["next_rare@.7"] = g.op("Mul", scores["next@.7"], g.constant(1 / np.sqrt(s.counts + 10)))
    factors = g.constant(s.factors)
    turned = g.op("Transpose", factors, perm=[1, 0])
    for decay in (1.0, 0.9):
        user = recent.sum(g.op("Gather", factors, "history", axis=0), decay)
        scores[f"factors@{decay:g}".replace("0.", ".")] = g.op("MatMul", user, turned)
    tags = g.constant(s.tags)
    profile = recent.sum(g.op("Gather", tags, "history", axis=0), 0.9)
    scores["tags@.9"] = g.op("MatMul", profile, g.op("Transpose", tags, perm=[1, 0]))
    period = recent.period(s.edges)
    scores["trend"] = g.op("Gather", g.constant(s.trend), period, axis=0)
    scores["trend_sharp"] = g.op("Gather", g.constant(s.trend_sharp), period, axis=0)
    scores["popularity"] = g.constant(log_counts[None, :])
    lift = g.constant(np.log((s.counts + 1) / max(s.counts.sum(), 1.0))[None, :])
    scores["trend_lift"] = g.op("Sub", scores["trend"], lift)
    usual = recent.mean_of_last(g.op("Gather", g.constant(log_counts[:, None]), "history", axis=0), 10)
    scores["popularity_gap"] = g.op("Sub", scores["popularity"], usual)
    scores["age"] = recent.age_in_log_days(s.first_seen)
    return _candidates(g, scores, n, recent.length(), context)


class _Recent:
    """Sums over the history: oldest first, so that an event's age is counted from the end."""

    def __init__(self, g: Graph, n_items: int) -> None:
        self._g, self._n = g, n_items
        self._count = g.op("Squeeze", g.op("Shape", "history"))
        steps = g.op("Sub", self._count, g.constant(1))
        ages = g.op("Sub", steps, g.op("Range", g.constant(0), self._count, g.constant(1)))
        self._ages = g.op("Cast", ages, to=TensorProto.FLOAT)
        self._weights: dict[float, str] = {}

    def rows(self, matrix: Floats32) -> str:
        """The history's rows of a matrix kept in half precision: float32 [H, n]."""
        scale = half_scale(matrix)
        half = self._g.constant((matrix / scale).astype(np.float16))
        rows = self._g.op("Gather", half, "history", axis=0)
        rows = self._g.op("Cast", rows, to=TensorProto.FLOAT)
        return rows if scale == 1 else self._g.op("Mul", rows, self._g.constant(float(scale)))

    def of_history(self, values: NDArray[Any]) -> str:
        """One value for each event of the history: [H, 1]."""
        return self._g.op("Gather", self._g.constant(values[:, None], np.float32), "history", axis=0)

    def sum(self, rows: str, decay: float) -> str:
        """[1, n]: the latest event weighs 1, the one before it `decay`, and so on."""
        g = self._g
        if decay not in self._weights:
            powers = g.op("Pow", g.constant(decay, np.float32), self._ages)
            self._weights[decay] = g.op("Unsqueeze", powers, g.constant([0]))
        return g.op("MatMul", self._weights[decay], rows)

    def sum_of_last(self, rows: str, count: int) -> str:
        return self._g.op("ReduceSum", self._last(rows, count), self._g.constant([0]), keepdims=1)

    def mean_of_last(self, rows: str, count: int) -> str:
        return self._g.op("ReduceMean", self._last(rows, count), axes=[0], keepdims=1)

    def max_of_last(self, rows: str, count: int) -> str:
        return self._g.op("ReduceMax", self._last(rows, count), axes=[0], keepdims=1)

    def _last(self, rows: str, count: int) -> str:
        g = self._g
        return g.op("Slice", rows, g.constant([-count]), g.constant([np.iinfo(np.int64).max]), g.constant([0]))

    def _now(self) -> str:
        """The moment of the latest event, float64 seconds [1]."""
        g = self._g
        last = g.op("Slice", "times", g.constant([-1]), g.constant([np.iinfo(np.int64).max]), g.constant([0]))
        return g.op("Cast", last, to=TensorProto.DOUBLE)

    def period(self, edges: NDArray[np.float64]) -> str:
        """Which period the latest event lies in, int64 [1]; before the first edge counts as the first."""
        g = self._g
        later = g.op("Cast", g.op("GreaterOrEqual", self._now(), g.exact(edges)), to=TensorProto.INT64)
        passed = g.op("ReduceSum", later, g.constant([0]), keepdims=1)
        return g.op("Max", g.op("Sub", passed, g.constant([1])), g.constant([0]))

    def age_in_log_days(self, first_seen: NDArray[np.float64]) -> str:
        """log(1 + days) from when an item was first liked until the latest event, 0 for later ones: [1, n]."""
        g = self._g
        days = g.op("Div", g.op("Sub", self._now(), g.exact(first_seen[None, :])), g.exact(np.asarray(_DAY_S)))
        past = g.op("Max", days, g.exact(np.asarray(0.0)))
        # In double precision to the end: one second more than a day's length would be lost in 1 + days.
        return g.op("Cast", g.op("Log", g.op("Add", past, g.exact(np.asarray(1.0)))), to=TensorProto.FLOAT)

    def length(self) -> str:
        """log(1 + events): [1]."""
        g = self._g
        count = g.op("Cast", g.op("Unsqueeze", self._count, g.constant([0])), to=TensorProto.FLOAT)
        return g.op("Log", g.op("Add", count, g.constant(1.0)))


def _candidates(
    g: Graph, named: dict[str, str], n: int, length: str, context: Sequence[str]
) -> tuple[bytes, tuple[str, ...]]:
    """Standardise every source over the catalogue, blend, take the best, and describe each of them."""
    k, names = min(CANDIDATES, n), list(named)
    table = g.op("Concat", *named.values(), axis=0)  # [S, n]
    centred = g.op("Sub", table, g.op("ReduceMean", table, axes=[1], keepdims=1))
    spread = g.op("Sqrt", g.op("ReduceMean", g.op("Mul", centred, centred), axes=[1], keepdims=1))
    greatest = g.op("ReduceMax", g.op("Abs", table), axes=[1], keepdims=1)
    flat = g.op("LessOrEqual", spread, g.op("Mul", greatest, g.constant(FLAT)))
    z = g.op("Where", flat, g.constant(0.0), g.op("Div", centred, g.op("Add", spread, g.constant(1e-9))))
    blended = g.op("Gather", z, g.constant([names.index(name) for name in BLEND]), axis=0)
    blend = g.op("ReduceSum", blended, g.constant([0]), keepdims=0)
    best, items = top(g, excluded(g, blend, n), n)

    standard = g.op("Gather", z, items, axis=1)  # [S, K]
    raw = g.op("Gather", table, items, axis=1)
    ranked = [i for i, name in enumerate(names) if name not in UNRANKED]
    among = g.op("Gather", standard, g.constant(ranked), axis=0)  # [R, K]
    order = g.ops("TopK", among, g.constant([k]), axis=1, outputs=2)[1]
    place = g.constant(np.tile(np.arange(k, dtype=np.float32), (len(ranked), 1)))
    ranks = g.op("ScatterElements", g.constant(np.zeros((len(ranked), k), np.float32)), order, place, axis=1)
    as_is = [names.index(name) for name in AS_IS]
    wide = g.op("Expand", g.op("Unsqueeze", length, g.constant([0])), g.constant([1, k]))
    # Items that may not be returned can stand among the last; their blend is -inf, which no tree was fitted on.
    finite = g.op("Unsqueeze", g.op("Max", best, g.constant(LOWEST_BLEND)), g.constant([0]))
    parts = [standard, ranks, g.op("Gather", raw, g.constant(as_is), axis=0), finite]
    parts += [g.constant(np.arange(k, dtype=np.float32)[None, :]), wide]
    columns = [f"{name} z" for name in names] + [f"{names[i]} rank" for i in ranked] + [names[i] for i in as_is]
    columns += ["blend", "blend rank", "history length"]
    if context:  # the same for every candidate: trees learn by it when to trust which source
        parts.append(g.op("Expand", g.op("Unsqueeze", CONTEXT, g.constant([1])), g.constant([1, k])))
        columns += context
    features = g.op("Transpose", g.op("Concat", *parts, axis=0), perm=[1, 0])
    g.output(features, FEATURES, TensorProto.FLOAT, [k, len(columns)])
    return g.serialise(), tuple(columns)
