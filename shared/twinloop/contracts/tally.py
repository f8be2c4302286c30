"""Counters of an entity's events: the latest events one by one, everything before them in buckets of time.

`add` takes events in any order. Distinct events end in the same tally in whatever order they come, late ones included.
An event that comes again changes nothing as long as it is among the `memory` latest of its entity (by time, then key);
after that a tally does not remember it, and it would count again (`features/stores.py` knows those that come late).
What is older than the longest window is forgotten.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from twinloop.errors import BadInputError, IntegrityError

HOUR_MS = 3_600_000
NEVER = -(2**63)

_VERSION = 1
_HEADER = struct.Struct("<BIIHHHI")  # version, layout, recent, measures, marks, spans, buckets
_LIMIT = 4_000_000  # bytes; no tally that was ever written is larger
_DAMAGED = (
    "stored counters are damaged; delete their item from the table and let the snapshot function write it again: "
    '{"action": "materialise", "system": ...}'
)


class Happening(NamedTuple):
    """An event as counters see it; ordered by time, then key."""

    time_ms: int
    key: int
    amounts: tuple[int, ...]
    marks: tuple[int, ...] = ()


class Layout(NamedTuple):
    """How an entity's counters are kept.

    Attributes:
        measures: Number of amounts of an event.
        marks: Number of marks of an event.
        memory: Events remembered one by one.
        spans: (length of a bucket in ms, 0 for all time; how many buckets before the newest are kept).
        identity: Of the measures' and marks' names: counters of other ones cannot be read as these.
    """

    measures: int
    marks: int
    memory: int
    spans: tuple[tuple[int, int], ...]
    identity: int


@dataclass(frozen=True)
class Tally:
    """An entity's counters.

    Attributes:
        recent: The latest events, oldest first.
        buckets: (bucket's length, its number) -> sums of the amounts of all events before the recent ones.
        last: By measure, the latest time of an event before the recent ones with something of it, or NEVER.
        latest: The latest time of any event before the recent ones, or NEVER.
    """

    recent: tuple[Happening, ...] = ()
    buckets: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    last: tuple[int, ...] = ()
    latest: int = NEVER


def identity(names: Sequence[str]) -> int:
    """Return 32 bits that tell lists of names apart."""
    return zlib.crc32("\n".join(names).encode())


def key_of(text: str) -> int:
    """Return 64 bits of an id; DuckDB's `md5_number_upper`."""
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8], "little")


@lru_cache(100_000)
def mark_of(text: str | None) -> int:
    """Return 32 bits of an attribute's value, 0 for none."""
    return 0 if text is None else key_of(text) & 0xFFFFFFFF


def bucket_of(time_ms: int, bucket_ms: int) -> int:
    """Return the number of the bucket that holds a time."""
    return time_ms // bucket_ms if bucket_ms else 0


def add(tally: Tally, happenings: Iterable[Happening], layout: Layout) -> Tally:
    """Return the tally with events counted that it does not remember; the very same one where there is nothing new."""
    known = {happening.key for happening in tally.recent}
    fresh = {happening.key: happening for happening in happenings if happening.key not in known}
    if not fresh:
        return tally
    ordered = sorted((*tally.recent, *fresh.values()))
    cut = max(len(ordered) - layout.memory, 0)
    buckets, last, latest = dict(tally.buckets), list(tally.last or [NEVER] * layout.measures), tally.latest
    for happening in ordered[:cut]:
        latest = max(latest, happening.time_ms)
        for measure, amount in enumerate(happening.amounts):
            if amount:
                last[measure] = max(last[measure], happening.time_ms)
        for length, _ in layout.spans:
            place = (length, bucket_of(happening.time_ms, length))
            sums = buckets.get(place) or (0,) * layout.measures
            buckets[place] = tuple(a + b for a, b in zip(sums, happening.amounts, strict=True))
    return Tally(tuple(ordered[cut:]), _kept(buckets, ordered[-1].time_ms, layout), tuple(last), latest)


def settle(lake: Tally, live: Tally, layout: Layout) -> Tally:
    """Return the lake's tally with the events that have not reached the lake yet.

    Events older than the lake's recent ones are believed to be in it. Whatever the live one had counted twice, or had
    missed, is mended.
    """
    floor = lake.recent[0] if len(lake.recent) >= layout.memory else None
    return add(lake, [h for h in live.recent if floor is None or h > floor], layout)


def pack(tally: Tally, layout: Layout) -> bytes:
    """Return a tally's bytes: a header with version and layout, then compressed columns.

    Raises BadInputError for an event that has no place in the format.
    """
    recent, places = tally.recent, sorted(tally.buckets)
    amounts = [amount for happening in recent for amount in happening.amounts]
    marks = [mark for happening in recent for mark in happening.marks]
    sums = [amount for place in places for amount in tally.buckets[place]]
    try:
        body = b"".join(
            (
                struct.pack(f"<{len(recent)}q", *(happening.time_ms for happening in recent)),
                struct.pack(f"<{len(recent)}Q", *(happening.key for happening in recent)),
                struct.pack(f"<{len(amounts)}I", *amounts),
                struct.pack(f"<{len(marks)}I", *marks),
                struct.pack(f"<{layout.measures + 1}q", *(tally.last or [NEVER] * layout.measures), tally.latest),
                struct.pack(f"<{len(places)}q", *(length for length, _ in places)),
                struct.pack(f"<{len(places)}q", *(number for _, number in places)),
                struct.pack(f"<{len(sums)}q", *sums),
            )
        )
        sizes = len(recent), layout.measures, layout.marks, len(layout.spans), len(places)
        head = _HEADER.pack(_VERSION, layout.identity, *sizes)
    except struct.error as error:
        raise BadInputError(f"an event's amounts or time are out of range: {error}") from error
    if len(amounts) != len(recent) * layout.measures or len(marks) != len(recent) * layout.marks:
        raise BadInputError("an event has not as many amounts or marks as its system counts")
    return head + zlib.compress(body, 1)


class Columns(NamedTuple):
    """A tally's bytes, cut into its columns; little-endian, one after the other as `pack` put them."""

    recent: int
    measures: int
    marks: int
    buckets: int
    body: bytes


def columns(data: bytes, layout: Layout) -> Columns | None:
    """Return what `pack` wrote, opened; None where it counts other things, as before a change of the measures.

    Raises IntegrityError for bytes of another version or damaged ones.
    """
    try:
        version, written, recent, measures, marks, _, buckets = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise IntegrityError(
                f"stored counters have format version {version}, this code reads version {_VERSION}; "
                "deploy code that knows it; what wrote them is newer than what reads them"
            )
        if written != layout.identity:
            return None
        opener = zlib.decompressobj()
        body = opener.decompress(data[_HEADER.size :], _LIMIT)
    except (struct.error, zlib.error) as error:
        raise IntegrityError(_DAMAGED) from error
    size = recent * (16 + 4 * measures + 4 * marks) + 8 * (measures + 1) + buckets * (16 + 8 * measures)
    if len(body) != size or not opener.eof or opener.unused_data:
        raise IntegrityError(_DAMAGED)
    return Columns(recent, measures, marks, buckets, body)


def unpack(data: bytes, layout: Layout) -> Tally:
    """Return the tally that `pack` wrote; an empty one where it counts other things. Raises as `columns` does."""
    found = columns(data, layout)
    if found is None:
        return Tally()
    n, measures, marks, buckets, body = found
    at = 0

    def take(kind: str, count: int) -> tuple[int, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{count}{kind}", body, at)
        at += struct.calcsize(f"<{count}{kind}")
        return values

    times, keys = take("q", n), take("Q", n)
    amounts, marked = take("I", n * measures), take("I", n * marks)
    *last, latest = take("q", measures + 1)
    lengths, numbers, sums = take("q", buckets), take("q", buckets), take("q", buckets * measures)
    recent = tuple(
        Happening(
            times[i],
            keys[i],
            amounts[i * measures : (i + 1) * measures],
            marked[i * marks : (i + 1) * marks],
        )
        for i in range(n)
    )
    places = zip(lengths, numbers, strict=True)
    held = {place: sums[i * measures : (i + 1) * measures] for i, place in enumerate(places)}
    return Tally(recent, held, tuple(last), latest)


def _kept(
    buckets: Mapping[tuple[int, int], tuple[int, ...]], newest_ms: int, layout: Layout
) -> dict[tuple[int, int], tuple[int, ...]]:
    """The buckets that some window can still reach."""
    spans = dict(layout.spans)
    return {
        (length, number): sums
        for (length, number), sums in buckets.items()
        if length in spans and (not length or number >= bucket_of(newest_ms, length) - spans[length])
    }
