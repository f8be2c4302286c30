"""What the lake knows into the online store: histories, counters, attributes; live updates are never lost."""
# ruff: noqa: S608  statements are put together from our own definitions; values of data are bound

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb

from twinloop.contracts.features import Counting
from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import System
from twinloop.contracts.tally import NEVER, Happening, Layout, Tally
from twinloop.features import lake
from twinloop.features.chunks import user_chunks
from twinloop.features.snapshot import Resources
from twinloop.features.stores import Attributes, Entity, FeatureStore, OnlineStore
from twinloop.ports import ObjectStore

_PARALLEL_WRITES = 16
_ROWS = 500
# Events of the entities whose tallies are put together at once, in lists of numbers: it bounds the memory.
_SLICE_EVENTS = 300_000
# The same of histories: events of the users that are looked at together, and rows of them that are Python's at once.
_HISTORY_EVENTS = 300_000
_HISTORY_ROWS = 20_000


def materialise(
    system: System,
    objects: ObjectStore,
    store: OnlineStore,
    *,
    features: FeatureStore | None = None,
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Merge all users' latest events into the store; returns how many users. Running it again changes nothing.

    Attributes of users and items are put there without any event, too.

    Args:
        system: Whose.
        objects: The data bucket.
        store: The histories.
        features: Where counters and attributes go, where the system counts; None for histories alone.
        resources: What it may use of its machine.
    """
    resources = resources or Resources()
    name, length, users = system.spec.name, system.spec.history_length, 0
    done: dict[str, Any] = {"system": name}
    with tempfile.TemporaryDirectory(prefix="materialise-", dir=resources.folder) as work:
        found = lake.fetch(objects, name, "events", Path(work) / "events")
        if not found and (features is None or system.counting is None):
            return done | {"users": 0}
        folder = Path(work) / "duckdb"
        with lake.open_database(folder, memory_mb=resources.memory_mb, threads=resources.threads) as connection:
            lake.load_events(connection, system, Path(work) / "events")
            for histories in _histories(connection, length):
                store.merge_many(name, histories, length=length)
                users += len(histories)
            if features is not None and system.counting is not None:
                for table, key in (("items", "item_id"), ("users", "user_id")):
                    lake.fetch(objects, name, table, Path(work) / table)
                    lake.load_entities(connection, table, key, Path(work) / table)
                lake.load_happened(connection, system, Path(work) / "events")
                done["counted"] = _settle(connection, name, system.counting, features)
    return done | {"users": users}


def _histories(connection: duckdb.DuckDBPyConnection, length: int) -> Iterator[dict[str, list[HistoryEntry]]]:
    """Yield everybody's latest events, newest first, a few thousand of whole users at a time."""
    for first, last in user_chunks(connection, entries=_HISTORY_EVENTS):
        cursor = connection.cursor().execute(
            f"""
            SELECT user_id, item_id, time_ms, strength FROM events WHERE user_id BETWEEN ? AND ?
            QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY time_ms DESC, item_id DESC) <= {length}
            ORDER BY user_id, time_ms DESC, item_id DESC
            """,
            [first, last],
        )
        held: dict[str, list[HistoryEntry]] = {}
        while rows := cursor.fetchmany(_HISTORY_ROWS):
            for user_id, theirs in groupby(rows, key=itemgetter(0)):
                held.setdefault(user_id, []).extend(HistoryEntry(*entry) for _, *entry in theirs)
            going_on = held.popitem()  # the last user's other rows may come next
            if held:
                yield held
            held = dict([going_on])
        if held:
            yield held


def _settle(
    connection: duckdb.DuckDBPyConnection, system: str, counting: Counting, store: FeatureStore
) -> dict[str, int]:
    """Put every entity's counters and attributes in place; returns how many of each kind."""
    counts = {}
    kinds: tuple[Entity, ...] = ("item", "user")
    with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
        for entity in kinds:
            layout, written = counting.layout(entity), 0
            waiting = []
            for entity_id, tally, attributes in tallies(connection, counting, entity):
                waiting.append(pool.submit(store.settle, system, (entity, entity_id), tally, attributes, layout))
                if len(waiting) >= _ROWS:  # what waits is held in memory
                    written += sum(future.result() is None for future in waiting)
                    waiting = []
            counts[f"{entity}s"] = written + sum(future.result() is None for future in waiting)
    return counts


def tallies(
    connection: duckdb.DuckDBPyConnection, counting: Counting, entity: Entity
) -> Iterator[tuple[str, Tally, Attributes]]:
    """Yield every entity's id, counters and attributes, as the lake has them.

    Args:
        connection: With what `counted.make_happened` makes.
        counting: What the system counts.
        entity: Users or items.
    """
    counted = connection.execute("SELECT count(*) FROM happened").fetchone()
    slices = 1 + (counted[0] if counted else 0) // _SLICE_EVENTS
    number = f"(hash({entity}_id) % {slices})::INTEGER AS slice"
    # In the order of slices, DuckDB passes over the row groups of others: each slice reads its own, all read all once.
    for table, source in (("sliced", "happened"), ("sliced_facts", f"{entity}_facts")):
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT *, {number} FROM {source} ORDER BY slice")
    for place in range(slices):
        yield from _slice(connection, counting, entity, place)
    for table in ("sliced", "sliced_facts"):
        connection.execute(f"DROP TABLE {table}")


def _slice(
    connection: duckdb.DuckDBPyConnection, counting: Counting, entity: Entity, number: int
) -> Iterator[tuple[str, Tally, Attributes]]:
    """Yield the tallies of the entities of one slice."""
    layout, key = counting.layout(entity), f"{entity}_id"
    _split_recent(connection, layout, entity, number)
    measures = range(layout.measures)
    marks = "".join(f", k{n}" for n in range(layout.marks))
    listed = ", ".join(["time_ms", "key", *(f"a{m}" for m in measures)]) + marks
    lasts = ", ".join(f"coalesce(max(time_ms) FILTER (WHERE a{m} > 0), {NEVER})" for m in measures)
    sums = ", ".join(f"sum(a{m})::BIGINT" for m in measures)
    spans = " UNION ALL ".join(
        f"SELECT {key}, [{length}, number, {sums}] AS bucket FROM"
        f" (SELECT *, {f'time_ms // {length}' if length else '0'} AS number FROM earlier) GROUP BY {key}, number"
        for length, _ in layout.spans
    )
    spans = spans or f"SELECT {key}, [0] AS bucket FROM earlier WHERE false"
    names = list(counting.attributes.get(f"{entity}s", {}))
    facts = "".join(f", v_{name}" for name in names)
    query = f"""
        WITH recents AS (
            SELECT {key}, list([{listed}]::HUGEINT[] ORDER BY time_ms, key) AS recent FROM latest GROUP BY ALL
        ),
        bucketed AS (SELECT {key}, list(bucket) AS buckets FROM ({spans}) GROUP BY ALL),
        lasts AS (SELECT {key}, [{lasts}, max(time_ms)] AS last FROM earlier GROUP BY ALL)
        SELECT {key}{facts}, recent, buckets, last FROM (SELECT * FROM sliced_facts WHERE slice = {number})
        FULL JOIN recents USING ({key}) LEFT JOIN bucketed USING ({key}) LEFT JOIN lasts USING ({key})
    """
    cursor = connection.cursor().execute(query)
    while rows := cursor.fetchmany(_ROWS):
        for row in rows:
            values = zip(names, row[1 : len(names) + 1], strict=True)
            attributes = {name: value for name, value in values if value is not None}
            yield str(row[0]), _tally(row[-3], row[-2], row[-1], layout), attributes


def _split_recent(connection: duckdb.DuckDBPyConnection, layout: Layout, entity: Entity, number: int) -> None:
    """Make `latest`, a slice's events that are remembered one by one, and `earlier`, those in buckets."""
    connection.execute(f"""
        CREATE OR REPLACE TABLE placed AS
        SELECT *, row_number() OVER (PARTITION BY {entity}_id ORDER BY time_ms DESC, key DESC) AS place FROM sliced
        WHERE slice = {number}
    """)
    connection.execute(f"CREATE OR REPLACE VIEW latest AS SELECT * FROM placed WHERE place <= {layout.memory}")
    connection.execute(f"CREATE OR REPLACE VIEW earlier AS SELECT * FROM placed WHERE place > {layout.memory}")


def _tally(
    recent: list[list[int]] | None, buckets: list[list[int]] | None, last: list[int] | None, layout: Layout
) -> Tally:
    """Put an entity's rows together."""
    width = layout.measures
    happenings = tuple(
        Happening(row[0], row[1], tuple(row[2 : 2 + width]), tuple(row[2 + width :])) for row in recent or ()
    )
    if not happenings:
        return Tally()
    spans, newest = dict(layout.spans), happenings[-1].time_ms
    held = {
        (length, number): tuple(sums)
        for length, number, *sums in buckets or ()
        if not length or number >= newest // length - spans[length]
    }
    *lasts, latest = last or [NEVER] * (width + 1)
    return Tally(happenings, held, tuple(lasts), latest)
