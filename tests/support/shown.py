"""A small lake of video in which things are shown, and snapshots of it."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.system import System
from twinloop.features.snapshot import make_snapshot
from twinloop.features.splits import PARTS
from twinloop.ports import MemoryObjectStore
from twinloop.systems import load

NOW = datetime(2026, 1, 1, tzinfo=UTC)
START = datetime(2025, 1, 1, tzinfo=UTC)
START_MS = 1_735_689_600_000
SECOND, MINUTE = 1000, 60_000
COLUMNS = pa.schema(
    {"event_id": pa.string(), "type": pa.string(), "time": pa.timestamp("ms", "UTC"), "user_id": pa.string()}
    | {"item_id": pa.string(), "request_id": pa.string(), "position": pa.int32()}
    | {"watch_s": pa.float64(), "duration_s": pa.float64(), "rating": pa.float64(), "context": pa.string()}
)
VIDEO = load("video")
Row = dict[str, Any]

ITEMS: list[Row] = [
    {
        "item_id": f"i{n}",
        "title": f"t{n}",
        "tags": [f"tag{n % 2}"],
        "author_id": f"x{n % 3}",
        "duration_s": 40.0 + n,
        "published_at": START - timedelta(days=n),
    }
    for n in range(5)
]


def row(kind: str, at_ms: float, user: str = "u", item: str = "a", **more: Any) -> Row:
    """An event, so long after the start."""
    event_id = more.pop("event_id", None) or f"{kind}-{at_ms}-{user}-{item}-{sorted(more.items())}"
    time = START + timedelta(milliseconds=at_ms)
    return {"event_id": event_id, "type": kind, "time": time, "user_id": user, "item_id": item, **more}


def background() -> list[Row]:
    """Users enough to judge, long before everything, and an event long after it."""
    early = -(10**9)
    rows = [row("rating", early + i * 1000 + u, f"b{u:02d}", f"i{i}", rating=5.0) for u in range(12) for i in range(9)]
    return [*rows, row("rating", 10**9, "late", "i0", rating=1.0)]


def busy() -> list[Row]:
    """Some days of four users and five items."""
    rows = []
    for n in range(240):
        user, item, at = f"u{n % 4}", f"i{n * 7 % 5}", n * 37 * MINUTE
        rows.append(row("impression", at, user, item, request_id=f"r{n}", position=n % 3))
        if n % 3 == 0:
            rows.append(row("click", at + SECOND, user, item, request_id=f"r{n}"))
            rows.append(row("watch", at + MINUTE, user, item, watch_s=float(n % 50), duration_s=40.0))
    return rows


def lake(rows: list[Row], items: list[Row] | None = None) -> MemoryObjectStore:
    """A bucket whose lake has these events, in two files, and these items."""
    store = MemoryObjectStore()
    for n in range(2):
        _put(store, f"lake/video/events/dt=2025-01-01/{n}.parquet", pa.Table.from_pylist(rows[n::2], COLUMNS))
    if items:
        _put(store, "lake/video/items/0.parquet", pa.Table.from_pylist(items))
    return store


def taken(
    rows: list[Row], *, system: System = VIDEO, items: list[Row] | None = None, extra: list[Row] | None = None
) -> tuple[MemoryObjectStore, SnapshotManifest]:
    """A snapshot of a lake of these rows, and of users enough to judge."""
    store = lake([*rows, *(background() if extra is None else extra)], items)
    return store, make_snapshot(system, store, now=NOW, minimum_cases=1)


def impressions(store: MemoryObjectStore, manifest: SnapshotManifest) -> list[Row]:
    """A snapshot's impressions, with their `part`."""
    prefix = f"snapshots/video/{manifest.snapshot_id}"
    bodies = {part: store.read(f"{prefix}/{part}/impressions.parquet").body for part in PARTS}
    tables = {part: pq.read_table(io.BytesIO(body)).to_pylist() for part, body in bodies.items()}
    return [found | {"part": part} for part, rows in tables.items() for found in rows]


def _put(store: MemoryObjectStore, key: str, table: pa.Table) -> None:
    body = io.BytesIO()
    pq.write_table(table, body)
    store.write(key, body.getvalue())
