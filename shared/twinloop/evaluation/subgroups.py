"""Who is wrongly acted upon: false-positive rates inside slices of the cases against those outside.

A judge that returns `negatives` (1 where there is nothing to act upon) and `false_positives` (1 where that is acted
upon all the same) of every case has the slices of `GatePolicy.false_positive_slices` guarded: the difference of the two
rates (Dixon et al., AIES 2018, and Borkan et al., 2019, compare a subgroup with its background likewise).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.spec import GatePolicy
from twinloop.evaluation.cases import CaseScores

NEGATIVES, FALSE_POSITIVES = "negatives", "false_positives"


@dataclass(frozen=True)
class SubgroupRate:
    """The false-positive rate inside one slice and outside it.

    Attributes:
        slice: Such as `identity`.
        label: Such as `named`.
        negatives: Cases inside with nothing to act upon.
        inside: Share of these that is acted upon.
        outside: The same of all other cases.
        low: Lower bound of the difference's interval (Newcombe 1998, by Wilson's intervals).
        high: Upper bound.
        tolerance: How much more the rate inside may be.
        enough: Whether there are cases enough for a veto.
    """

    slice: str
    label: str
    negatives: int
    inside: float
    outside: float
    low: float
    high: float
    tolerance: float
    enough: bool

    @property
    def gap(self) -> float:
        """How much more often those inside are wrongly acted upon."""
        return self.inside - self.outside

    @property
    def lost(self) -> bool:
        """Whether the gap is more than tolerated, and not by chance: the whole interval is above zero."""
        return self.enough and self.gap > self.tolerance and self.low > 0


@dataclass(frozen=True)
class FalsePositives:
    """Of all cases with nothing to act upon, the share that is acted upon, and the bounds of Wilson's interval."""

    negatives: int
    rate: float
    low: float
    high: float


def false_positives(policy: GatePolicy, scores: CaseScores) -> FalsePositives | None:
    """Return the rate over all cases; None where nobody tells of it, or no case has nothing to act upon."""
    told = _clean_and_wrong(scores)
    if told is None:
        return None
    clean, wrong = told
    n, a = int(clean.sum()), int((clean & wrong).sum())
    return FalsePositives(n, a / n, *_wilson(a, n, policy.confidence)) if n else None


def subgroup_rates(policy: GatePolicy, scores: CaseScores) -> tuple[SubgroupRate, ...]:
    """Return the rates of every label of every guarded slice, in the declared order, labels sorted."""
    told = _clean_and_wrong(scores)
    if told is None:
        return ()
    clean, wrong = told
    found = []
    for name in policy.false_positive_slices:
        labels = scores.slices.get(name)
        for label in [] if labels is None else np.unique(labels[labels != ""]):
            member = labels == label
            inside, outside = clean & member, clean & ~member
            if not inside.any() or not outside.any():
                continue
            a, n = int(wrong[inside].sum()), int(inside.sum())
            b, m = int(wrong[outside].sum()), int(outside.sum())
            low, high = _difference(a, n, b, m, policy.confidence)
            enough = n >= policy.minimum_slice_cases and m >= policy.minimum_slice_cases
            tolerance = policy.false_positive_tolerance
            found.append(SubgroupRate(name, str(label), n, a / n, b / m, low, high, tolerance, enough))
    return tuple(found)


def unguarded(policy: GatePolicy, scores: CaseScores) -> tuple[str, ...]:
    """Return in words which labels of guarded slices have too few negatives for a veto, in the declared order."""
    if NEGATIVES not in scores.metrics:
        return ()
    clean, least = scores.metrics[NEGATIVES] > 0, policy.minimum_slice_cases
    found = []
    for name in policy.false_positive_slices:
        labels = scores.slices.get(name)
        there = [] if labels is None else [str(label) for label in np.unique(labels[labels != ""])]
        if labels is not None and len(there) == 1:
            found.append(f"{name} (all cases are {there[0]!r})")
        elif labels is not None:
            counts = {label: int((clean & (labels == label)).sum()) for label in there}
            found += [f"{name} {label!r} ({count} of {least})" for label, count in counts.items() if count < least]
    return tuple(found)


def untold(policy: GatePolicy, scores: CaseScores) -> tuple[str, ...]:
    """Return the guarded slices that no case carries, or all of them where the judge does not say who is acted upon."""
    if _clean_and_wrong(scores) is None:
        return policy.false_positive_slices
    carried = {name for name, labels in scores.slices.items() if (labels != "").any()}
    return tuple(name for name in policy.false_positive_slices if name not in carried)


def _clean_and_wrong(scores: CaseScores) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Return which cases have nothing to act upon, and which are acted upon all the same; None where nobody tells."""
    if NEGATIVES not in scores.metrics or FALSE_POSITIVES not in scores.metrics:
        return None
    return scores.metrics[NEGATIVES] > 0, scores.metrics[FALSE_POSITIVES] > 0


def _difference(a: int, n: int, b: int, m: int, confidence: float) -> tuple[float, float]:
    """Return the bounds of a/n - b/m (Newcombe's hybrid score interval, method 10)."""
    p, q = a / n, b / m
    (low1, high1), (low2, high2) = _wilson(a, n, confidence), _wilson(b, m, confidence)
    down: float = ((p - low1) ** 2 + (high2 - q) ** 2) ** 0.5
    up: float = ((high1 - p) ** 2 + (q - low2) ** 2) ** 0.5
    return p - q - down, p - q + up


def _wilson(a: int, n: int, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, spread = a / n, z * z / n
    middle, half = p + spread / 2, z * ((p * (1 - p) + spread / 4) / n) ** 0.5
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)
