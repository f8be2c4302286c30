"""What is known of a user and of many items at a moment, as the tensor that a model is asked with.

A request pays for arrays: items' values are computed when they are read, and kept for half a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.tally import columns, mark_of
from twinloop.errors import IntegrityError
from twinloop.features.stores import Known
from twinloop.features.values import Ints, doing, item_marks, of_items, of_user

MOST_ITEMS = 20_000
FRESH_S = 30.0
PRESENT_MS = 5_000  # so near the clock's time a moment is the present: a request may wait that long for its stores

Floats32 = NDArray[np.float32]
Objects = NDArray[Any]


class About(NamedTuple):
    """What is known of items.

    Attributes:
        values: float32[items, features of items].
        marks: int64[items, marks].
        texts: str or None, [items, attributes of items], in the order of `Counting.attributes`; None also for what is a
            number.
    """

    values: Floats32
    marks: Ints
    texts: Objects


class ItemsKnown(Protocol):
    """Where what is known of items comes from."""

    def about(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, bool]:
        """Return what is known of items at a moment, in their order, and whether some of it are only defaults."""
        ...

    def texts(self, item_ids: Sequence[str]) -> tuple[Objects, bool]:
        """Return `About.texts` of items at present, and whether some of it is missing for want of an answer."""
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
    return About(values, item_marks(counting, items), _texts(counting, items))


def _texts(counting: Counting, items: Mapping[str, Known]) -> Objects:
    names = tuple(counting.attributes.get("items", {}))
    texts = np.empty((len(items), len(names)), object)
    for row, item in enumerate(items.values()):
        for column, name in enumerate(names):
            value = item.attributes.get(name)
            texts[row, column] = value if isinstance(value, str) else None
    return texts


class ItemCache:
    """What is known of items at present, kept between requests. Safe to share between threads.

    What is kept was read at most `fresh_s` seconds ago, and computed for the present of then: requests that overlap in
    threads share it, whichever was begun first, so of what happened to an item in those few milliseconds a request may
    be told although it began before. A moment that is not the present (`PRESENT_MS`) is read and computed for itself:
    the past is never told of the present, and leaves what is kept alone, as does the future. Of more than `most` items
    those that were read longest ago are forgotten. Neither defaults for want of an answer nor what stands in for a
    record that cannot be read are kept.

    Args:
        counting: What the system counts.
        read: Item ids -> the store's records, in their order; None where it does not answer.
        most: Items kept.
        fresh_s: How old what is kept may be.
        clock: Seconds, monotonic.
        now_ms: The present, epoch milliseconds.
    """

    def __init__(
        self,
        counting: Counting,
        read: Callable[[Sequence[str]], Sequence[Known] | None],
        *,
        most: int = MOST_ITEMS,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._counting, self._read = counting, read
        self._fresh_s, self._clock, self._now_ms = fresh_s, clock, now_ms
        width = len(of_item(counting))
        self._values = np.empty((most, width), np.float32)
        self._marks = np.empty((most, len(counting.marks)), np.int64)
        self._texts = np.empty((most, len(counting.attributes.get("items", {}))), object)
        self._read_s = np.full(most, -np.inf)
        self._slots: dict[str, int] = {}  # those read longest ago first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def about(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, bool]:
        """Return what is known of items at a moment; what has to be read is read in one batch."""
        if abs(at_ms - self._now_ms()) > PRESENT_MS:
            wanted = list(dict.fromkeys(item_ids))
            fresh, lost = self._ask(wanted, at_ms)
            return _in_order(fresh, wanted, item_ids), lost is None or bool(lost)
        now_s = self._clock()
        with self._lock:
            slots = np.fromiter((self._slots.get(item_id, -1) for item_id in item_ids), np.int64, len(item_ids))
            missing = np.flatnonzero((slots < 0) | (now_s - self._read_s[slots] > self._fresh_s)).tolist()
            found = About(self._values[slots], self._marks[slots], self._texts[slots])  # copies
        if not missing:
            return found, False
        wanted = list(dict.fromkeys(item_ids[place] for place in missing))
        fresh, lost = self._ask(wanted, at_ms)
        asked = _in_order(fresh, wanted, [item_ids[place] for place in missing])
        found.values[missing], found.marks[missing], found.texts[missing] = asked
        if lost is not None:
            with self._lock:
                self._keep(wanted, fresh, lost, now_s)
        return found, lost is None or bool(lost)

    def texts(self, item_ids: Sequence[str]) -> tuple[Objects, bool]:
        """Return items' texts; those whose features were just asked for are not read again."""
        found, lost = self.about(item_ids, self._now_ms())
        return found.texts, lost

    def _ask(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, set[str] | None]:
        """Return what the store says, and whose counters are defaults since they cannot be read; None: everybody's."""
        records = self._read(item_ids)
        if records is None:
            return about(self._counting, dict.fromkeys(item_ids, Known()), at_ms), None
        known = dict(zip(item_ids, records, strict=True))
        try:
            return about(self._counting, known, at_ms), set()
        except IntegrityError:
            damaged = {item_id for item_id, record in known.items() if not self._sound(record)}
            known |= {item_id: Known(b"", known[item_id].attributes) for item_id in damaged}
            return about(self._counting, known, at_ms), damaged

    def _sound(self, known: Known) -> bool:
        """Say whether a record's counters can be read: what is damaged costs one item, not the list."""
        try:
            if known.counters:
                columns(known.counters, self._counting.layout("item"))
        except IntegrityError:
            return False
        return True

    def _keep(self, item_ids: Sequence[str], fresh: About, damaged: set[str], now_s: float) -> None:
        sound = [place for place, item_id in enumerate(item_ids) if item_id not in damaged][-len(self._read_s) :]
        slots = [self._slot(item_ids[place]) for place in sound]
        self._values[slots], self._marks[slots] = fresh.values[sound], fresh.marks[sound]
        self._texts[slots] = fresh.texts[sound]
        self._read_s[slots] = now_s

    def _slot(self, item_id: str) -> int:
        slot = self._slots.pop(item_id, None)
        if slot is None:
            full = len(self._slots) == len(self._read_s)
            slot = self._slots.pop(next(iter(self._slots))) if full else len(self._slots)
        self._slots[item_id] = slot
        return slot


@dataclass(frozen=True)
class NoItems:
    """`ItemsKnown` where users are asked about by themselves: of items there are defaults, and none is missing."""

    counting: Counting

    def about(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, bool]:
        return about(self.counting, dict.fromkeys(item_ids, Known()), at_ms), False

    def texts(self, item_ids: Sequence[str]) -> tuple[Objects, bool]:
        return _texts(self.counting, dict.fromkeys(item_ids, Known())), False


def _in_order(known: About, of: Sequence[str], wanted: Sequence[str]) -> About:
    """Return what is known of `of` for each of the items wanted, which may name one twice."""
    where = {item_id: place for place, item_id in enumerate(of)}
    places = [where[item_id] for item_id in wanted]
    return About(known.values[places], known.marks[places], known.texts[places])


@dataclass
class UserKnowledge:
    """`contracts.system.Knowledge` of one user.

    Attributes:
        counting: What the system counts.
        user: What the store says of the user; None where it does not answer.
        items: Where what is known of items comes from; None: nowhere.
        degraded: Whether some of what was given were defaults because the store did not answer.
        users: User ids -> the store's records, in their order; None where it does not answer. None: nobody is asked.
    """

    counting: Counting
    user: Known | None
    items: ItemsKnown | None
    degraded: bool = False
    users: Callable[[Sequence[str]], Sequence[Known] | None] | None = None

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

    def texts(self, names: Sequence[str], item_ids: Sequence[str]) -> list[tuple[str | None, ...]]:
        """Return text attributes, one tuple an item; those of the latest row, whatever the moment."""
        places = [self._text_place(name) for name in names]
        own = {} if self.user is None else self.user.attributes
        texts = np.empty((len(item_ids), len(names)), object)
        asked = any(place is not None for place in places)
        of_items, lost = self._texts(item_ids) if asked else (texts, False)
        self.degraded |= lost
        for column, (name, place) in enumerate(zip(names, places, strict=True)):
            if place is None:
                value = own.get(name.removeprefix("users."))
                texts[:, column] = value if isinstance(value, str) else None
                self.degraded |= self.user is None
            else:
                texts[:, column] = of_items[:, place]
        return list(map(tuple, texts.tolist()))

    def others_doing(
        self, user_ids: Sequence[str], item_ids: Sequence[str], at_ms: int, *, of: str, against: str
    ) -> Ints:
        """Return how many of some users do something with each item: int64[items], and nothing of who they are.

        A user does where `of` is what they last did with the item, and not `against` (both measures). What cannot be
        read counts as nothing, and marks this as degraded.
        """
        nothing = np.zeros(len(item_ids), np.int64)
        if not user_ids or not item_ids:
            return nothing
        records = None if self.users is None else self.users(user_ids)
        if records is None:
            self.degraded = True
            return nothing
        marks = np.array([mark_of(item_id) for item_id in item_ids], np.int64)
        try:
            return doing(self.counting, records, at_ms, marks, of=of, against=against)
        except IntegrityError:
            self.degraded = True
            return nothing

    def _texts(self, item_ids: Sequence[str]) -> tuple[Objects, bool]:
        if self.items is not None:
            return self.items.texts(item_ids)
        return _texts(self.counting, dict.fromkeys(item_ids, Known())), True

    def _text_place(self, name: str) -> int | None:
        """The column of an attribute of items; None for one of the user."""
        table, _, attribute = name.partition(".")
        names = tuple(self.counting.attributes.get(table, {}))
        if attribute not in names:
            raise IntegrityError(f"no model can be asked with the text {name!r}: it is no attribute of users or items")
        return names.index(attribute) if table == "items" else None

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
