"""Metrics of predicted probabilities against outcomes of 0 or 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinloop.errors import BadInputError

_EPSILON = 1e-15


def auc(outcomes: ArrayLike, scores: ArrayLike) -> float:
    """Chance that a random positive scores above a random negative, ties counted half.

    By ranks: (sum of the positives' mean ranks - P (P + 1) / 2) / (P N), Mann and Whitney 1947. Needs both outcomes.
    """
    y, s = _checked(outcomes, scores, probabilities=False)
    positives = int(y.sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        raise BadInputError("AUC needs positive and negative outcomes")
    _, place, counts = np.unique(s, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks = mean_rank[place]
    return float((ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(outcomes: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of -[y ln p + (1 - y) ln(1 - p)], p clipped to [1e-15, 1 - 1e-15]. Lower is better."""
    return float(log_losses(outcomes, probabilities).mean())


def log_losses(outcomes: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Log loss of each row, for intervals."""
    y, p = _checked(outcomes, probabilities)
    p = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)))


def normalised_entropy(outcomes: ArrayLike, probabilities: ArrayLike) -> float:
    """Log loss over the log loss of always saying the base rate (He et al., ADKDD 2014). Below 1 knows something."""
    y, _ = _checked(outcomes, probabilities)
    base = float(y.mean())
    if base in (0.0, 1.0):
        raise BadInputError("normalised entropy needs positive and negative outcomes")
    return log_loss(outcomes, probabilities) / log_loss(y, np.full(len(y), base))


def equal_count(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return which of up to `bins` bins of about equal count each value is in, from 0 on; equal values are in one."""
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="higher"))
    return np.asarray(np.searchsorted(edges, values, side="right"), np.int64)


def ece(outcomes: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: |mean p - mean y| in bins, weighted by rows (Guo et al., ICML 2017). 0 is perfect.

    Bins are of equal count by p (Nixon et al., CVPR workshops 2019), not of equal width: where a few in a hundred come,
    all probabilities are in the first of fifteen widths, and any order of them would be as good.
    """
    if bins < 1:
        raise BadInputError(f"at least one bin, not {bins}")
    y, p = _checked(outcomes, probabilities)
    gaps = np.bincount(equal_count(p, bins), weights=p - y)
    return float(np.abs(gaps).sum() / len(y))


def calibration_ratio(outcomes: ArrayLike, probabilities: ArrayLike) -> float:
    """Expected positives over positives: 1 is calibrated on average, above 1 promises too much."""
    y, p = _checked(outcomes, probabilities)
    if not y.any():
        raise BadInputError("the calibration ratio needs positive outcomes")
    return float(p.sum() / y.sum())


def _checked(
    outcomes: ArrayLike, scores: ArrayLike, *, probabilities: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, s = np.asarray(outcomes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape or not len(y):
        raise BadInputError(f"outcomes and scores are two rows of the same length, not {y.shape} and {s.shape}")
    if not np.isin(y, (0.0, 1.0)).all():
        raise BadInputError("outcomes are 0 or 1")
    if not np.isfinite(s).all():
        raise BadInputError("a score is not finite")
    if probabilities and ((s < 0) | (s > 1)).any():
        raise BadInputError("a probability lies outside [0, 1]")
    return y, s
