"""OnlineStore: what each user did lately; FeatureStore: counters and attributes beside it. Read in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from twinloop.contracts.history import DEFAULT_LENGTH, History, HistoryEntry, fitting, merge_histories, pack, unpack
from twinloop.contracts.tally import Happening, Layout, Tally, add, settle
from twinloop.contracts.tally import pack as pack_tally
from twinloop.contracts.tally import unpack as unpack_tally
from twinloop.errors import BadInputError

_MAX_KEY_BYTES = 2048  # of DynamoDB's partition keys
_LATE = 64  # 512 bytes of a record, and only of one that late events came to

Entity = Literal["user", "item"]
Attributes = Mapping[str, float | str]


class Known(NamedTuple):
    """What is known of an entity: its counters, packed (empty for none), and its attributes.

    `late`: keys of events that were counted when counters remembered younger ones alone, the latest to come last.
    """

    counters: bytes = b""
    attributes: Attributes = {}  # noqa: RUF012 - never changed
    late: tuple[int, ...] = ()


class Recalled(NamedTuple):
    """All that one request needs."""

    history: History
    user: Known
    items: dict[str, Known]


def partition(system: str, entity: str, entity_id: str) -> str:
    """Return under which key stores keep what is known of an entity; raises BadInputError for an id that is none."""
    key = f"{system}#{entity}#{entity_id}"
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise BadInputError(f"{entity} id {entity_id!r} is not valid text") from error
    if not entity_id or size > _MAX_KEY_BYTES:
        raise BadInputError(f"an id of a {entity} has at least one character and fits into a key of 2048 bytes")
    return key


class OnlineStore(Protocol):
    """Histories by system and user. Implementations are safe to share between threads and between processes."""

    def history(self, system: str, user_id: str) -> History:
        """Return what is known of the user, oldest first; empty for a user nothing is known of.

        Raises UnavailableError where the store does not answer and IntegrityError where its bytes cannot be read.
        """
        ...

    def merge(
        self, system: str, user_id: str, entries: Iterable[HistoryEntry], *, length: int = DEFAULT_LENGTH
    ) -> History:
        """Merge entries into the user's history and return it; the same entries again change nothing.

        Raises BadInputError for entries that cannot be stored and UnavailableError where it should be tried again.
        """
        ...

    def merge_many(
        self, system: str, entries: Mapping[str, Iterable[HistoryEntry]], *, length: int = DEFAULT_LENGTH
    ) -> None:
        """Merge into many users' histories, by user id; each as `merge` does, in no particular order."""
        ...


class MemoryOnlineStore:
    """OnlineStore in a dict. It keeps packed bytes, so that it accepts and forgets exactly what the others do."""

    def __init__(self) -> None:
        self._packed: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()

    def history(self, system: str, user_id: str) -> History:
        packed = self._packed.get((system, user_id))
        return unpack(packed) if packed is not None else ()

    def merge(
        self, system: str, user_id: str, entries: Iterable[HistoryEntry], *, length: int = DEFAULT_LENGTH
    ) -> History:
        with self._lock:
            packed = pack(fitting(merge_histories(self.history(system, user_id), entries, length)))
            self._packed[system, user_id] = packed
        return unpack(packed)

    def merge_many(
        self, system: str, entries: Mapping[str, Iterable[HistoryEntry]], *, length: int = DEFAULT_LENGTH
    ) -> None:
        for user_id, theirs in entries.items():
            self.merge(system, user_id, theirs, length=length)


class FeatureStore(OnlineStore, Protocol):
    """An OnlineStore with counters and attributes of users and items. Raises as OnlineStore does."""

    def known(self, system: str, keys: Sequence[tuple[Entity, str]]) -> list[Known]:
        """Return what is known of entities, by (kind, id), in that order."""
        ...

    def recall(self, system: str, user_id: str, item_ids: Sequence[str] = ()) -> Recalled:
        """Return everything about a user and the items asked about, read in one batch."""
        ...

    def count(self, system: str, key: tuple[Entity, str], happenings: Iterable[Happening], layout: Layout) -> Known:
        """Count an entity's events and return what is then known; see `counted` for events that come again."""
        ...

    def settle(self, system: str, key: tuple[Entity, str], lake: Tally, attributes: Attributes, layout: Layout) -> None:
        """Put what the lake knows in the place of what is stored, keeping events that have not reached the lake."""
        ...


class MemoryFeatureStore(MemoryOnlineStore):
    """FeatureStore in a dict, of packed bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[str, Entity, str], Known] = {}

    def known(self, system: str, keys: Sequence[tuple[Entity, str]]) -> list[Known]:
        for key in keys:
            partition(system, *key)  # refuses what no store can keep
        return [self._known.get((system, *key), Known()) for key in keys]

    def recall(self, system: str, user_id: str, item_ids: Sequence[str] = ()) -> Recalled:
        user, *items = self.known(system, [("user", user_id), *(("item", item_id) for item_id in item_ids)])
        return Recalled(self.history(system, user_id), user, dict(zip(item_ids, items, strict=True)))

    def count(self, system: str, key: tuple[Entity, str], happenings: Iterable[Happening], layout: Layout) -> Known:
        with self._lock:
            [before] = self.known(system, [key])
            after = counted(before, happenings, layout)
            self._known[system, *key] = after
        return after

    def settle(self, system: str, key: tuple[Entity, str], lake: Tally, attributes: Attributes, layout: Layout) -> None:
        with self._lock:
            [before] = self.known(system, [key])
            self._known[system, *key] = settled(before, lake, attributes, layout)


def counted(before: Known, happenings: Iterable[Happening], layout: Layout) -> Known:
    """Return an entity's record with events counted; the very same one where nothing is new.

    An event that comes again changes nothing as long as counters remember it, or it is among the 64 that came last of
    those that came too late to be remembered.
    """
    tally = unpack_tally(before.counters, layout) if before.counters else Tally()
    late = before.late if tally.recent else ()  # what counters of other measures counted, these have not
    fresh = [happening for happening in happenings if happening.key not in late]
    after = add(tally, fresh, layout)
    if after is tally:
        return before
    full = len(tally.recent) >= layout.memory
    came = (happening.key for happening in fresh if full and happening < tally.recent[0])
    return before._replace(counters=pack_tally(after, layout), late=tuple(dict.fromkeys((*late, *came)))[-_LATE:])


def settled(before: Known, lake: Tally, attributes: Attributes, layout: Layout) -> Known:
    """Return an entity's record as the lake has it, with the events that are not in the lake yet."""
    live = unpack_tally(before.counters, layout) if before.counters else Tally()
    tally = settle(lake, live, layout)
    return Known(pack_tally(tally, layout) if tally.recent else b"", dict(attributes), before.late)
