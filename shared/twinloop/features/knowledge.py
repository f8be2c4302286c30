"""What is known of a user and of many items at a moment, as the tensor that a model is asked with.

A request pays for arrays: items' values are computed when they are read, and kept for half a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.tally import columns
from twinloop.errors import IntegrityError
from twinloop.features.stores import Known
from twinloop.features.values import Ints, item_marks, of_items, of_user

MOST_ITEMS = 20_000
FRESH_S = 30.0

Floats32 = NDArray[np.float32]


class About(NamedTuple):
    """What is known of items: values float32[items, features of items], marks int64[items, marks]."""

    values: Floats32
    marks: Ints


class ItemsKnown(Protocol):
    """Where what is known of items comes from."""

    def about(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, bool]:
        """Return what is known of items at a moment, in their order, and whether some of it are only defaults."""
        ...


def of_item(counting: Counting) -> tuple[Feature, ...]:
    """Return the features of items alone, in the order of `About.values`."""
    return tuple(f for f in counting.features if f.entity == "item" and f.source != "history")


def about(counting: Counting, items: Mapping[str, Known], at_ms: int) -> About:
    """Return what the store's records say of items."""
    features = of_item(counting)
    found = of_items(counting, at_ms, list(items.values()), features=features)
    values = np.empty((len(items), len(features)), np.float32)
    for column, feature in enumerate(features):
        values[:, column] = found[feature.name].values
    return About(values, item_marks(counting, items))


class ItemCache:
    """What is known of items, kept between requests. Safe to share between threads.

    What is kept was read at most `fresh_s` seconds ago, and computed for a moment at most that long before the one that
    is asked about. Of more than `most` items those that were read longest ago are forgotten.

    Args:
        counting: What the system counts.
        read: Item ids -> the store's records, in their order; None where it does not answer.
        most: Items kept.
        fresh_s: How old what is kept may be.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        counting: Counting,
        read: Callable[[Sequence[str]], Sequence[Known] | None],
        *,
        most: int = MOST_ITEMS,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counting, self._read = counting, read
        self._fresh_s, self._clock = fresh_s, clock
        width = len(of_item(counting))
        self._values = np.empty((most, width), np.float32)
        self._marks = np.empty((most, len(counting.marks)), np.int64)
        self._read_s = np.full(most, -np.inf)
        self._at_ms = np.zeros(most, np.int64)
        self._slots: dict[str, int] = {}  # those read longest ago first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def about(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, bool]:
        """Return what is known of items at a moment; what has to be read is read in one batch."""
        now_s = self._clock()
        with self._lock:
            slots = np.fromiter((self._slots.get(item_id, -1) for item_id in item_ids), np.int64, len(item_ids))
            age_ms = at_ms - self._at_ms[slots]
            old = (now_s - self._read_s[slots] > self._fresh_s) | (age_ms < 0) | (age_ms > self._fresh_s * 1000)
            missing = np.flatnonzero((slots < 0) | old).tolist()
            found = About(self._values[slots], self._marks[slots])  # copies
        if not missing:
            return found, False
        wanted = list(dict.fromkeys(item_ids[place] for place in missing))
        records = self._read(wanted)
        known = dict(zip(wanted, records or [Known()] * len(wanted), strict=True))
        lost = records is None
        try:
            fresh = about(self._counting, known, at_ms)
        except IntegrityError:
            fresh, lost = about(self._counting, self._sound(known), at_ms), True
        where = {item_id: place for place, item_id in enumerate(wanted)}
        places = [where[item_ids[place]] for place in missing]
        found.values[missing], found.marks[missing] = fresh.values[places], fresh.marks[places]
        if records is not None:
            with self._lock:
                self._keep(wanted, fresh, at_ms, now_s)
        return found, lost

    def _sound(self, items: Mapping[str, Known]) -> dict[str, Known]:
        """Return the records without the counters that cannot be read: what is damaged costs one item, not the list."""
        layout, sound = self._counting.layout("item"), {}
        for item_id, known in items.items():
            try:
                readable = not known.counters or columns(known.counters, layout) is not None
            except IntegrityError:
                readable = False
            sound[item_id] = known if readable else Known(b"", known.attributes)
        return sound

    def _keep(self, item_ids: Sequence[str], fresh: About, at_ms: int, now_s: float) -> None:
        most = len(self._read_s)
        kept = range(max(len(item_ids) - most, 0), len(item_ids))
        slots = [self._slot(item_ids[place]) for place in kept]
        self._values[slots], self._marks[slots] = fresh.values[kept.start :], fresh.marks[kept.start :]
        self._read_s[slots], self._at_ms[slots] = now_s, at_ms

    def _slot(self, item_id: str) -> int:
        slot = self._slots.pop(item_id, None)
        if slot is None:
            full = len(self._slots) == len(self._read_s)
            slot = self._slots.pop(next(iter(self._slots))) if full else len(self._slots)
        self._slots[item_id] = slot
        return slot


@dataclass
class UserKnowledge:
    """`contracts.system.Knowledge` of one user.

    Attributes:
        counting: What the system counts.
        user: What the store says of the user; None where it does not answer.
        items: Where what is known of items comes from; None: nowhere.
        degraded: Whether some of what was given were defaults because the store did not answer.
    """

    counting: Counting
    user: Known | None
    items: ItemsKnown | None
    degraded: bool = False

    def tensor(self, names: Sequence[str], item_ids: Sequence[str], at_ms: int) -> Floats32:
        """Return the features of these names, float32[items, names]."""
        features = [self._feature(name) for name in names]
        known, lost = self._about(item_ids, at_ms)
        self.degraded |= lost or self.user is None
        user = self.user or Known()
        try:
            found = of_user(self.counting, at_ms, user, known.marks, features=features)
        except IntegrityError:
            self.degraded, user = True, Known(b"", user.attributes)
            found = of_user(self.counting, at_ms, user, known.marks, features=features)
        tensor = np.empty((len(item_ids), len(features)), np.float32)
        for column, feature in enumerate(features):
            place = self._places.get(feature.name)
            tensor[:, column] = found[feature.name].values if place is None else known.values[:, place]
        return tensor

    def _about(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, bool]:
        if self.items is not None:
            return self.items.about(item_ids, at_ms)
        return about(self.counting, dict.fromkeys(item_ids, Known()), at_ms), True

    @cached_property
    def _places(self) -> dict[str, int]:
        return {feature.name: place for place, feature in enumerate(of_item(self.counting))}

    def _feature(self, name: str) -> Feature:
        feature = self._features.get(name)
        if feature is None or feature.source == "history":
            raise IntegrityError(f"no model can be asked with {name!r}: it is no feature of counters or attributes")
        return feature

    @cached_property
    def _features(self) -> dict[str, Feature]:
        return {feature.name: feature for feature in self.counting.features}
