"""OnlineStore: what each user did lately, readable in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

from twinloop.contracts.history import DEFAULT_LENGTH, History, HistoryEntry, fitting, merge_histories, pack, unpack


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
