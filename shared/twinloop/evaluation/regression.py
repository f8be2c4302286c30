"""Metrics of predicted amounts, such as seconds of watching."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinloop.errors import BadInputError


def mae(amounts: ArrayLike, predicted: ArrayLike) -> float:
    """Mean of |predicted - amount|. Lower is better; the conditional median is what makes it least."""
    return float(absolute_errors(amounts, predicted).mean())


def absolute_errors(amounts: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Absolute error of each row, for intervals."""
    y, p = _checked(amounts, predicted)
    return np.abs(p - y)


def xauc(amounts: ArrayLike, predicted: ArrayLike) -> float:
    """Chance that of two rows with different amounts the greater one is predicted to be, ties of predictions half.

    Zhan et al., "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation", KDD 2022. Exact, by
    merging (Knight 1966): O(n log n). Needs two different amounts.
    """
    y, p = _checked(amounts, predicted)
    _, by_amount, sizes = np.unique(y, return_inverse=True, return_counts=True)
    _, by_score, ties = np.unique(p, return_inverse=True, return_counts=True)
    _, both = np.unique(by_amount * len(ties) + by_score, return_counts=True)
    pairs = _pairs(np.array([len(y)])) - _pairs(sizes)
    if not pairs:
        raise BadInputError("XAUC needs two rows with different amounts")
    # Sorted by amount, and by score where amounts are equal: what then stands in the wrong order is an inversion.
    inversions = _inversions(by_score[np.lexsort((by_score, by_amount))].astype(np.int64))
    tied = _pairs(ties) - _pairs(both)
    return float((pairs - tied - inversions + tied / 2) / pairs)


def _pairs(counts: NDArray[np.int64]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: NDArray[np.int64]) -> int:
    """Count pairs i < j with values[i] > values[j], merging sorted blocks of doubled width."""
    size, found, width = len(values), 0, 1
    top = int(values.max()) + 1 if size else 1
    place = np.arange(size)
    while width < size:
        block = place // (2 * width)
        right = place // width % 2 == 1
        # Keys order blocks first, so one search counts in every block at once; blocks' halves are sorted already.
        keys = block * top + values
        left_keys = keys[~right]
        before = np.searchsorted(left_keys, keys[right], side="right")
        ends = np.searchsorted(left_keys, (block[right] + 1) * top)
        found += int((ends - before).sum())
        values = values[np.argsort(keys, kind="stable")]
        width *= 2
    return found


def _checked(amounts: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, p = np.asarray(amounts, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or not len(y):
        raise BadInputError(f"amounts and predictions are two rows of the same length, not {y.shape} and {p.shape}")
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise BadInputError("an amount or a prediction is not finite")
    return y, p
