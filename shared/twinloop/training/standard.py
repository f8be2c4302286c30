"""Features as a linear model or a network hears them: as they are and by their logarithms, standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph

LARGEST = 1e9  # a greater value of a feature counts as this
EDGE = 5.0  # in standard deviations
_MOST = 200_000  # rows that means and spreads are taken of


@dataclass(frozen=True)
class Standard:
    """What is subtracted and multiplied; what is not a number says nothing.

    Attributes:
        mean, scale: float32[2 S]: of the features, then of their logarithms. A scale of 0 is a feature that never
            differed: it has taught nothing, so a new value of it says nothing either.
    """

    mean: Floats32
    scale: Floats32

    @classmethod
    def fit(cls, known: Floats32) -> Standard:
        """Return the constants of float32[N, S], N from 0 up."""
        both = _both(known[:: max(len(known) // _MOST, 1)]).astype(np.float64)
        there = np.isfinite(both)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, both, 0).sum(axis=0) / count
        spread = np.sqrt((np.where(there, both - mean, 0) ** 2).sum(axis=0) / count)
        differs = spread > 1e-6 * (1 + np.abs(mean))
        scale = np.where(differs, 1 / np.maximum(spread, 1e-12), 0)
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def apply(self, known: Floats32) -> Floats32:
        """Return float32[N, 2 S], within EDGE of 0."""
        both = np.clip((_both(known) - self.mean) * self.scale, np.float32(-EDGE), np.float32(EDGE))
        return np.where(np.isnan(both), np.float32(0), both)

    def add(self, g: Graph, known: str) -> str:
        """Add it to a graph; returns float32[K, 2 S]."""
        return standardised(g, known, self.mean, self.scale)


def _both(known: Floats32) -> Floats32:
    plain = np.clip(known, np.float32(-LARGEST), np.float32(LARGEST))
    return np.concatenate([plain, np.sign(plain) * np.log(np.float32(1) + np.abs(plain))], axis=1)


def standardised(g: Graph, known: str, mean: Floats32, scale: Floats32) -> str:
    """Return float32[K, 2 S] of float32[K, S]; see `Standard`."""
    nan = g.op("IsNaN", known)
    # Not every kernel passes NaN through Min and Max, so it is taken out first and counts as nothing at the end.
    zero = g.constant(0.0, np.float32)
    plain = g.op("Where", nan, zero, known)
    plain = g.op("Clip", plain, g.constant(-LARGEST, np.float32), g.constant(LARGEST, np.float32))
    logarithm = g.op("Log", g.op("Add", g.constant(1.0, np.float32), g.op("Abs", plain)))
    both = g.op("Concat", plain, g.op("Mul", g.op("Sign", plain), logarithm), axis=1)
    scaled = g.op("Mul", g.op("Sub", both, g.constant(mean)), g.constant(scale))
    edged = g.op("Clip", scaled, g.constant(-EDGE, np.float32), g.constant(EDGE, np.float32))
    return g.op("Where", g.op("Concat", nan, nan, axis=1), zero, edged)
