"""What another policy would have earned, told from what the one that served showed, with which propensity, to what end.

Rounds are independent choices of one action each: what was shown at one place of one list. For every round `rewards`
is what came of it, `propensities` is the probability with which the serving policy chose what it showed, and
`probabilities` is that with which the policy under evaluation would have chosen the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinloop.errors import BadInputError
from twinloop.evaluation.intervals import Interval, mean_interval, ratio_interval


@dataclass(frozen=True)
class Rounds:
    """Logged rounds, each array of shape (n,).

    Attributes:
        rewards: Finite.
        propensities: Over 0, at most 1. A round that was shown with certainty says nothing of other policies.
        probabilities: From 0 to 1.

    Raises:
        BadInputError: No round, arrays of different lengths, or a value out of bounds.
    """

    rewards: NDArray[np.float64]
    propensities: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("rewards", "propensities", "probabilities"):
            object.__setattr__(self, name, _column(name, getattr(self, name), len(np.atleast_1d(self.rewards))))
        if not ((self.propensities > 0) & (self.propensities <= 1)).all():
            raise BadInputError("a propensity is over 0 and at most 1: what was shown had a chance of being shown")
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():
            raise BadInputError("a policy chooses with a probability from 0 to 1")

    @property
    def weights(self) -> NDArray[np.float64]:
        """How much more often than it was the round would have happened, shape (n,)."""
        return self.probabilities / self.propensities

    @property
    def effective(self) -> float:
        """How many rounds of the policy's own these are worth: (sum of weights)^2 over the sum of their squares."""
        total = float(self.weights.sum())
        return total**2 / float((self.weights**2).sum()) if total else 0.0


def inverse_propensity(rounds: Rounds, *, clip: float = np.inf, confidence: float = 0.95) -> Interval:
    """Return the mean reward by weighting every round (Horvitz and Thompson 1952).

    Unbiased where the serving policy could have shown whatever the other one would; of high variance where the two
    differ much. `clip` bounds the weights: less variance, for a bias towards 0.
    """
    weights = np.minimum(rounds.weights, clip)
    return mean_interval(weights * rounds.rewards, confidence=confidence)


def self_normalised(rounds: Rounds, *, confidence: float = 0.95) -> Interval:
    """Return the mean reward with weights that sum to the rounds (Swaminathan and Joachims 2015).

    Its bias vanishes with more rounds, it never leaves the range of the rewards, and it varies much less. Raises
    BadInputError where the policy would have chosen nothing of what was shown.
    """
    if not rounds.weights.any():
        raise BadInputError("the policy would have chosen nothing of what was shown: these rounds say nothing of it")
    return ratio_interval(rounds.weights * rounds.rewards, rounds.weights, confidence=confidence)


def direct(expected: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Return the mean of what a model of the reward expects of the policy's choices, shape (n,); as good as that is."""
    return mean_interval(expected, confidence=confidence)


def doubly_robust(
    rounds: Rounds, expected: ArrayLike, expected_of_shown: ArrayLike, *, confidence: float = 0.95
) -> Interval:
    """Return the model's expectation, corrected by weighting where it was wrong (Dudik, Langford and Li 2011).

    Unbiased if either the propensities or the model is right.

    Args:
        rounds: What was logged.
        expected: The model's reward of what the policy would choose in each round, shape (n,).
        expected_of_shown: The model's reward of what was shown, shape (n,).
        confidence: Of the interval.
    """
    count = len(rounds.rewards)
    baseline, shown = _column("expected", expected, count), _column("expected_of_shown", expected_of_shown, count)
    return mean_interval(baseline + rounds.weights * (rounds.rewards - shown), confidence=confidence)


def _column(name: str, values: ArrayLike, count: int) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or len(column) != count or not count:
        raise BadInputError(f"{name} has the shape {column.shape}, not ({count},) with at least one round")
    if not np.isfinite(column).all():
        raise BadInputError(f"{name} holds a value that is not finite")
    return column
