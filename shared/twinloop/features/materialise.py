"""Every user's history from the lake into the online store; merged, so that live updates are never lost."""
# ruff: noqa: S608  statements are put together from our own definitions; values of data are bound

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import System
from twinloop.features import lake
from twinloop.features.snapshot import Resources, user_chunks
from twinloop.features.stores import OnlineStore
from twinloop.ports import ObjectStore


def materialise(
    system: System, objects: ObjectStore, store: OnlineStore, *, resources: Resources | None = None
) -> dict[str, Any]:
    """Merge all users' latest events into the store; returns how many users. Running it again changes nothing."""
    resources = resources or Resources()
    name, length, users = system.spec.name, system.spec.history_length, 0
    with tempfile.TemporaryDirectory(prefix="materialise-", dir=resources.folder) as work:
        if not lake.fetch(objects, name, "events", Path(work) / "events"):
            return {"system": name, "users": 0}
        folder = Path(work) / "duckdb"
        with lake.open_database(folder, memory_mb=resources.memory_mb, threads=resources.threads) as connection:
            lake.load_events(connection, system, Path(work) / "events")
            for first, last in user_chunks(connection):
                rows = connection.execute(
                    f"""
                    SELECT user_id, item_id, time_ms, strength FROM events WHERE user_id BETWEEN ? AND ?
                    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY time_ms DESC, item_id DESC) <= {length}
                    """,
                    [first, last],
                )
                histories: dict[str, list[HistoryEntry]] = {}
                for user_id, *entry in rows.fetchall():
                    histories.setdefault(user_id, []).append(HistoryEntry(*entry))
                store.merge_many(name, histories, length=length)
                users += len(histories)
    return {"system": name, "users": users}
