"""Features of counters and attributes from what the online store holds: the online twin of `counted.py`.

Many items are computed at once, so that a request pays for arrays and not for rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.features import LARGEST, Counting, Feature
from twinloop.contracts.tally import NEVER, Layout, bucket_of, columns
from twinloop.features.counting import marks_of
from twinloop.features.stores import Known

DAY_MS = 86_400_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Values(NamedTuple):
    """One feature of one or several entities.

    Attributes:
        values: float64[entities].
        expired: Whether a value is the default because what was known had outlived its time.
        ages_ms: How long ago the entity's latest event was; NaN where there is none, and of attributes.
    """

    values: Floats
    expired: Flags
    ages_ms: Floats


@dataclass(frozen=True)
class _Group:
    """The counters of several entities, as columns; `owner` says of which entity a row is."""

    size: int
    owner: Ints
    times: Ints
    amounts: Ints
    marks: Ints
    bucket_owner: Ints
    bucket_ms: Ints
    bucket_number: Ints
    sums: Ints
    last: Ints
    latest: Ints

    def rows(self, at_ms: int, feature: Feature) -> tuple[Flags, Flags]:
        """Return which remembered events and which buckets are in the feature's window."""
        number = bucket_of(at_ms, feature.bucket_ms)
        held = (self.bucket_ms == feature.bucket_ms) & (self.bucket_number <= number)
        if feature.bucket_ms:
            held &= self.bucket_number >= number - feature.buckets
        return self.inside(at_ms, feature), np.asarray(held)

    def total(self, rows: tuple[Flags, Flags], measure: int) -> Floats:
        """Return float64[entities]: the whole-numbered sums of a measure over rows; exact up to 2^53."""
        recent, held = rows
        return np.asarray(
            np.bincount(self.owner[recent], self.amounts[recent, measure], self.size)
            + np.bincount(self.bucket_owner[held], self.sums[held, measure], self.size)
        )

    def inside(self, at_ms: int, feature: Feature) -> Flags:
        """Return which of the remembered events are in the feature's window."""
        rows = self.times < at_ms
        if feature.bucket_ms:
            start = (bucket_of(at_ms, feature.bucket_ms) - feature.buckets) * feature.bucket_ms
            rows &= self.times >= start
        return np.asarray(rows)

    def latest_before(self, at_ms: int) -> Ints:
        """Return the time of each entity's latest event, NEVER where there is none."""
        found = np.where(self.latest < at_ms, self.latest, NEVER)
        rows = self.times < at_ms
        np.maximum.at(found, self.owner[rows], self.times[rows])
        return found

    def latest_of(self, at_ms: int, measure: int) -> Ints:
        """Return the time of each entity's latest event with something of a measure."""
        last = self.last[:, measure]
        found = np.where(last < at_ms, last, NEVER)
        rows = (self.times < at_ms) & (self.amounts[:, measure] > 0)
        np.maximum.at(found, self.owner[rows], self.times[rows])
        return found


def compute(
    counting: Counting,
    at_ms: int,
    user: Known,
    items: Mapping[str, Known] | None = None,
    *,
    features: Sequence[Feature] | None = None,
) -> dict[str, Values]:
    """Return the values of features by name: one of the user's, one per item (in their order) of the others.

    Features of a history are not among them, see `online.py`; those of items are there only where items are.

    Args:
        counting: What the system counts.
        at_ms: The moment, epoch milliseconds; exact for any moment after the remembered events, the present above all.
        user: What the store says of the user.
        items: What it says of the items asked about.
        features: Which ones; all by default.

    Raises:
        IntegrityError: The store's bytes cannot be read.
    """
    chosen = counting.features if features is None else features
    found = of_user(counting, at_ms, user, item_marks(counting, items) if items else None, features=chosen)
    if items:
        found |= of_items(counting, at_ms, list(items.values()), features=chosen)
    return {feature.name: found[feature.name] for feature in chosen if feature.name in found}


def item_marks(counting: Counting, items: Mapping[str, Known]) -> Ints:
    """Return the marks of items, int64[items, marks]: what crosses with a user need to know of them."""
    marks = [marks_of(counting, item_id, item.attributes) for item_id, item in items.items()]
    return np.array(marks, np.int64).reshape(len(items), len(counting.marks))


def of_user(
    counting: Counting, at_ms: int, user: Known, marks: Ints | None = None, *, features: Sequence[Feature]
) -> dict[str, Values]:
    """Return the user's own features, and where marks of items are given, those of the user with each item."""
    group, found = _group([user], counting.layout("user")), {}
    latest = group.latest_before(at_ms)
    windows: dict[tuple[int, int], tuple[Flags, Flags]] = {}
    crosses: dict[str, _Cross] = {}
    for feature in features:
        if feature.entity == "user" and feature.source == "attributes":
            found[feature.name] = _of_attributes(feature, [user], at_ms)
        elif feature.entity == "user" and feature.source == "counters":
            found[feature.name] = _alive(feature, _counted(counting, feature, group, windows, at_ms), latest, at_ms)
        elif feature.entity == "user_item" and marks is not None:
            if feature.attribute not in crosses:
                place = counting.marks.index(feature.attribute)
                crosses[feature.attribute] = _Cross.of(group.marks[:, place], marks[:, place])
            value = _crossed(counting, feature, group, crosses[feature.attribute], at_ms)
            found[feature.name] = _alive(feature, value, latest, at_ms)
    return found


def of_items(
    counting: Counting, at_ms: int, items: Sequence[Known], *, features: Sequence[Feature]
) -> dict[str, Values]:
    """Return the features of items alone, one value an item."""
    group, found = _group(items, counting.layout("item")), {}
    latest = group.latest_before(at_ms)
    windows: dict[tuple[int, int], tuple[Flags, Flags]] = {}
    for feature in features:
        if feature.entity == "item" and feature.source == "attributes":
            found[feature.name] = _of_attributes(feature, items, at_ms)
        elif feature.entity == "item" and feature.source == "counters":
            found[feature.name] = _alive(feature, _counted(counting, feature, group, windows, at_ms), latest, at_ms)
    return found


class _Cross(NamedTuple):
    """A user's events by what their items share with others.

    Attributes:
        events: Of each remembered event, which of the user's marks it has.
        asked: Of each item asked about, which of them it has; `size` where it has none of them.
        size: How many marks the user's events have.
    """

    events: Ints
    asked: Ints
    size: int

    @classmethod
    def of(cls, events: Ints, asked: Ints) -> _Cross:
        """Return the places of marks, 0 being none."""
        marks, places = np.unique(events, return_inverse=True)
        if not len(marks):
            return cls(places, np.zeros(len(asked), np.int64), 0)
        found = np.minimum(np.searchsorted(marks, asked), len(marks) - 1)
        return cls(places, np.where((marks[found] == asked) & (asked != 0), found, len(marks)), len(marks))

    def total(self, rows: Flags, amounts: Ints) -> Floats:
        """Return the sum of the rows' amounts for each mark, and 0 for none; whole numbers, exact up to 2^53."""
        return np.asarray(np.bincount(self.events[rows], amounts[rows], self.size + 1), np.float64)


def _alive(feature: Feature, value: Floats, latest: Ints, at_ms: int) -> Values:
    """Apply the time-to-live, and the default where there is nothing."""
    known = latest != NEVER
    expired = known & (latest < at_ms - round(feature.time_to_live_days * DAY_MS))
    usable = known & ~expired & np.isfinite(value)
    ages = np.where(known, at_ms - np.where(known, latest, at_ms), np.nan)
    expired, ages = np.broadcast_to(expired, value.shape), np.broadcast_to(ages, value.shape)
    return Values(np.where(usable, value, feature.default), expired, ages)


def _counted(
    counting: Counting,
    feature: Feature,
    group: _Group,
    windows: dict[tuple[int, int], tuple[Flags, Flags]],
    at_ms: int,
) -> Floats:
    of = counting.measures.index(feature.of)
    if feature.kind == "recency":
        return _days_since(group.latest_of(at_ms, of), at_ms)
    window = (feature.bucket_ms, feature.buckets)
    if window not in windows:
        windows[window] = group.rows(at_ms, feature)
    above = group.total(windows[window], of)
    if feature.kind == "total":
        return above * feature.scale
    return _rate(feature, above, group.total(windows[window], counting.measures.index(feature.per)))


def _crossed(counting: Counting, feature: Feature, user: _Group, cross: _Cross, at_ms: int) -> Floats:
    """A user's events on items that share an attribute with each item asked about."""
    amounts = user.amounts[:, counting.measures.index(feature.of)]
    if feature.kind == "recency":
        rows = (user.times < at_ms) & (amounts > 0)
        latest = np.full(cross.size + 1, NEVER)
        np.maximum.at(latest, cross.events[rows], user.times[rows])
        return _days_since(latest, at_ms)[cross.asked]
    rows = user.inside(at_ms, feature)
    above = cross.total(rows, amounts)
    if feature.kind == "total":
        value = above * feature.scale
    elif feature.kind == "share":
        value = _rate(feature, above, np.full(len(above), amounts[rows].sum()))
    else:
        value = _rate(feature, above, cross.total(rows, user.amounts[:, counting.measures.index(feature.per)]))
    return np.asarray(value[cross.asked], np.float64)


def _rate(feature: Feature, above: Ints | Floats, below: Ints | Floats) -> Floats:
    """The smoothed quotient; NaN where it divides by nothing."""
    divisor = below + feature.weight
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (above + feature.prior * feature.weight) / divisor
    return np.where(divisor == 0, np.nan, value)


def _days_since(times: Ints, at_ms: int) -> Floats:
    never = times == NEVER
    return np.where(never, np.nan, (at_ms - np.where(never, at_ms, times)) / DAY_MS)


def _of_attributes(feature: Feature, known: Sequence[Known], at_ms: int) -> Values:
    numbers = [entity.attributes.get(feature.attribute) for entity in known]
    values = np.array([np.nan if isinstance(n, str) or n is None else n for n in numbers], np.float64)
    if feature.kind == "age":
        values = np.maximum(at_ms - values, 0) / DAY_MS
    values = np.where(np.abs(values) <= LARGEST, values, feature.default)
    return Values(values, np.zeros(len(known), np.bool_), np.full(len(known), np.nan))


def _group(known: Sequence[Known], layout: Layout) -> _Group:
    """Put the counters of several entities into one set of columns."""
    measures, marks = layout.measures, layout.marks
    parts: list[tuple[NDArray[Any], ...]] = []
    last, latest = np.full((len(known), measures), NEVER), np.full(len(known), NEVER)
    for owner, entity in enumerate(known):
        found = columns(entity.counters, layout) if entity.counters else None
        if found is None:
            continue
        n, buckets, body, at = found.recent, found.buckets, found.body, 0

        def take(kind: str, count: int, body: bytes = body) -> NDArray[Any]:
            nonlocal at
            values = np.frombuffer(body, kind, count, at)
            at += values.nbytes
            return values

        times, _ = take("<i8", n), take("<u8", n)
        amounts, marked = take("<u4", n * measures).reshape(n, measures), take("<u4", n * marks).reshape(n, marks)
        last[owner], latest[owner] = take("<i8", measures), take("<i8", 1)[0]
        lengths, numbers = take("<i8", buckets), take("<i8", buckets)
        sums = take("<i8", buckets * measures).reshape(buckets, measures)
        parts.append((np.full(n, owner), times, amounts, marked, np.full(buckets, owner), lengths, numbers, sums))
    shapes = ((0,), (0,), (0, measures), (0, marks), (0,), (0,), (0,), (0, measures))
    empty = tuple(np.zeros(shape, np.int64) for shape in shapes)
    o, t, a, m, bo, bl, bn, bs = (np.concatenate(c).astype(np.int64) for c in zip(empty, *parts, strict=True))
    return _Group(len(known), o, t, a, m, bo, bl, bn, bs, last, latest)


def doing(
    counting: Counting, known: Sequence[Known], at_ms: int, marks: Ints, *, of: str, against: str
) -> NDArray[np.int64]:
    """Return of how many entities the latest word on each thing asked about is `of` and not `against`: int64[things].

    It looks at what is remembered of them one by one (`Counting.memory`), strictly before the moment.

    Args:
        counting: What is counted.
        known: Records of users.
        at_ms: The moment.
        marks: `item_id` marks of the things, int64[things]; 0 is a thing of which nothing is known.
        of: The measure that says yes.
        against: The measure that takes it back.
    """
    group = _group(known, counting.layout("user"))
    yes = group.amounts[:, counting.measures.index(of)] > 0
    back = group.amounts[:, counting.measures.index(against)] > 0
    rows = np.flatnonzero((yes | back) & (group.times < at_ms))
    things = group.marks[rows, counting.marks.index("item_id")]
    # Remembered events of an entity are in the order of time, so the last row of a pair is its latest word.
    latest = dict(zip(zip(group.owner[rows].tolist(), things.tolist(), strict=True), yes[rows].tolist(), strict=True))
    counts: dict[int, int] = {}
    for (_, thing), comes in latest.items():
        counts[thing] = counts.get(thing, 0) + comes
    return np.array([counts.get(mark, 0) if mark else 0 for mark in marks.tolist()], np.int64)
