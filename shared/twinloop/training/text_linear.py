"""Logistic regression of labels on hashed n-grams, weighted by how rare they are and scaled to length one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.optimize import minimize

from twinloop.contracts.signature import IDS
from twinloop.contracts.text import TextInputs
from twinloop.text.ngrams import Counted, padded
from twinloop.training.graphs import Graph
from twinloop.training.texts import Floats, as_matrix

COUNTS = "counts"
_LEAST = 1e-6  # of a row's length, so that a text without an n-gram divides by something

Inputs = dict[str, NDArray[Any]]


def rarity(matrix: sp.csr_matrix) -> Floats:
    """Return float64[buckets]: 1 + log((1 + N) / (1 + n)), n of N texts having it; 0 of what no text has."""
    n = np.bincount(matrix.indices[matrix.data > 0], minlength=matrix.shape[1])
    return np.where(n > 0, 1 + np.log((1 + matrix.shape[0]) / (1 + n)), 0.0)


def weighted(matrix: sp.csr_matrix, idf: Floats) -> sp.csr_matrix:
    """Return (1 + log count) x idf, each row divided by its Euclidean length."""
    made = matrix.copy()
    made.data = np.where(made.data > 0, 1 + np.log(np.maximum(made.data, 1)), 0.0) * idf[made.indices]
    length = np.sqrt(np.asarray(made.multiply(made).sum(1)).ravel())
    return sp.diags(1 / np.maximum(length, _LEAST)) @ made


def fit_label(
    matrix: sp.csr_matrix, target: Floats, *, strength: float, counts: Floats | None = None
) -> tuple[Floats, float]:
    """Return weights and bias of the least log loss of soft targets, the weights squared over 2 x strength added.

    Targets are shares; rows whose target is NaN teach nothing. A row is worth as many as `counts` float64[N] says.
    """
    told = ~np.isnan(target)
    rows, wanted = matrix[told], target[told]
    worth = np.ones(len(wanted)) if counts is None else counts[told]

    def loss(x: Floats) -> tuple[float, Floats]:
        z = rows @ x[:-1] + x[-1]
        value = (worth * (np.logaddexp(0, z) - wanted * z)).sum() + 0.5 / strength * (x[:-1] ** 2).sum()
        off = worth * (1 / (1 + np.exp(-np.clip(z, -60, 60))) - wanted)
        return float(value), np.append(rows.T @ off + x[:-1] / strength, off.sum())

    start = np.zeros(matrix.shape[1] + 1)
    mean = float(np.clip(wanted.mean() if len(wanted) else 0.5, 1e-4, 1 - 1e-4))
    start[-1] = np.log(mean / (1 - mean))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    return found[:-1], float(found[-1])


@dataclass(frozen=True)
class LinearModel:
    """Weights float64[buckets, L] of rows that are weighted by rarity, and biases float64[L].

    A text's log-odds are sum(tf x idf x weights) / |tf x idf| + bias.
    """

    inputs: TextInputs
    idf: Floats
    weights: Floats
    bias: Floats

    def log_odds(self, rows: list[Counted]) -> Floats:
        """Return float64[N, L]."""
        made = weighted(as_matrix(rows, self.inputs.buckets), self.idf)
        return np.asarray(made @ self.weights + self.bias)

    def add(self, g: Graph) -> str:
        """Add it to a graph with the inputs `ids` and `counts`; returns the log-odds, float32[K, L]."""
        ids, counts = text_inputs(g)
        one = g.constant(1, np.float32)
        seen = g.op("Cast", g.op("Greater", counts, g.constant(0, np.float32)), to=TensorProto.FLOAT)
        tf = g.op("Mul", seen, g.op("Add", one, g.op("Log", g.op("Max", counts, one))))
        x = g.op("Mul", tf, g.op("Gather", g.constant(self.idf, np.float32), ids))
        length = g.op("Max", g.op("ReduceL2", x, axes=[1], keepdims=1), g.constant(_LEAST, np.float32))
        unit = g.op("Unsqueeze", g.op("Div", x, length), g.constant([1]))  # [K, 1, T]
        each = g.op("Gather", g.constant(self.weights, np.float32), ids)  # [K, T, L]
        return g.op("Add", g.op("Squeeze", g.op("MatMul", unit, each), g.constant([1])), g.constant(self.bias))


def fit_linear(
    inputs: TextInputs,
    rows: Sequence[Counted],
    targets: Floats,
    strength: float,
    counts: Floats | None = None,
    *,
    emphasis: float = 0.0,
) -> LinearModel:
    """Fit every label by itself, on those n-grams that are met; what was never met weighs nothing.

    A row is worth as many as `counts` float64[N] says; what is rare is told by the rows that there are. Weights are
    multiplied by rarity to the power of `emphasis` once they are found: a ridge holds back most what is met seldom.
    """
    matrix = as_matrix(rows, inputs.buckets)
    idf = rarity(matrix)
    met = np.flatnonzero(idf)
    narrow = weighted(matrix, idf)[:, met]
    weights, bias = np.zeros((inputs.buckets, targets.shape[1])), np.zeros(targets.shape[1])
    for label in range(targets.shape[1]):
        found, bias[label] = fit_label(narrow, targets[:, label], strength=strength, counts=counts)
        weights[met, label] = found * idf[met] ** emphasis
    return LinearModel(inputs, idf, weights, bias)


@dataclass(frozen=True)
class LexiconModel:
    """Log-odds of a text that has a word of a list, and of one that has none: float64[L] each.

    `listed`: bool[buckets, L]: which words' ids are on the list of which label.
    """

    inputs: TextInputs
    listed: NDArray[np.bool_]
    without: Floats
    with_: Floats

    def log_odds(self, rows: list[Counted]) -> Floats:
        """Return float64[N, L]."""
        hits = as_matrix(rows, self.inputs.buckets) @ self.listed.astype(np.float64)
        return np.where(hits > 0, self.with_, self.without)

    def add(self, g: Graph) -> str:
        """Add it to a graph with the inputs `ids` and `counts`; returns the log-odds, float32[K, L]."""
        ids, counts = text_inputs(g)
        on = g.op("Gather", g.constant(self.listed.astype(np.float32)), ids)  # [K, T, L]
        hits = g.op("MatMul", g.op("Unsqueeze", counts, g.constant([1])), on)  # [K, 1, L]
        any_ = g.op("Greater", g.op("Squeeze", hits, g.constant([1])), g.constant(0, np.float32))
        return g.op("Where", any_, g.constant(self.with_), g.constant(self.without))


def text_inputs(g: Graph) -> tuple[str, str]:
    """Add the inputs `ids` int64[K, T] and `counts` float32[K, T]; 0 of an id is nothing."""
    return g.input(IDS, TensorProto.INT64, ["K", "T"]), g.input(COUNTS, TensorProto.FLOAT, ["K", "T"])


def told(rows: list[Counted]) -> Inputs:
    """Return the inputs of a graph of n-grams."""
    made = padded(rows)
    return {IDS: made.ids, COUNTS: made.counts}
