"""What may be suggested, and in which order: pure functions of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.systems.suggestions.presets import Preset

TYPICAL_KM = 10.0  # what is believed of a distance that nobody knows

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


def distance_popularity(going: Floats, km: Floats, weight: float) -> Floats:
    """Return the trivial baseline's scores: log(1 + people who come) - weight x log(1 + km)."""
    return np.asarray(np.log1p(going) - weight * np.log1p(np.where(np.isnan(km), TYPICAL_KM, km)))


def called_off(*, cancel_days: Floats, restore_days: Floats, more_cancels: Flags, by_row: Flags) -> Flags:
    """Return which events are off: the later of the last cancellation and the last restoration has the last word.

    Args:
        cancel_days: Days since each was last called off.
        restore_days: Days since it was last put on again.
        more_cancels: Whether it was called off more often; says it where the two are of one moment.
        by_row: Whether its row says that it is off. Rows have no moment, so that holds until a row takes it back.
    """
    later = (cancel_days < restore_days) | ((cancel_days == restore_days) & more_cancels)
    return np.asarray(later | by_row)


class Allowed(NamedTuple):
    """Which events may be suggested, and why the others may not. Each bool[events].

    Attributes:
        fine: May be.
        past: Have begun, or cannot be reached in time any more.
        full: No place is left, or nobody knows.
        off: Were called off.
    """

    fine: Flags
    past: Flags
    full: Flags
    off: Flags


def allowed(
    until_h: Floats, travel_min: Floats, going: Floats, capacity: Floats, off: Flags, *, known: bool, preset: Preset
) -> Allowed:
    """Return what may be suggested.

    Args:
        until_h: Hours until each event starts.
        travel_min: How long the way there takes; NaN is not known, and no reason to leave it out.
        going: How many come.
        capacity: Places; NaN is no limit.
        off: Which were called off.
        known: Whether `going` and `off` are what the store says. Where it does not answer, what has a limit may be
            full, and is left out.
        preset: Whether what cannot be reached is left out.
    """
    past = ~(until_h > 0)
    if preset.reachable:
        past = past | (np.nan_to_num(travel_min) / 60 > until_h)
    limited = ~np.isnan(capacity)
    full = limited & ((going >= capacity) if known else True)
    return Allowed(~(past | full | off), past, full, off)


def adjusted(scores: Floats, km: Floats, until_h: Floats, preset: Preset) -> Floats:
    """Return scores as a preset leans; the same ones where it does not."""
    if not preset.near and not preset.soon:
        return scores
    spread = float(scores.std()) or 1.0
    far = np.log1p(np.where(np.isnan(km), TYPICAL_KM, km))
    return np.asarray(scores - spread * (preset.near * far + preset.soon * np.log1p(np.maximum(until_h, 0))))


def best(scores: Floats, most: int) -> Ints:
    """Return the rows of at most so many highest scores, best first, of equal ones the first; no score is NaN."""
    rows = np.arange(len(scores))
    if len(scores) > most:
        # Equal scores at the border: whichever partition leaves is chance, so all of them are ordered.
        rows = np.flatnonzero(scores >= np.partition(scores, len(scores) - most)[len(scores) - most])
    return rows[np.argsort(-scores[rows], kind="stable")][:most]


class Ranking(NamedTuple):
    """An order. `places`: rows, best first; `propensities`: with which probability each stands where it does."""

    places: Ints
    propensities: Floats | None


def ranked(
    scores: Floats,
    organizers: Sequence[str | None],
    *,
    limit: int,
    preset: Preset,
    random: np.random.Generator | None = None,
) -> Ranking:
    """Return the best events, best first.

    Organisers take turns: what is over `per_organizer` stands behind everything else, in its own order. Equal scores
    keep their order. An answer that explores is a permutation of all, each as likely, so an event is at a place with
    probability 1 / events. Propensities are None where nothing was left to chance.

    Args:
        scores: Of each event.
        organizers: Of each; None is nobody in particular, whose events are not counted together.
        limit: How many at most.
        preset: How many of one organiser, and how often it explores.
        random: Draws; None: nothing is drawn.
    """
    best = np.argsort(-scores, kind="stable")
    if preset.per_organizer:
        best = _in_turns(best, organizers, preset.per_organizer)
    if random is None or not preset.explore or not len(best):
        return Ranking(best[:limit], None)
    shown = random.permutation(best) if random.random() < preset.explore else best
    as_drawn = preset.explore / len(best)
    chances = np.where(shown == best, 1 - preset.explore + as_drawn, as_drawn)
    return Ranking(shown[:limit], chances[:limit])


def _in_turns(order: Ints, organizers: Sequence[str | None], most: int) -> Ints:
    had: Counter[str] = Counter()
    first: list[int] = []
    later: list[int] = []
    for place in order.tolist():
        organizer = organizers[place]
        if organizer is not None:
            had[organizer] += 1
        (later if organizer is not None and had[organizer] > most else first).append(place)
    return np.array(first + later, np.int64)
