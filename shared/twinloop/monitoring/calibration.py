"""Offsets of log-odds that make what a model said lately equal to what came, as far as the evidence goes.

Logistic regression with the model's log-odds as an offset (McCullagh and Nelder, Generalized Linear Models, 1989) on
indicators of facts: logit P(y = 1) = z + a + sum over facts f of b[f, value of f], with ridges on a and b. The ridges
are in rows: each weighs as so many rows of the average information mean(p (1 - p)), whatever the base rate is. The
objective is strictly concave, so it has one maximum, and Newton's method with halved steps reaches it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.live import FARTHEST, MOST_VALUES, LiveSettings
from twinloop.errors import BadInputError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_CERTAIN = 1e-9  # probabilities nearer to 0 or 1 are taken for that
_STEPS, _HALVINGS = 100, 40
_SMALL = 1e-10  # logits; a smaller step changes nothing
_DIGITS = 6
_LEAST_INFORMATION = 1e-6


@dataclass(frozen=True)
class Offsets:
    """Logits to be added: overall, and by fact and value."""

    offset: float = 0.0
    by: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def fit(
    said: NDArray[np.floating],
    came: NDArray[np.floating],
    facts: Mapping[str, Sequence[str | None]],
    settings: LiveSettings,
) -> Offsets:
    """Return the offsets of one release; the order of the rows does not matter.

    Where fewer than `settings.minimum` rows have either outcome there is no offset; of a value neither.

    Args:
        said: What the release said, probabilities without any offset, [N].
        came: What came of it, 0 or 1, [N].
        facts: Fact -> its value in each row, None where it is not told; rows without one have the overall offset.
        settings: Ridges and minimum; facts that they do not name are not looked at.

    Raises:
        BadInputError: Lengths differ, or numbers are none of the kind.
    """
    p, y = np.asarray(said, np.float64), np.asarray(came, np.float64)
    columns = {name: list(facts.get(name, ())) or [None] * len(p) for name in settings.facts}
    if p.shape != y.shape or any(len(values) != len(p) for values in columns.values()):
        raise BadInputError("there is one prediction, one outcome and one value of each fact a showing")
    if not (((p >= 0) & (p <= 1)).all() and np.isin(y, (0.0, 1.0)).all()):
        raise BadInputError("predictions are probabilities, and outcomes 0 or 1")
    if _scarce(y, settings.minimum):
        return Offsets()
    z = log_odds(p)
    coded = {name: _coded(values, y, settings.minimum) for name, values in columns.items()}
    # Sums of floats depend on their order, so there is but one: of what a row holds.
    order = np.lexsort((*(codes for codes, _ in coded.values()), y, z))
    z, y = z[order], y[order]
    # Each block has a place for rows without a value, which is not fitted.
    codes = [codes[order] for codes, _ in coded.values()]
    known = [values for _, values in coded.values()]
    found = _newton(z, y, codes, [len(values) for values in known], settings)
    by, begin = {}, 1
    for name, values in zip(coded, known, strict=True):
        parts = found[begin : begin + len(values)]
        begin += len(values)
        if values:
            by[name] = {value: _rounded(part, 2 * FARTHEST) for value, part in zip(values, parts.tolist(), strict=True)}
    return Offsets(_rounded(float(found[0]), FARTHEST), by)


def shifted(p: NDArray[np.floating], offset: float) -> NDArray[np.floating]:
    """Return probabilities whose log-odds are `offset` higher, of the same type: p e^o / (1 - p + p e^o)."""
    if offset == 0:
        return p
    if offset > 0:  # so that what is subtracted is never nearly all
        return p / (p + (1 - p) * math.exp(-offset))
    risen = p * math.exp(offset)
    return risen / (1 - p + risen)


def log_odds(p: Floats) -> Floats:
    """Return ln(p / (1 - p)), finite."""
    inside = np.clip(p, _CERTAIN, 1 - _CERTAIN)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _scarce(y: Floats, minimum: int) -> bool:
    positives = int(y.sum())
    return min(positives, len(y) - positives) < minimum


def _coded(values: Sequence[str | None], y: Floats, minimum: int) -> tuple[Codes, list[str]]:
    """Return a number for each row, 0 where it has no value to be fitted, and the values numbered from 1.

    Those are the most frequent ones that have enough of either outcome.
    """
    # No array of texts: the longest of them would say how much memory each takes.
    names = sorted({value for value in values if value})
    place_of = {name: place for place, name in enumerate(names, 1)}
    places = np.array([place_of.get(value or "", 0) for value in values], np.int64)
    rows = np.bincount(places, minlength=len(names) + 1)
    positives = np.bincount(places, weights=y, minlength=len(names) + 1)
    enough = np.minimum(positives, rows - positives) >= minimum
    enough[0] = False
    # The order is stable: of values as frequent, the first by name.
    kept = np.lexsort((-rows, ~enough))[: min(MOST_VALUES, int(enough.sum()))]
    numbers = np.zeros(len(names) + 1, np.int64)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[places], [names[place - 1] for place in kept.tolist()]


def _newton(z: Floats, y: Floats, codes: list[Codes], sizes: list[int], settings: LiveSettings) -> Floats:
    """Return the maximum: the overall offset, then the values' offsets, one block a fact."""
    p = _sigmoid(z)
    information = max(float((p * (1 - p)).mean()), _LEAST_INFORMATION)
    ridge = information * np.array([settings.ridge] + [settings.ridge_of_value] * sum(sizes))
    begins = np.cumsum([1, *sizes])[:-1].tolist() if sizes else []
    blocks = list(zip(codes, sizes, begins, strict=True))

    def total(theta: Floats) -> Floats:
        eta: Floats = z + theta[0]
        for code, size, begin in blocks:
            eta = eta + np.concatenate(([0.0], theta[begin : begin + size]))[code]
        return eta

    def objective(theta: Floats, eta: Floats) -> float:
        return float((y * eta - np.logaddexp(0.0, eta)).sum() - 0.5 * (ridge * theta * theta).sum())

    theta = np.zeros(len(ridge))
    eta = total(theta)
    best = objective(theta, eta)
    for _ in range(_STEPS):
        p = _sigmoid(eta)
        step = np.linalg.solve(_hessian(p * (1 - p), blocks, ridge), _sums(y - p, blocks, len(ridge)) - ridge * theta)
        if np.abs(step).max() < _SMALL:
            break
        for _ in range(_HALVINGS):
            there = total(theta + step)
            reached = objective(theta + step, there)
            if reached >= best:
                break
            step = step / 2
        else:
            break  # as far up as numbers of this size can tell
        theta, eta, best = theta + step, there, reached
    return theta


def _sums(weights: Floats, blocks: list[tuple[Codes, int, int]], length: int) -> Floats:
    """Return the sum of the weights over all rows, then over those of each value."""
    found = np.empty(length)
    found[0] = weights.sum()
    for code, size, begin in blocks:
        found[begin : begin + size] = np.bincount(code, weights=weights, minlength=size + 1)[1:]
    return found


def _hessian(weights: Floats, blocks: list[tuple[Codes, int, int]], ridge: Floats) -> Floats:
    """Return minus the second derivatives: sums of the weights over rows that have two values at once."""
    found = np.diag(ridge)
    sums = _sums(weights, blocks, len(ridge))
    found[0, :] += sums
    found[1:, 0] += sums[1:]
    for number, (code, size, begin) in enumerate(blocks):
        inside = np.arange(begin, begin + size)
        found[inside, inside] += sums[begin : begin + size]
        for other, width, start in blocks[:number]:
            both = np.bincount(code * (width + 1) + other, weights=weights, minlength=(size + 1) * (width + 1))
            square = both.reshape(size + 1, width + 1)[1:, 1:]
            found[begin : begin + size, start : start + width] += square
            found[start : start + width, begin : begin + size] += square.T
    return found


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _rounded(value: float, farthest: float) -> float:
    return round(max(-farthest, min(farthest, value)), _DIGITS) + 0.0  # no -0.0
