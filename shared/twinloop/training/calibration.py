"""From a model's log-odds to chances that can be multiplied with money: what is said must come about that often.

A calibration is a non-decreasing function of the log-odds, fitted on rows that the model has not learnt from. There are
four: none; temperature, one slope (Guo et al., ICML 2017); Platt's slope and offset (Platt, 1999); and isotonic
regression (Zadrozny and Elkan, KDD 2002), pooled adjacent violators made continuous by straight lines between the means
of its blocks. Each is a few nodes of an ONNX graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import BadInputError
from twinloop.evaluation.probability import log_losses
from twinloop.training.graphs import Graph

Floats = NDArray[np.float64]

FARTHEST = 30.0  # log-odds beyond are as good as certain
_FOLDS = 5
_LEAST = 20  # rows of either outcome, without which nothing is fitted
_RIDGE = 1.0  # rows' worth of belief that a model is calibrated as it is
_GROUPS = 200  # isotonic regression is fitted on means of so many equal parts of the rows
_SLOPES = (0.05, 20.0)
_STEEPEST = 20.0
SURE = 1.96  # standard errors
_APART = 1e-6  # knots nearer than that are one


class Calibration(Protocol):
    """A fitted calibration."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def apply(self, log_odds: Floats) -> Floats:
        """Return calibrated log-odds, float64[N]."""
        ...

    def add(self, g: Graph, log_odds: str) -> str:
        """Add it to a graph: float32[K] log-odds -> float32[K] log-odds."""
        ...


@dataclass(frozen=True)
class Line:
    """slope x log-odds + offset: identity, temperature and Platt."""

    name: str
    slope: float = 1.0
    offset: float = 0.0

    def apply(self, log_odds: Floats) -> Floats:
        """See `Calibration`."""
        return np.asarray(self.slope * log_odds + self.offset)

    def add(self, g: Graph, log_odds: str) -> str:
        """See `Calibration`."""
        if self == Line(self.name):
            return log_odds
        scaled = g.op("Mul", log_odds, g.constant(self.slope, np.float32))
        return g.op("Add", scaled, g.constant(self.offset, np.float32))


@dataclass(frozen=True)
class Isotonic:
    """Straight lines from knot to knot, level before the first and after the last.

    Attributes:
        knots: Ascending log-odds, float64[n >= 1].
        values: What they mean, log-odds that do not descend, float64[n].
    """

    knots: Floats
    values: Floats
    name: str = "isotonic"

    def apply(self, log_odds: Floats) -> Floats:
        """See `Calibration`."""
        return np.asarray(np.interp(log_odds, self.knots, self.values))

    def add(self, g: Graph, log_odds: str) -> str:
        """See `Calibration`."""
        # How many knots lie at or below it is the row of a table: where the line begins, and how steep it is.
        runs = np.diff(self.knots)
        slopes = np.concatenate([[0.0], np.diff(self.values) / runs, [0.0]])
        below = g.op("GreaterOrEqual", g.op("Unsqueeze", log_odds, g.constant([1])), g.constant(self.knots))
        place = g.op("ReduceSum", g.op("Cast", below, to=7), g.constant([1]), keepdims=0)  # 7: int64
        begins = g.op("Gather", g.constant(np.concatenate([self.knots[:1], self.knots])), place, axis=0)
        values = g.op("Gather", g.constant(np.concatenate([self.values[:1], self.values])), place, axis=0)
        steep = g.op("Gather", g.constant(slopes), place, axis=0)
        return g.op("Add", values, g.op("Mul", steep, g.op("Sub", log_odds, begins)))


IDENTITY = Line("identity")


def chances(log_odds: Floats) -> Floats:
    """Return 1 / (1 + exp(-log-odds)); log-odds beyond FARTHEST count as that."""
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -FARTHEST, FARTHEST))))


def fit_temperature(log_odds: Floats, clicked: Floats) -> Line:
    """Return the slope of least log loss."""
    return Line("temperature", _newton(log_odds, clicked, offset=False)[0])


def fit_platt(log_odds: Floats, clicked: Floats) -> Line:
    """Return the slope and the offset of least log loss."""
    return Line("platt", *_newton(log_odds, clicked, offset=True))


def _newton(log_odds: Floats, clicked: Floats, *, offset: bool) -> tuple[float, float]:
    """Return slope and offset by Newton's method on log loss and a ridge towards (1, 0).

    The ridge is a row's worth and settles what the rows leave open: all alike, or all of one outcome.
    """
    x = np.clip(log_odds, -FARTHEST, FARTHEST)
    columns = np.stack([x, np.ones_like(x)], axis=1) if offset else x[:, None]
    begun = np.array([1.0, 0.0])[: columns.shape[1]]
    told = begun.copy()

    def cost(weights: Floats) -> float:
        at = columns @ weights
        return float((np.logaddexp(0, at) - clicked * at).sum() + _RIDGE / 2 * ((weights - begun) ** 2).sum())

    for _ in range(50):
        p = chances(columns @ told)
        gradient = columns.T @ (p - clicked) + _RIDGE * (told - begun)
        curved = columns.T @ (columns * (p * (1 - p))[:, None]) + _RIDGE * np.eye(len(told))
        step, now = np.linalg.solve(curved, gradient), cost(told)
        while cost(told - step) > now and np.abs(step).max() > 1e-9:
            step = step / 2
        told = told - step
        if np.abs(step).max() < 1e-9:
            break
    slope = float(np.clip(told[0], *_SLOPES))  # never one that turns the order round
    return slope, float(told[1]) if offset else 0.0


def fit_isotonic(log_odds: Floats, clicked: Floats) -> Isotonic:
    """Return isotonic regression of the outcomes on the log-odds.

    A block's chance is (clicks + r) / (rows + 1) where r is the rate of all rows: so none is certain. Blocks that a
    line steeper than `_STEEPEST` would join are pooled: there the last digits of a log-odds would decide.
    """
    order = np.argsort(log_odds, kind="stable")
    x, y = np.clip(log_odds[order], -FARTHEST, FARTHEST), clicked[order]
    # Equal log-odds are one point, whatever their outcomes.
    groups = np.searchsorted(x, x[np.linspace(0, len(x) - 1, min(_GROUPS, len(x))).astype(np.int64)], side="left")
    begins = np.unique(groups)
    rows = np.diff(np.append(begins, len(x))).astype(np.float64)
    sums = np.add.reduceat(x, begins), np.add.reduceat(y, begins)
    blocks: list[tuple[float, float, float]] = []  # rows, sum of log-odds, clicks
    for size, total, clicks in zip(rows, *sums, strict=True):
        blocks.append((float(size), float(total), float(clicks)))
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][0] >= blocks[-1][2] * blocks[-2][0]:
            last, before = blocks.pop(), blocks.pop()
            blocks.append((last[0] + before[0], last[1] + before[1], last[2] + before[2]))
    rate = (y.sum() + 0.5) / (len(y) + 1)
    pooled = np.array(blocks)
    while True:
        knots, values = _line(pooled, rate)
        steep = np.diff(values) - _STEEPEST * (np.diff(knots) - _APART)
        if not len(steep) or steep.max() <= 0:
            return Isotonic(knots, values)
        worst = int(steep.argmax())
        pooled[worst] += pooled[worst + 1]
        pooled = np.delete(pooled, worst + 1, axis=0)


def _line(blocks: Floats, rate: float) -> tuple[Floats, Floats]:
    """Return the knots and values of blocks: rows, sum of log-odds, clicks."""
    rows, totals, clicks = blocks.T
    p = np.maximum.accumulate((clicks + rate) / (rows + 1))
    return totals / rows, np.log(p / (1 - p))


_FITS: tuple[Callable[[Floats, Floats], Calibration], ...] = (
    lambda log_odds, clicked: IDENTITY,
    fit_temperature,
    fit_platt,
    fit_isotonic,
)
"""Simple ones first."""


@dataclass(frozen=True)
class Chosen:
    """A calibration, and what spoke for it.

    Attributes:
        calibration: Fitted on all rows.
        losses: Mean log loss in cross-validation, by name; only identity's where there was too little to choose by.
        held_out: Calibrated log-odds of each row by the chosen kind, fitted on the other folds; float64[N].
    """

    calibration: Calibration
    losses: dict[str, float]
    held_out: Floats


def choose(log_odds: Floats, clicked: NDArray[Any], groups: NDArray[np.int64]) -> Chosen:
    """Return the simplest calibration whose log loss in 5-fold cross-validation is within a standard error of the best.

    One whose mean is further from that of the outcomes than chance explains is not simple but wrong: few clicks leave
    the standard error wide enough to hide that half as many were said as came.

    The error is that of the difference to the best, row by row, so it is not widened by what both find difficult. Rows
    of one group (a user) are in one fold, and count as one draw for the error.

    Args:
        log_odds: What the model says, float[N].
        clicked: 0 or 1, [N].
        groups: Of each row, int64[N].

    Raises:
        BadInputError: The rows are of different numbers, or a log-odds is no number.
    """
    x, y = np.asarray(log_odds, np.float64), np.asarray(clicked, np.float64)
    if not x.shape == y.shape == groups.shape or x.ndim != 1:
        raise BadInputError(f"to calibrate, every row needs all three: {x.shape}, {y.shape}, {groups.shape}")
    if not np.isfinite(x).all():
        raise BadInputError("a log-odds to calibrate is not a finite number")
    _, member = np.unique(groups, return_inverse=True)
    people = int(member.max()) + 1 if len(member) else 0
    if min(y.sum(), len(y) - y.sum()) < _LEAST or people < _FOLDS:
        loss = {IDENTITY.name: float(log_losses(y, chances(x)).mean())} if len(y) else {}
        return Chosen(IDENTITY, loss, x)
    fold = np.random.default_rng(0).permutation(people)[member] % _FOLDS
    tried = []
    for fit in _FITS:
        said = np.empty_like(x)
        for number in range(_FOLDS):
            held = fold == number
            said[held] = fit(x[~held], y[~held]).apply(x[held])
        tried.append(said)
    losses = np.stack([log_losses(y, chances(said)) for said in tried])
    best = int(losses.mean(axis=1).argmin())
    near = [n for n in range(len(_FITS)) if within_error(losses[n] - losses[best], member)]
    taken = next((n for n in near if not _off(y, chances(tried[n]), member)), best)
    fitted = [fit(x, y) for fit in _FITS]
    named = {calibration.name: float(row.mean()) for calibration, row in zip(fitted, losses, strict=True)}
    return Chosen(fitted[taken], named, tried[taken])


def within_error(worse: Floats, member: NDArray[np.int64], errors: float = 1.0) -> bool:
    """Whether a mean difference is at most so many standard errors; of sums by group, as of a ratio of means.

    Args:
        worse: By how much each row is worse, float64[N].
        member: The row's group, from 0 up, int64[N].
        errors: How many.
    """
    mean = worse.mean()
    sums = np.bincount(member, weights=worse - mean)
    error = np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)) / len(worse)
    return bool(mean <= errors * error)


def _off(clicked: Floats, said: Floats, member: NDArray[np.int64]) -> bool:
    """Whether the sums differ by more than chance explains: of the outcomes, or of the users if that is more."""
    more = clicked - said
    spread = max(float((said * (1 - said)).sum()), float((np.bincount(member, weights=more) ** 2).sum()))
    return bool(abs(more.sum()) > SURE * np.sqrt(spread))


def sampling_offset(kept: float) -> float:
    """Return what to add to the log-odds of a model that learnt from every click and only a share of the rest.

    Its chance p means p / (p + (1 - p) / w) where w is the share kept (He et al., ADKDD 2014, section 6.3): odds of
    p / (1 - p) times w, so ln w in log-odds.

    Raises:
        BadInputError: The share is not above 0 and up to 1.
    """
    if not 0 < kept <= 1:
        raise BadInputError(f"a share of impressions to keep is above 0 and up to 1, not {kept:g}")
    return float(np.log(kept))
