"""Features of counters and attributes from what the online store holds: the online twin of `counted.py`.

Many items are computed at once, so that a request pays for arrays and not for rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.features import Counting, Feature
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
    chosen = [f for f in (counting.features if features is None else features) if f.source != "history"]
    entities: tuple[Literal["user", "item"], ...] = ("user", "item") if items else ("user",)
    known = {"user": [user], "item": list((items or {}).values())}
    groups = {entity: _group(known[entity], counting.layout(entity)) for entity in entities}
    latest = {entity: groups[entity].latest_before(at_ms) for entity in entities}
    windows: dict[tuple[str, int, int], tuple[Flags, Flags]] = {}
    asked = np.zeros((0, len(counting.marks)), np.int64)
    if items and any(feature.entity == "user_item" for feature in chosen):
        asked = np.array([marks_of(counting, item_id, item.attributes) for item_id, item in items.items()], np.int64)
    found = {}
    for feature in chosen:
        if feature.entity != "user" and not items:
            continue
        if feature.source == "attributes":
            found[feature.name] = _of_attributes(feature, known[feature.entity], at_ms)
            continue
        entity: Literal["user", "item"] = "item" if feature.entity == "item" else "user"
        group = groups[entity]
        if feature.entity == "user_item":
            value = _crossed(counting, feature, group, asked, at_ms)
        else:
            place = (entity, feature.bucket_ms, feature.buckets)
            if place not in windows:
                windows[place] = group.rows(at_ms, feature)
            value = _counted(counting, feature, group, windows[place], at_ms)
        found[feature.name] = _alive(feature, value, latest[entity], at_ms)
    return found


def _alive(feature: Feature, value: Floats, latest: Ints, at_ms: int) -> Values:
    """Apply the time-to-live, and the default where there is nothing."""
    known = latest != NEVER
    expired = known & (latest < at_ms - round(feature.time_to_live_days * DAY_MS))
    usable = known & ~expired & np.isfinite(value)
    ages = np.where(known, at_ms - np.where(known, latest, at_ms), np.nan)
    expired, ages = np.broadcast_to(expired, value.shape), np.broadcast_to(ages, value.shape)
    return Values(np.where(usable, value, feature.default), expired, ages)


def _counted(counting: Counting, feature: Feature, group: _Group, rows: tuple[Flags, Flags], at_ms: int) -> Floats:
    of = counting.measures.index(feature.of)
    if feature.kind == "recency":
        return _days_since(group.latest_of(at_ms, of), at_ms)
    above = group.total(rows, of)
    if feature.kind == "total":
        return above * feature.scale
    return _rate(feature, above, group.total(rows, counting.measures.index(feature.per)))


def _crossed(counting: Counting, feature: Feature, user: _Group, items: Ints, at_ms: int) -> Floats:
    """A user's events on items that share an attribute with each item; `items` int64[items, marks]."""
    mark, of = counting.marks.index(feature.attribute), counting.measures.index(feature.of)
    asked = items[:, mark]
    rows = user.times < at_ms if feature.kind == "recency" else user.inside(at_ms, feature)
    same = (asked[:, None] == user.marks[None, rows, mark]) & (asked[:, None] != 0)
    amounts = user.amounts[rows]
    if feature.kind == "recency":
        times = np.where(same & (amounts[None, :, of] > 0), user.times[None, rows], NEVER)
        return _days_since(times.max(axis=1, initial=NEVER), at_ms)
    above = same @ amounts[:, of]
    if feature.kind == "total":
        return np.asarray(above * feature.scale, np.float64)
    if feature.kind == "share":
        return _rate(feature, above, np.full(len(asked), amounts[:, of].sum()))
    return _rate(feature, above, same @ amounts[:, counting.measures.index(feature.per)])


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
    values = np.where(np.isfinite(values), values, feature.default)
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
