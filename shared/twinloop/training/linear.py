"""Closed-form models over events: popularity and EASE, and the history's weights that go with them."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from onnx import TensorProto

from twinloop.errors import BadInputError
from twinloop.training.events import Events, Floats32, Ints
from twinloop.training.graphs import aged_weights, excluded, fold_in, retrieval_graph, top

MAX_ITEMS = 7_000  # 196 MB of float32 weights, inside the 200 MB that a release may have


def popularity(events: Events, half_life_days: float = 0.0) -> Floats32:
    """Return each item's share of the positive events, float32[n]; old events count less where a half-life is given."""
    weights = np.ones(len(events))
    if half_life_days and len(events):
        days = (events.times.max() - events.times) / 86_400_000
        weights = np.exp2(-days / half_life_days)
    counts = np.bincount(events.items, weights=weights, minlength=events.n_items)
    return np.asarray(counts / max(counts.sum(), 1e-12), dtype=np.float32)


def ease(events: Events, l2: float) -> Floats32:
    """Return EASE's item x item weights (Steck, 2019, eq. 8), float32[n, n] with a zero diagonal.

    Raises BadInputError where the catalogue is over MAX_ITEMS: the closed form takes n^3 time and n^2 memory.
    """
    check_catalogue(events.n_items)
    matrix = events.matrix()
    gram = np.asarray((matrix.T @ matrix).todense(), dtype=np.float64)
    gram[np.diag_indices_from(gram)] += l2
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights, dtype=np.float32)


def check_catalogue(n_items: int) -> None:
    """Raise BadInputError where an item x item matrix would not fit a release."""
    if n_items > MAX_ITEMS:
        raise BadInputError(
            f"the catalogue has {n_items} items with positive events; item x item models take up to {MAX_ITEMS}. "
            "Use two_tower, whose size grows with the items and not with their square, or load a narrower catalogue"
        )


def popularity_graph(shares: Floats32) -> bytes:
    """Return the retrieval model of popularity: the same list for everybody, less what is excluded."""
    g = retrieval_graph("popularity")
    top(g, excluded(g, g.constant(shares), len(shares)), len(shares))
    return g.serialise()


def ease_graph(weights: Floats32, decay: float, shares: Floats32) -> bytes:
    """Return the retrieval model of EASE; a history of nothing known (-1) gets the popular items.

    Popularity is added at a weight that can only settle what the history leaves open.
    """
    g = retrieval_graph("ease")
    n_items = len(shares)
    known = g.op("ReduceMax", g.op("Cast", "history", to=TensorProto.FLOAT), keepdims=0)
    cold = g.op("Cast", g.op("Less", known, g.constant(0.0)), to=TensorProto.FLOAT)
    scores = g.op("Add", fold_in(g, aged_weights(g, decay), g.constant(weights)), g.op("Mul", cold, g.constant(shares)))
    top(g, excluded(g, scores, n_items), n_items)
    return g.serialise()


def ease_reference(weights: Floats32, decay: float, shares: Floats32, history: Ints) -> Floats32:
    """Compute in numpy what `ease_graph` does, for the proof of parity."""
    known = history[history >= 0]
    if not len(known):
        return shares
    ages = len(history) - 1 - np.flatnonzero(history >= 0)
    return np.asarray(np.power(decay, ages) @ weights[known].astype(np.float64), dtype=np.float32)
