"""OnlineStore on DynamoDB: one item per user, written only while nobody else has written it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twinloop.aws.records import PATIENT, Records, entity_key
from twinloop.contracts.history import DEFAULT_LENGTH, History, HistoryEntry, fitting, merge_histories, pack, unpack
from twinloop.errors import IntegrityError

HISTORY = "history"
_PARALLEL_WRITES = 16


class DynamoOnlineStore:
    """Histories in the shared table: `pk` `<system>#user#<user_id>`, `sk` `history`, packed in `data`.

    Args:
        table: The table's name.
        dynamodb: A boto3 client; the process's shared one by default.
        clock: Seconds since the epoch.
        attempts: How often a batch is asked for while DynamoDB leaves some of it undone.
    """

    def __init__(
        self,
        table: str,
        dynamodb: Any | None = None,
        clock: Callable[[], float] = time.time,
        *,
        attempts: int = PATIENT,
    ) -> None:
        self.table = table
        self._records = Records(table, dynamodb, clock, attempts=attempts)

    def history(self, system: str, user_id: str) -> History:
        return read_history(self._records.read(entity_key(system, "user", user_id, HISTORY))[0])

    def merge(
        self, system: str, user_id: str, entries: Iterable[HistoryEntry], *, length: int = DEFAULT_LENGTH
    ) -> History:
        entries = tuple(entries)

        def merged(item: dict[str, Any]) -> tuple[dict[str, Any] | None, History]:
            known = read_history(item)
            packed = pack(fitting(merge_histories(known, entries, length)))
            after = unpack(packed)
            return (None, known) if after == known else ({"data": {"B": packed}}, after)

        return self._records.change(entity_key(system, "user", user_id, HISTORY), merged)

    def merge_many(
        self, system: str, entries: Mapping[str, Iterable[HistoryEntry]], *, length: int = DEFAULT_LENGTH
    ) -> None:
        def merge_one(item: tuple[str, Iterable[HistoryEntry]]) -> None:
            self.merge(system, item[0], item[1], length=length)

        with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
            for _ in pool.map(merge_one, entries.items()):
                pass  # raises here what a writer raised


def read_history(item: Mapping[str, Any]) -> History:
    """Return the history of an item's attributes; raises IntegrityError where they hold none that can be read."""
    return unpack(packed_data(item)) if item else ()


def packed_data(item: Mapping[str, Any]) -> bytes:
    """Return the bytes of an item's `data`; raises IntegrityError where there are none."""
    data = item.get("data")
    packed = data.get("B") if isinstance(data, Mapping) else None
    if not isinstance(packed, bytes):
        raise IntegrityError(
            f"the record at {item.get('pk')} {item.get('sk')} has no bytes in `data`; delete it, and it is made anew"
        )
    return packed
