"""Metrics of a label that is there or not, and of which a probability was said. Ties count as they must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Chances(NamedTuple):
    """What comes of each threshold, from the highest on: a threshold is a probability that was said.

    `at` float64[T], descending; `precision` and `recall` float64[T] of saying yes from there on.
    """

    at: Floats
    precision: Floats
    recall: Floats


def chances_at(truth: Flags, said: Floats) -> Chances:
    """Return what comes of every threshold; `truth` bool[N] with at least one true, `said` float64[N]."""
    order = np.argsort(-said, kind="stable")
    ranked, right = said[order], np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal probabilities are taken together
    return Chances(ranked[last], right[last] / (last + 1), right[last] / right[-1])


def average_precision(truth: Flags, said: Floats) -> float:
    """Return the precision at each threshold, weighted by the recall that it adds."""
    if not truth.any():
        return float("nan")
    _, precision, recall = chances_at(truth, said)
    return float((np.diff(np.append(0.0, recall)) * precision).sum())


def f1(truth: Flags, said: Flags) -> float:
    """Return the harmonic mean of precision and recall; 0 where nothing is right."""
    right = float((truth & said).sum())
    return 2 * right / max(float(truth.sum() + said.sum()), 1.0)


def f1_at(truth: Flags, said: Floats, threshold: float) -> float:
    """Return F1 of saying yes from a threshold on."""
    return f1(truth, said >= threshold)


def macro_f1(truth: Sequence[int] | NDArray[np.int64], said: Sequence[int] | NDArray[np.int64]) -> float:
    """Return the mean of the F1 of each class that is there."""
    truth, said = np.asarray(truth), np.asarray(said)
    return float(np.mean([f1(truth == kind, said == kind) for kind in np.unique(truth)]))
