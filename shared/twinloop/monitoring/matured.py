"""What releases said of showings, out of the prediction log, with what came of them, out of the lake."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from twinloop.contracts.live import LiveSettings
from twinloop.contracts.segments import segment_value
from twinloop.contracts.system import System
from twinloop.errors import NotFoundError
from twinloop.features import lake
from twinloop.features.outcomes import load_labelled
from twinloop.monitoring.log import BUFFERED, days, delivered_after, log_keys
from twinloop.ports import ObjectStore

MOST_BYTES = 256 * 2**20
_PARALLEL_READS = 4  # objects may have 16 MB
_LONGEST_LINE, _LONGEST_ID, _LONGEST_VERSION = 1_000_000, 256, 100
# An answer is logged before it is shown, but by how much is the application's to say.
_SHOWN_LATE = timedelta(hours=1)


class Showings(NamedTuple):
    """Showings of one release whose outcome is known, latest first.

    Attributes:
        said: What the release itself said, float64[N].
        came: 0 or 1, float64[N].
        times_ms: When they were shown, int64[N].
        facts: Of `LiveSettings.facts` -> the value of each, None where it was not told.
    """

    said: NDArray[np.float64]
    came: NDArray[np.float64]
    times_ms: NDArray[np.int64]
    facts: Mapping[str, Sequence[str | None]]


@dataclass
class Read:
    """What was read of the log.

    Attributes:
        objects: Objects.
        size: Their bytes.
        lines: Answers that can be used.
        left_out: Answers of a fallback, or that were degraded: they say little about a release.
        damaged: Lines that are no answers.
        whole: No object was left unread for want of room.
    """

    objects: int = 0
    size: int = 0
    lines: int = 0
    left_out: int = 0
    damaged: int = 0
    whole: bool = True


def matured(
    system: System,
    objects: ObjectStore,
    settings: LiveSettings,
    *,
    now: datetime,
    work: Path,
    memory_mb: int = 1024,
    threads: int = 2,
    most_bytes: int = MOST_BYTES,
) -> tuple[dict[str, Showings], Read]:
    """Return the showings of the last window that nobody waits for any more, by release.

    A showing is an impression whose `request_id` is the id of an answer that has the item. It is waited for until the
    system's label window is over, by the clock and by the latest event in the lake: clicks come there no sooner than
    impressions do. An answer, an event and an item shown twice in one answer count once.

    Args:
        system: One with outcomes.
        objects: Where `lake/` and `predictions/` are.
        settings: Which field, facts and window.
        now: The moment.
        work: An empty folder.
        memory_mb: What DuckDB may use; past that it spills to `work`.
        threads: For DuckDB.
        most_bytes: Of the log; the latest that can be of use comes first. The object that reaches it is read whole.

    Raises:
        BadInputError: The lake's events lack a column.
        UnavailableError: The store does not answer.
    """
    read = Read()
    outcomes = system.outcomes
    if outcomes is None:
        return {}, read
    wait = timedelta(milliseconds=outcomes.window_ms)
    begin = now - wait - timedelta(milliseconds=settings.window_ms)
    name = system.spec.name
    # Clocks of applications are wrong by up to a day, and an event's day is the application's to say.
    dates = [f"{day:%Y-%m-%d}" for day in days(begin, now + timedelta(days=1))]
    if not lake.fetch(objects, name, "events", work / "events", dates=dates):
        return {}, read
    connection = lake.open_database(work, memory_mb=memory_mb, threads=threads)
    try:
        span_ms = settings.window_ms + outcomes.window_ms
        until_ms = load_labelled(connection, system, work / "events", now=now, span_ms=span_ms) - outcomes.window_ms
        until = datetime.fromtimestamp(until_ms / 1000, UTC)
        _make_log(connection)
        keys = _keys(objects, name, begin - _SHOWN_LATE, now, until + BUFFERED)
        for body in _bodies(objects, keys, read, most_bytes):
            rows = [row for line in body.splitlines() if (row := _parsed(line, settings, read)) is not None]
            if rows:
                _insert(connection, rows)
        return _joined(connection, settings, until_ms), read
    finally:
        connection.close()


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _keys(objects: ObjectStore, system: str, begin: datetime, now: datetime, enough: datetime) -> list[str]:
    """Keys of the log, latest first; but after all others those of answers that were hardly shown long enough ago."""
    return sorted(log_keys(objects, system, begin, now), key=lambda key: delivered_after(key, enough))  # stable


def _bodies(objects: ObjectStore, keys: Sequence[str], read: Read, most_bytes: int) -> Iterator[bytes]:
    """Yield bodies in the order of their keys, until they have so many bytes."""

    def body(key: str) -> bytes:
        try:
            return objects.read(key).body
        except NotFoundError:
            return b""  # deleted since it was listed

    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        for begin in range(0, len(keys), _PARALLEL_READS):
            for found in pool.map(body, keys[begin : begin + _PARALLEL_READS]):
                if read.size >= most_bytes:
                    read.whole = False
                    return
                read.objects += 1
                read.size += len(found)
                yield found


class _Line(NamedTuple):
    prediction_id: str
    version: str
    facts: list[str | None]
    items: list[str]
    said: list[float]


def _parsed(line: bytes, settings: LiveSettings, read: Read) -> _Line | None:
    """Return what is needed of a line; counts those that are none."""
    if not line.strip():
        return None
    try:
        if len(line) > _LONGEST_LINE:
            raise ValueError("too long")
        found = json.loads(line)
        # A fallback answered, or the features were defaults: no release is judged by that.
        left_out = found["degraded"] is not False or found.get(settings.logged) is None
        parsed = None if left_out else _line(found, settings)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        read.damaged += 1
        return None
    read.left_out += parsed is None
    read.lines += parsed is not None
    return parsed


def _line(found: Mapping[str, Any], settings: LiveSettings) -> _Line:
    context = found.get("context") or {}
    line = _Line(
        _id(found["prediction_id"]),
        _id(found["model_version"], _LONGEST_VERSION),
        [_fact(context.get(fact)) for fact in settings.facts],
        [_id(item[0]) for item in found["items"]],
        [float(p) for p in found[settings.logged]],
    )
    if len(line.items) != len(line.said) or not all(math.isfinite(p) and 0 <= p <= 1 for p in line.said):
        raise ValueError("no probability of each item")
    return line


def _fact(value: object) -> str | None:
    found = segment_value(value)
    if found is not None:
        found.encode()  # raises as in `_id`
    return found


def _id(value: object, longest: int = _LONGEST_ID) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise ValueError("no id")
    value.encode()  # raises UnicodeEncodeError, a ValueError, for half a character
    return value


_SCHEMA = pa.schema(
    {
        "prediction_id": pa.string(),
        "version": pa.string(),
        "facts": pa.list_(pa.string()),
        "items": pa.list_(pa.string()),
        "said": pa.list_(pa.float64()),
    }
)


def _make_log(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "CREATE TABLE log (prediction_id VARCHAR, version VARCHAR, facts VARCHAR[], items VARCHAR[], said DOUBLE[])"
    )


def _insert(connection: duckdb.DuckDBPyConnection, rows: list[_Line]) -> None:
    columns = dict(zip(_SCHEMA.names, zip(*rows, strict=True), strict=True))
    connection.register("lines", pa.table(columns, schema=_SCHEMA))
    connection.execute("INSERT INTO log SELECT * FROM lines")
    connection.unregister("lines")


def _joined(connection: duckdb.DuckDBPyConnection, settings: LiveSettings, until_ms: int) -> dict[str, Showings]:
    """Return the showings by release, in an order that depends on nothing but what they are."""
    since_ms = until_ms - settings.window_ms
    connection.execute(
        f"""
        CREATE TABLE joined AS
        WITH showings AS (
            -- Shown twice in one answer is shown once, and clicked if it was clicked either time.
            SELECT request_id, item_id, min(time_ms) AS time_ms, max("label_{settings.label}") > 0 AS came
            FROM labelled WHERE request_id IS NOT NULL GROUP BY request_id, item_id
            HAVING max(time_ms) <= ? AND min(time_ms) > ?
        ),
        answers AS (
            SELECT * FROM log WHERE prediction_id IN (SELECT request_id FROM showings)
            QUALIFY row_number() OVER (PARTITION BY prediction_id ORDER BY version, items, said, facts) = 1
        ),
        told AS (SELECT prediction_id, version, facts, unnest(items) AS item_id, unnest(said) AS said FROM answers)
        SELECT told.version, showings.time_ms, told.prediction_id, told.item_id, told.said, showings.came, told.facts
        FROM showings JOIN told ON told.prediction_id = showings.request_id AND told.item_id = showings.item_id
        QUALIFY row_number() OVER (
            PARTITION BY told.version ORDER BY showings.time_ms DESC, told.prediction_id, told.item_id, told.said
        ) <= ?""",  # noqa: S608 - a label of our own definitions
        [until_ms, since_ms, settings.most],
    )
    facts = "".join(f", facts[{n}] AS f{n}" for n in range(1, len(settings.facts) + 1))
    found = {}
    for (version,) in connection.execute("SELECT DISTINCT version FROM joined ORDER BY version").fetchall():
        table: pa.Table = connection.sql(
            f"""
            SELECT said, came::DOUBLE AS came, time_ms{facts} FROM joined WHERE version = ?
            ORDER BY time_ms DESC, prediction_id, item_id, said""",  # noqa: S608 - numbers of our own
            params=[version],
        ).to_arrow_table()
        found[version] = Showings(
            table["said"].to_numpy(),
            table["came"].to_numpy(),
            table["time_ms"].to_numpy(),
            {fact: table[f"f{n}"].to_pylist() for n, fact in enumerate(settings.facts, 1)},
        )
    return found
