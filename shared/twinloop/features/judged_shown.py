"""Write held-out impressions for the gate, which reads no Parquet: what was shown, what was known, what came of it.

`cases/impressions.jsonl.gz` holds cases of one item each, without the place that it was shown at; `judged.py` reads it.
"""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from twinloop.contracts.artefacts import Case
from twinloop.contracts.features import Counting
from twinloop.contracts.history import POSITIVE
from twinloop.contracts.outcomes import Outcomes, text_column
from twinloop.features.files import write_json_lines
from twinloop.features.judged import SHOWN_FILE
from twinloop.features.lake import quoted
from twinloop.features.outcomes import known_features

MOST_LIKES = 200  # the latest ones of a history; what is not liked is left out

# JSON, because ids may hold any separator, and no two cases may have one id.
_ID = "to_json([user_id, item_id, time_ms::VARCHAR])::VARCHAR"


def write_shown(
    connection: duckdb.DuckDBPyConnection, outcomes: Outcomes, counting: Counting, folder: Path, impressions: Path
) -> dict[str, int]:
    """Write a sample of a part's impressions by the hash of their ids; returns rows by path.

    Args:
        connection: With the tables `events` and `judged_from`.
        outcomes: What is said of an impression.
        counting: Whose features are known of it.
        folder: Of the snapshot.
        impressions: The part's `impressions.parquet`.
    """
    known = [feature.name for feature in known_features(counting)]
    names = [
        "user_id",
        "item_id",
        "time_ms",
        *(f"context_{name}" for name in outcomes.context),
        *(text_column(name) for name in outcomes.texts),
        *(f"label_{name}" for name in outcomes.labels),
        *known,
    ]
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE judged_shown AS
        SELECT {_ID} AS case_id, {", ".join(map(quoted, names))} FROM read_parquet(?)
        WHERE time_ms >= (SELECT time_ms FROM judged_from) ORDER BY sha256({_ID}) LIMIT ?
        """,
        [str(impressions), outcomes.most_judged],
    )
    return {SHOWN_FILE: write_json_lines(folder / SHOWN_FILE, _lines(connection, outcomes, known))}


def _lines(connection: duckdb.DuckDBPyConnection, outcomes: Outcomes, known: list[str]) -> Iterator[dict[str, Any]]:
    found = connection.execute("SELECT * FROM judged_shown ORDER BY user_id, time_ms, item_id")
    columns = [entry[0] for entry in found.description or ()]
    rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
    for user_id, likes, mine in _with_likes(connection, rows):
        moments = [moment for _, moment, _ in likes]
        for row in mine:
            end = bisect_left(moments, row["time_ms"])
            told = {name: json.loads(row[f"context_{name}"] or "null") for name in outcomes.context}
            request = {
                "user_id": user_id,
                "time_ms": row["time_ms"],
                "item_id": row["item_id"],
                "history": [list(like) for like in likes[max(end - MOST_LIKES, 0) : end]],
                "context": {name: value for name, value in told.items() if value is not None},
                "known": {name: _number(row[name]) for name in known},
            }
            if outcomes.texts:
                request["texts"] = {name: row[text_column(name)] for name in outcomes.texts}
            case = Case(
                case_id=row["case_id"],
                request=request,
                truth={name: row[f"label_{name}"] for name in outcomes.labels},
                slices={} if outcomes.slices_of is None else dict(outcomes.slices_of(request)),
            )
            yield case.model_dump()


def _with_likes(
    connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]
) -> Iterator[tuple[str, list[tuple[str, int, float]], list[dict[str, Any]]]]:
    """Yield users with what they liked, by time, and with their rows; one user's likes are in memory at once."""
    wanted = {user_id: list(mine) for user_id, mine in groupby(rows, key=lambda row: str(row["user_id"]))}
    liking = connection.execute(f"""
        SELECT judged.user_id, item_id, time_ms, strength FROM (SELECT DISTINCT user_id FROM judged_shown) AS judged
        LEFT JOIN (SELECT * FROM events WHERE strength >= {POSITIVE}) USING (user_id)
        ORDER BY judged.user_id, time_ms, item_id
    """)
    for user_id, likes in groupby(iter(liking.fetchone, None), key=lambda row: row[0]):
        yield (
            user_id,
            [(item, int(moment), float(s)) for _, item, moment, s in likes if item is not None],
            wanted[user_id],
        )


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
