"""What an entity did lately: the one value kept online, its merge, and its bytes.

A history is a tuple of entries in the order (time_ms, item_id), without two entries of the same item and time, of
bounded length. Batch materialisation and live updates may meet in any order, any number of times: `merge_histories`
is commutative, associative and idempotent, so the result is the same.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import NamedTuple

from twinloop.errors import BadInputError, IntegrityError, TooLargeError

POSITIVE = 0.5  # an entry of at least this strength is a positive one
DEFAULT_LENGTH = 200
MAX_ID_BYTES = 1024
MAX_PACKED_BYTES = 380_000  # a DynamoDB item holds 400 KB with its keys and other attributes

_VERSION = 1
_DAMAGED = (
    "a stored history is damaged; delete its item from the table and let the snapshot function write it again: "
    '{"action": "materialise", "system": ...}'
)
_HEADER = struct.Struct("<BI")  # format version, number of entries
_ENTRY_BYTES = 14  # time, strength and length of the id; the id itself comes on top


class HistoryEntry(NamedTuple):
    """One thing an entity did: with which item, when (epoch milliseconds), and how much it speaks for the item."""

    item_id: str
    time_ms: int
    strength: float

    @property
    def positive(self) -> bool:
        """Whether the entry speaks for the item."""
        return self.strength >= POSITIVE


History = tuple[HistoryEntry, ...]


def merge_histories(a: Iterable[HistoryEntry], b: Iterable[HistoryEntry], length: int = DEFAULT_LENGTH) -> History:
    """Return the latest `length` entries of both, oldest first.

    Entries of one item and time are one entry with the greater strength. Neither input needs to be ordered.
    """
    merged: dict[tuple[int, str], float] = {}
    for entries in (a, b):
        for item_id, time_ms, strength in entries:
            key = (time_ms, item_id)
            known = merged.get(key)
            if known is None or strength > known:
                merged[key] = strength
    latest = sorted(merged)[-length:] if length > 0 else []
    return tuple(HistoryEntry(item_id, time_ms, merged[time_ms, item_id]) for time_ms, item_id in latest)


def fitting(history: History) -> History:
    """Return the latest entries that `pack` takes: all of them but for somebody whose items have very long ids.

    The oldest give way. For such a user the order of updates may decide which of the oldest entries is left.
    """
    room = MAX_PACKED_BYTES - _HEADER.size - _ENTRY_BYTES * len(history)
    if 4 * sum(len(entry.item_id) for entry in history) <= room:  # no character takes more than 4 bytes
        return history
    room = MAX_PACKED_BYTES - _HEADER.size
    for kept, entry in enumerate(reversed(history)):
        room -= _ENTRY_BYTES + len(_id_bytes(entry.item_id))
        if room < 0:
            return history[len(history) - kept :]
    return history


def pack(history: Iterable[HistoryEntry]) -> bytes:
    """Return the bytes of a history: version, count, times, strengths (single precision), id lengths, ids.

    Raises BadInputError for an entry that has no place in the format and TooLargeError past the store's item size.
    """
    entries = tuple(history)
    ids = [_id_bytes(entry.item_id) for entry in entries]
    if not all(math.isfinite(entry.strength) for entry in entries):
        raise BadInputError("a history entry's strength must be a finite number")
    count = len(entries)
    try:
        head = _HEADER.pack(_VERSION, count)
        times = struct.pack(f"<{count}q", *(entry.time_ms for entry in entries))
        strengths = struct.pack(f"<{count}f", *(entry.strength for entry in entries))
    except (struct.error, OverflowError) as error:
        raise BadInputError(f"a history entry is out of range: {error}") from error
    packed = b"".join((head, times, strengths, struct.pack(f"<{count}H", *map(len, ids)), *ids))
    if len(packed) > MAX_PACKED_BYTES:
        raise TooLargeError(
            f"a history of {count} entries takes {len(packed)} bytes, over {MAX_PACKED_BYTES}; "
            "keep fewer entries (history_length) or shorten the item ids"
        )
    return packed


def unpack(data: bytes) -> History:
    """Return the history that `pack` wrote; raises IntegrityError for bytes of another version or damaged ones."""
    if not data:
        raise IntegrityError(_DAMAGED)
    if data[0] != _VERSION:
        raise IntegrityError(
            f"a stored history has format version {data[0]}, this code reads version {_VERSION}; "
            "deploy code that knows it; what wrote the history is newer than what reads it"
        )
    try:
        _, count = _HEADER.unpack_from(data)
        offset = _HEADER.size
        times = struct.unpack_from(f"<{count}q", data, offset)
        strengths = struct.unpack_from(f"<{count}f", data, offset + 8 * count)
        lengths = struct.unpack_from(f"<{count}H", data, offset + 12 * count)
        position = offset + 14 * count
        entries = []
        for time_ms, strength, size in zip(times, strengths, lengths, strict=True):
            entries.append(HistoryEntry(data[position : position + size].decode(), time_ms, strength))
            position += size
    except (struct.error, UnicodeDecodeError, MemoryError) as error:
        raise IntegrityError(_DAMAGED) from error
    if position != len(data):
        raise IntegrityError(_DAMAGED)
    return tuple(entries)


def _id_bytes(item_id: str) -> bytes:
    try:
        encoded = item_id.encode()
    except UnicodeEncodeError as error:
        raise BadInputError(f"item id {item_id!r} is not valid text") from error
    if not encoded or len(encoded) > MAX_ID_BYTES:
        raise BadInputError(f"an item id has 1 to {MAX_ID_BYTES} bytes, this one has {len(encoded)}")
    return encoded
