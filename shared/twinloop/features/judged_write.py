"""Write what was known when the gate's cases were asked; `judged.py` says what, and reads it."""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import gzip
import hashlib
import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from twinloop.contracts.features import Counting
from twinloop.contracts.tally import pack
from twinloop.features.files import write_json_lines
from twinloop.features.judged import ITEMS_FILE, MOST_BYTES, MOST_JUDGED, MOST_MOMENTS, USERS_FILE, packed_user
from twinloop.features.knowledge import of_item
from twinloop.features.materialise import tallies
from twinloop.features.outcomes import load_item_values
from twinloop.features.stores import Known
from twinloop.features.values import item_marks


def write_judged(
    connection: duckdb.DuckDBPyConnection, counting: Counting, folder: Path, cases: Path, *, memory_mb: int
) -> dict[str, int]:
    """Write both files beside a snapshot's test cases; returns rows by path. `happened` is gone afterwards.

    Args:
        connection: After `outcomes.load_impressions`.
        counting: What the system counts.
        folder: Of the snapshot.
        cases: The file of its test cases.
        memory_mb: What DuckDB may use.
    """
    asked = _asked(cases)
    connection.execute("CREATE OR REPLACE TABLE judged(user_id VARCHAR, time_ms BIGINT)")
    connection.executemany("INSERT INTO judged VALUES (?, ?)", asked)
    items = _write_items(connection, counting, [moment for _, moment in asked], folder / ITEMS_FILE, memory_mb)
    users = write_json_lines(folder / USERS_FILE, _users(connection, counting))
    return {USERS_FILE: users, ITEMS_FILE: items}


def _asked(path: Path) -> list[tuple[str, int]]:
    """The users and moments of the cases that the gate picks: those with the smallest SHA-256 of their id."""
    kept: list[tuple[int, str, int]] = []
    with gzip.open(path) as lines:
        for line in lines:
            case = json.loads(line)
            rank = -int.from_bytes(hashlib.sha256(case["case_id"].encode()).digest())
            entry = (rank, case["case_id"], int(case["request"]["time_ms"]))
            if len(kept) < MOST_JUDGED:
                heapq.heappush(kept, entry)
            else:
                heapq.heappushpop(kept, entry)
    return sorted((case_id, moment) for _, case_id, moment in kept)


def _write_items(
    connection: duckdb.DuckDBPyConnection, counting: Counting, asked: list[int], path: Path, memory_mb: int
) -> int:
    features = list(of_item(counting))
    names = ", ".join(f'"{feature.name}"' for feature in features)
    attributes = list(counting.attributes.get("items", {}))
    facts = connection.execute(
        f"SELECT item_id{''.join(f', v_{name}' for name in attributes)} FROM item_facts ORDER BY item_id"
    ).fetchall()
    known = {str(row[0]): Known(b"", dict(zip(attributes, row[1:], strict=True))) for row in facts}
    moments = _moments(asked, len(known) * max(len(features), 1) * 4)
    times = ", ".join(f"({moment})" for moment in moments.tolist())
    connection.execute(
        "CREATE OR REPLACE TABLE everything AS SELECT item_id, moments.time_ms"
        f" FROM item_facts CROSS JOIN (VALUES {times}) AS moments(time_ms)"
    )
    load_item_values(connection, counting, features, memory_mb=memory_mb, labels="everything", into="valued")
    table = connection.sql(f"SELECT {names} FROM valued ORDER BY time_ms, item_id").to_arrow_table()
    values = np.empty((len(moments), len(known), len(features)), np.float32)
    for column, feature in enumerate(features):
        values[:, :, column] = table[feature.name].to_numpy().reshape(len(moments), len(known))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            names=_text([feature.name for feature in features]),
            ids=_text(list(known)),
            moments=moments,
            values=values,
            marks=item_marks(counting, known).astype(np.uint32),
        )
    return len(known)


def _moments(asked: list[int], bytes_each: int) -> Any:
    """Moments that part the cases evenly, the first of them that of the first case."""
    many = max(1, min(MOST_MOMENTS, MOST_BYTES // max(bytes_each, 1)))
    times = np.sort(np.array(asked, np.int64))
    return np.unique(times[np.arange(many) * len(times) // many])


def _text(value: object) -> Any:
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), np.uint8)


def _users(connection: duckdb.DuckDBPyConnection, counting: Counting) -> Iterator[dict[str, object]]:
    """Yield the judged users' records as of their moments, by id."""
    connection.execute("""
        CREATE OR REPLACE TABLE before AS
        SELECT happened.* FROM happened JOIN judged USING (user_id) WHERE happened.time_ms < judged.time_ms;
        DROP TABLE happened;
        ALTER TABLE before RENAME TO happened;
        DELETE FROM user_facts WHERE user_id NOT IN (SELECT user_id FROM judged)
    """)
    layout = counting.layout("user")
    found = {
        user_id: packed_user(user_id, Known(pack(tally, layout) if tally.recent else b"", attributes))
        for user_id, tally, attributes in tallies(connection, counting, "user")
    }
    yield from (found[user_id] for user_id in sorted(found))
