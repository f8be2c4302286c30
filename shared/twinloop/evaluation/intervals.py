"""How sure a mean is: percentile bootstrap intervals (Efron 1979), also of paired differences.

The same seed, number of cases and number of resamples draw the same cases, so two models are compared on the same
resampled worlds and a verdict can be reproduced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinloop.errors import BadInputError
from twinloop.evaluation.digits import PLACES, decimals

_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over cases and the two-sided interval in which it lies with `confidence`."""

    mean: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        n = decimals(self.half, least=PLACES)
        return f"{self.mean:.{n}f} [{self.low:.{n}f}, {self.high:.{n}f}]"

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2


def mean_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 20260101
) -> Interval:
    """Return the mean of per-case values with its interval.

    Args:
        values: One finite number per case, at least one case.
        confidence: Share of resampled means inside the interval.
        resamples: How many worlds are drawn.
        seed: Of the draws.

    Raises:
        BadInputError: No case, or a value that is not finite.
    """
    cases = _checked(values)
    means = _resampled_means(cases, resamples, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(cases.mean()), float(low), float(high), confidence)


def paired_gain(
    candidate: ArrayLike,
    rival: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 20260101,
) -> Interval:
    """Return the mean of `candidate - rival` over the same cases with its interval; raises as `mean_interval`."""
    ours, theirs = _checked(candidate), _checked(rival)
    if ours.shape != theirs.shape:
        raise BadInputError(f"a paired comparison needs the same cases, not {len(ours)} and {len(theirs)}")
    return mean_interval(ours - theirs, confidence=confidence, resamples=resamples, seed=seed)


def ratio_interval(
    above: ArrayLike, below: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 20260101
) -> Interval:
    """Return sum(above) / sum(below) with its interval; resampled worlds in which `below` sums to 0 are left out."""
    top, bottom = _checked(above), _checked(below)
    if top.shape != bottom.shape or bottom.sum() == 0:
        raise BadInputError("a ratio needs the same cases above and below, and a sum below that is not 0")
    tops, bottoms = _resampled_means(top, resamples, seed), _resampled_means(bottom, resamples, seed)
    usable = bottoms != 0
    tail = (1 - confidence) / 2
    low, high = np.quantile(tops[usable] / bottoms[usable], (tail, 1 - tail))
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high), confidence)


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    cases = np.asarray(values, dtype=np.float64)
    if cases.ndim != 1 or not len(cases):
        raise BadInputError("an interval needs at least one case")
    if not np.isfinite(cases).all():
        raise BadInputError("a case has a value that is not finite")
    return cases


def _resampled_means(cases: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // len(cases))  # bounds the memory to a few tens of megabytes
    means = [
        cases[random.integers(0, len(cases), (min(rows, resamples - start), len(cases)), dtype=np.int32)].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(means)
