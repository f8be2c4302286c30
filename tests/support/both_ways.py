"""Features of counters, offline by DuckDB and online through a store, of the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import duckdb
import pyarrow as pa

from twinloop.contracts.features import Counting
from twinloop.contracts.tally import Happening, key_of
from twinloop.features import counted, values
from twinloop.features.counting import Event, count
from twinloop.features.stores import FeatureStore, MemoryFeatureStore

Row = Mapping[str, Any]
SYSTEM = "video"

EVENTS = pa.schema(
    {
        "event_id": pa.string(),
        "type": pa.string(),
        "time_ms": pa.int64(),
        "user_id": pa.string(),
        "item_id": pa.string(),
    }
    | {"watch_s": pa.float64(), "duration_s": pa.float64(), "rating": pa.float64()}
)
ITEMS = pa.schema(
    {"item_id": pa.string(), "author_id": pa.string(), "tags": pa.list_(pa.string())}
    | {"duration_s": pa.float64(), "published_ms": pa.int64()}
)
USERS = pa.schema({"user_id": pa.string(), "extra": pa.string()})
LABELS = pa.schema({"n": pa.int64(), "user_id": pa.string(), "item_id": pa.string(), "time_ms": pa.int64()})


def offline(
    counting: Counting, events: Sequence[Row], items: Sequence[Row], users: Sequence[Row], labels: Sequence[Row]
) -> list[dict[str, Any]]:
    """Return every label with its features, in the labels' order."""
    with duckdb.connect() as connection:
        tables = {"rows": (events, EVENTS), "items": (items, ITEMS), "users": (users, USERS)}
        for name, (rows, schema) in tables.items():
            connection.register(f"given_{name}", pa.Table.from_pylist(list(rows), schema))
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given_{name}")  # noqa: S608
        counted.make_happened(connection, counting, events="(SELECT DISTINCT ON (event_id) * FROM rows)")
        numbered = [{"n": n, **label} for n, label in enumerate(labels)]
        connection.register("labels", pa.Table.from_pylist(numbered, LABELS))
        query = counted.asof(connection, counting, labels="labels")
        return connection.sql(f"SELECT * FROM ({query}) ORDER BY n").to_arrow_table().to_pylist()  # noqa: S608


def happened(counting: Counting, row: Row) -> Event | None:
    """Return an event as counters take it."""
    amounts = counting.amounts(row)
    if not any(amounts):
        return None
    return row["user_id"], row["item_id"], Happening(row["time_ms"], key_of(row["event_id"]), amounts)


def know_attributes(store: FeatureStore, counting: Counting, items: Sequence[Row], users: Sequence[Row]) -> None:
    """Put attributes into the store as materialising does."""
    from twinloop.features.materialise import tallies

    with duckdb.connect() as connection:
        for name, rows, schema in (("rows", [], EVENTS), ("items", items, ITEMS), ("users", users, USERS)):
            connection.register(f"given_{name}", pa.Table.from_pylist(list(rows), schema))
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given_{name}")  # noqa: S608
        counted.make_happened(connection, counting, events="rows")
        for entity in ("item", "user"):
            for entity_id, tally, attributes in tallies(connection, counting, entity):
                store.settle(SYSTEM, (entity, entity_id), tally, attributes, counting.layout(entity))


def send(store: FeatureStore, counting: Counting, rows: Iterable[Row]) -> None:
    """Count events as one delivery."""
    events = [event for row in rows if (event := happened(counting, row)) is not None]
    assert count(SYSTEM, counting, store, events) == {}


def ask(store: FeatureStore, counting: Counting, label: Row) -> dict[str, float]:
    """Return the features of one label, as a request would have them."""
    known = store.recall(SYSTEM, label["user_id"], [label["item_id"]])
    found = values.compute(counting, label["time_ms"], known.user, known.items)
    return {name: float(value.values[0]) for name, value in found.items()}


def replay(
    counting: Counting, events: Sequence[Row], items: Sequence[Row], users: Sequence[Row], labels: Sequence[Row]
) -> list[dict[str, float]]:
    """Send events as they happened, and ask every label just before its moment; in the labels' order."""
    store = MemoryFeatureStore()
    know_attributes(store, counting, items, users)
    answers: dict[int, dict[str, float]] = {}
    moments = [(row["time_ms"], 1, row) for row in events]
    moments += [(label["time_ms"], 0, {"n": n, **label}) for n, label in enumerate(labels)]
    moments.sort(key=lambda moment: moment[:2])
    for (_, sending), those in groupby(moments, key=lambda moment: moment[:2]):
        if sending:
            send(store, counting, [row for _, _, row in those])
        else:
            answers |= {label["n"]: ask(store, counting, label) for _, _, label in those}
    return [answers[n] for n in range(len(labels))]
