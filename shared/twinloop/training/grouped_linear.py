"""Logistic regression of the labels of lists, as a ranker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from twinloop.contracts.signature import FEATURES
from twinloop.errors import BadInputError
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph
from twinloop.training.grouped import Groups
from twinloop.training.standard import Standard

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Log-odds that are linear in the standardised features: logistic regression."""

    standard: Standard
    weights: Floats32
    bias: float

    def scores(self, features: Floats32) -> Floats32:
        """See `RowScorer`."""
        return np.asarray(self.standard.apply(features) @ self.weights + np.float32(self.bias), np.float32)

    def add(self, g: Graph) -> str:
        """See `RowScorer`."""
        told = self.standard.add(g, FEATURES)
        said = g.op("MatMul", told, g.constant(self.weights[:, None]))
        flat = g.op("Squeeze", said, g.constant([1]))
        return g.op("Add", flat, g.constant(self.bias, np.float32))


def fit_linear(rows: Groups, l2: float) -> Linear:
    """Fit log-odds = weights . features + a weight x place + bias, by L-BFGS on the mean log loss + l2 |weights|^2.

    What a place costs is learnt beside the rest and left out of what is returned: p(yes) is then that of a row that is
    looked at first. (It is exact where the place multiplies the odds, and near it where it multiplies a small chance.)

    Raises BadInputError where all labels are the same.
    """
    if not 0 < rows.labels.sum() < len(rows):
        raise BadInputError("all examples have the same label: there is nothing to learn; load more data")
    standard = Standard.fit(rows.features)
    told = np.concatenate([standard.apply(rows.features), rows.places[:, None]], axis=1)
    labels = rows.labels.astype(np.float32)

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = (told @ weights[:-1].astype(np.float32)).astype(np.float64) + weights[-1]
        chance = 1 / (1 + np.exp(-np.clip(logits, -40, 40)))
        value = float(np.mean(np.logaddexp(0, logits) - labels * logits)) + l2 * float(weights[:-1] @ weights[:-1])
        error = ((chance - labels) / len(labels)).astype(np.float32)
        gradient = np.append((error @ told).astype(np.float64) + 2 * l2 * weights[:-1], error.sum(dtype=np.float64))
        return value, gradient

    begin = np.zeros(told.shape[1] + 1)
    rate = float(labels.mean(dtype=np.float64))
    begin[-1] = np.log(rate / (1 - rate))
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return Linear(standard, found[:-2].astype(np.float32), float(found[-1]))
