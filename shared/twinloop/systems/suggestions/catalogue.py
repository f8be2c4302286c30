"""The events that a release can suggest, as an asset beside its model: written by jobs, read by serving."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import IntegrityError, TooLargeError
from twinloop.features import geography as geo

FILE = "catalogue.json.gz"
MOST_EVENTS = 100_000
MOST_ORGANIZERS = 100_000
_MOST_BYTES = 200_000_000  # unpacked; what a hundred thousand events take is a tenth of it
_NUMBERS = ("lat", "lon", "starts_ms", "offset_min", "published_ms", "price", "capacity")
RECORD = ("organizer_held", "organizer_came", "organizer_dropped", "organizer_views", "organizer_yeses")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Catalogue:
    """Columns, one row an event, in the order of their start.

    Attributes:
        ids: item_id of each. titles: Likewise.
        numbers: Name -> float64[events], the facts of an event; NaN where unknown.
        topics: The topics of each, as they were written.
        organizer: The organiser of each; None where nobody told.
        records: Organiser -> `RECORD`: of what they held before, as far as it was known when the models were learnt.
        points: float64[events, 3], places as `geography.points` has them.
        place: item_id -> row.
        about: Topic -> int32[events of it], their rows, each once.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    numbers: Mapping[str, Floats]
    topics: tuple[tuple[str, ...], ...]
    organizer: tuple[str | None, ...]
    records: Mapping[str, tuple[float, ...]]
    points: Floats = field(repr=False)
    place: Mapping[str, int] = field(repr=False)
    about: Mapping[str, NDArray[np.int32]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def upcoming(self, after_ms: int, until_ms: float) -> slice:
        """Return the rows of events that start after a moment, at the latest at another one."""
        starts = self.numbers["starts_ms"]
        first, last = np.searchsorted(starts, [after_ms, until_ms], side="right").tolist()
        return slice(first, max(first, last))

    def shared(self, liked: Set[str]) -> NDArray[np.int32]:
        """Return how many different topics of each event somebody likes, int32[events]."""
        found = np.zeros(len(self), np.int32)
        for topic in liked:
            rows = self.about.get(topic)
            if rows is not None:
                found[rows] += 1  # each row is there once
        return found

    def among(self, item_ids: Iterable[str]) -> NDArray[np.bool_]:
        """Return which events are among some, bool[events]; those that are unknown are none."""
        found = np.zeros(len(self), np.bool_)
        found[[self.place[item_id] for item_id in item_ids if item_id in self.place]] = True
        return found


def pack(items: Iterable[Mapping[str, Any]], records: Mapping[str, Sequence[float]], *, since_ms: int) -> bytes:
    """Return the file's bytes: of items as a snapshot has them, those that start later and were not called off.

    Of more than MOST_EVENTS those that start first. The same items give the same bytes. Records are kept also of
    organisers who hold nothing at present: a refresh may bring something of theirs.
    """
    coming = [row for row in items if (row.get("starts_ms") or 0) > since_ms and not row.get("cancelled")]
    coming = sorted(coming, key=lambda row: (row["starts_ms"], row["item_id"]))[:MOST_EVENTS]
    lon = [_number(row.get("lon")) for row in coming]
    ahead = geo.offsets([row.get("time_zone") for row in coming], lon, [row["starts_ms"] for row in coming])
    topics = sorted({topic for row in coming for topic in row.get("topics") or ()})
    numbered = {topic: place for place, topic in enumerate(topics)}
    columns = {name: [row.get(name) for row in coming] for name in _NUMBERS if name != "offset_min"}
    organizers: list[Any] = [row.get("organizer_id") for row in coming]
    body = {
        "ids": [row["item_id"] for row in coming],
        "titles": [" ".join((row.get("title") or row["item_id"]).split()) for row in coming],
        **columns,
        "offset_min": [None if np.isnan(minutes) else int(minutes) for minutes in ahead],
        "topic_names": topics,
        "topics": [list(dict.fromkeys(numbered[topic] for topic in row.get("topics") or ())) for row in coming],
        "organizers": organizers,
        "records": _kept(records, set(organizers)),
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode("utf-8", errors="surrogatepass"), mtime=0)


def _kept(records: Mapping[str, Sequence[float]], coming: Set[str | None]) -> dict[str, list[float]]:
    """Return the records that say something; of more than MOST_ORGANIZERS those of events that come, then by views."""
    views = RECORD.index("organizer_views")
    told = [name for name, record in records.items() if any(record)]
    told = sorted(told, key=lambda name: (name not in coming, -records[name][views], name))[:MOST_ORGANIZERS]
    return {name: [float(number) for number in records[name]] for name in sorted(told)}


def changed(before: Catalogue, after: Catalogue, since_ms: int) -> list[str]:
    """Return the events that only one of two catalogues has, or that are others in it: of those that start later."""
    old, new = (dict(_rows(one, since_ms)) for one in (before, after))
    return sorted(item for item in old.keys() | new.keys() if old.get(item) != new.get(item))


def _rows(of: Catalogue, since_ms: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield each event that starts later, with all that is known of it; NaN, which equals nothing, as None."""
    columns = [of.numbers[name].tolist() for name in _NUMBERS]
    for row in range(len(of))[of.upcoming(since_ms, float("inf"))]:
        numbers = (column[row] for column in columns)
        known = (None if number != number else number for number in numbers)  # noqa: PLR0124 - NaN
        yield of.ids[row], (of.titles[row], of.topics[row], of.organizer[row], *known)


def unpack(data: bytes) -> Catalogue:
    """Return the catalogue of a file; raises IntegrityError where it is none, TooLargeError past what is written."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(data, _MOST_BYTES)
        if unpacker.unconsumed_tail:
            raise TooLargeError(f"{FILE} unfolds to more than {_MOST_BYTES} bytes")
        body = json.loads(text.decode("utf-8", errors="surrogatepass"))
        return _catalogue(body)
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{FILE} of the release cannot be read ({error!r}); learn anew") from error


def _catalogue(body: Mapping[str, Any]) -> Catalogue:
    ids, names = tuple(map(str, body["ids"])), [str(name) for name in body["topic_names"]]
    numbers = {name: np.array([_number(value) for value in body[name]], np.float64) for name in _NUMBERS}
    topics = tuple(tuple(names[place] for place in places) for places in body["topics"])
    catalogue = Catalogue(
        ids=ids,
        titles=tuple(map(str, body["titles"])),
        numbers=numbers,
        topics=topics,
        organizer=tuple(None if name is None else str(name) for name in body["organizers"]),
        records={name: _record(values) for name, values in body["records"].items()},
        points=geo.points(numbers["lat"], numbers["lon"]),
        place={item_id: place for place, item_id in enumerate(ids)},
        about=_about(topics),
    )
    rows = (catalogue.titles, catalogue.topics, catalogue.organizer, *numbers.values())
    if any(len(column) != len(ids) for column in rows) or len(catalogue.place) != len(ids):
        raise ValueError("columns of different lengths, or an event that is there twice")
    if not (np.diff(numbers["starts_ms"]) >= 0).all():  # also where a start is not known
        raise ValueError("events that are not in the order of their start")
    return catalogue


def _about(topics: Sequence[Sequence[str]]) -> dict[str, NDArray[np.int32]]:
    rows: dict[str, list[int]] = {}
    for row, of in enumerate(topics):
        for topic in set(of):
            rows.setdefault(topic, []).append(row)
    return {topic: np.array(found, np.int32) for topic, found in rows.items()}


def _record(values: Sequence[Any]) -> tuple[float, ...]:
    if len(values) != len(RECORD):
        raise ValueError(f"a record of {len(values)} numbers, not of {len(RECORD)}")
    return tuple(map(float, values))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
