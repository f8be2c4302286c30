"""Labelled requests out of a split: what serving would have been asked, and what the user then liked."""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import POSITIVE
from twinloop.contracts.segments import segment_value
from twinloop.features.judged import MOST_JUDGED
from twinloop.features.lake import quoted
from twinloop.features.splits import PART_SQL, PARTS

# Four times what the gate replays. Which ones is decided as the gate decides it, so that it picks the same either way.
MOST_CASES = 4 * MOST_JUDGED
_ALL = "g"  # after every hexadecimal digit
_FETCHED = 500  # cases with their histories in memory at once

_TAGGED = f"""
    SELECT events.*, {PART_SQL} AS part FROM events JOIN boundaries USING (user_id)
    WHERE judged AND user_id BETWEEN $first AND $last AND sha256(user_id) <= $greatest
"""


def cases(
    connection: duckdb.DuckDBPyConnection,
    part: str,
    chunks: Sequence[tuple[str, str]],
    *,
    length: int,
    segments: Sequence[str],
    most: int,
) -> Iterator[dict[str, Any]]:
    """Yield a part's cases as JSON objects, by user id; users come in chunks that bound the memory.

    The moment asked at is that of the user's first positive in the part, or when the list was asked for that led to it
    (`splits.move_to_requests`); the history is what came in earlier parts; relevant are the part's positives on items
    without an earlier event, since a recommendation is of something new. Users without a relevant item have no case.

    The slice `cold` is `user` where nobody could have known what the user likes, `item` where something relevant had
    been liked by nobody, and otherwise `warm`.

    Args:
        connection: With the tables `events`, `boundaries` and `users`.
        part: `validation` or `test`.
        chunks: Ranges of user ids.
        length: Events of a history.
        segments: Attributes of users that a request's context would tell.
        most: Of more cases, those of the users with the smallest SHA-256 of their id.
    """
    earlier = PARTS[: PARTS.index(part)]
    edges = _activity_edges(connection, earlier)
    query = f"""
        WITH tagged AS ({_TAGGED}),
        before AS (SELECT * FROM tagged WHERE list_contains($earlier, part)),
        known AS (
            SELECT user_id, count(*) AS events,
                list([item_id, time_ms::VARCHAR, strength::VARCHAR] ORDER BY time_ms, item_id) AS entries
            FROM before GROUP BY user_id
        ),
        wanted AS (
            SELECT user_id, item_id, min(time_ms) AS time_ms FROM tagged
            WHERE part = $part AND strength >= {POSITIVE} GROUP BY user_id, item_id
        ),
        fresh AS (
            SELECT user_id, list(item_id ORDER BY time_ms, item_id) AS items FROM wanted
            WHERE NOT EXISTS (
                SELECT 1 FROM before WHERE before.user_id = wanted.user_id AND before.item_id = wanted.item_id)
            GROUP BY user_id
        ),
        asked AS (
            SELECT user_id, least(min(wanted.time_ms), any_value(boundaries.{part}_ask)) AS time_ms
            FROM wanted JOIN boundaries USING (user_id) GROUP BY user_id
        )
        SELECT user_id, asked.time_ms, coalesce(known.events, 0), known.entries[-{length}:], fresh.items,
            list_has_any(fresh.items, $unliked){_context(connection, segments)}
        FROM fresh JOIN asked USING (user_id) LEFT JOIN known USING (user_id) LEFT JOIN users USING (user_id)
        ORDER BY user_id
    """
    same = {"part": part, "earlier": list(earlier), "unliked": _unliked(connection, earlier)}
    same["greatest"] = _greatest(connection, part, earlier, most)
    for first, last in chunks:
        found = connection.cursor().execute(query, {"first": first, "last": last, **same})
        for user_id, time_ms, events, entries, items, new, *facts in _rows(found):
            history = [[item_id, int(moment), float(strength)] for item_id, moment, strength in entries or ()]
            known = any(strength >= POSITIVE for _, _, strength in history)
            told = {key: segment_value(json.loads(fact or "null")) for key, fact in zip(segments, facts, strict=True)}
            context = {key: value for key, value in told.items() if value is not None}
            request = {"user_id": user_id, "time_ms": time_ms, "history": history}
            case = Case(
                case_id=user_id,
                request=request | ({"context": context} if context else {}),
                truth={"relevant": items},
                slices={
                    "activity": _activity(events, edges),
                    "cold": "user" if not known else "item" if new else "warm",
                },
            )
            yield case.model_dump()


def _rows(found: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := found.fetchmany(_FETCHED):
        yield from rows


def _greatest(connection: duckdb.DuckDBPyConnection, part: str, earlier: Sequence[str], most: int) -> str:
    """The greatest SHA-256 of the id of a user who has a case."""
    judged = connection.execute("SELECT count(*) FROM boundaries WHERE judged").fetchone()
    if judged is not None and judged[0] <= most:
        return _ALL
    row = connection.execute(
        f"""
        WITH tagged AS (
            SELECT user_id, item_id, strength, {PART_SQL} AS part FROM events JOIN boundaries USING (user_id)
            WHERE judged
        ),
        wanted AS (SELECT DISTINCT user_id, item_id FROM tagged WHERE part = $part AND strength >= {POSITIVE}),
        before AS (SELECT user_id, item_id FROM tagged WHERE list_contains($earlier, part)),
        asked AS (SELECT DISTINCT user_id FROM wanted ANTI JOIN before USING (user_id, item_id))
        SELECT sha256(user_id) AS hash FROM asked ORDER BY hash LIMIT 1 OFFSET $left_out
        """,
        {"part": part, "earlier": list(earlier), "left_out": most - 1},
    ).fetchone()
    return _ALL if row is None else str(row[0])


def _unliked(connection: duckdb.DuckDBPyConnection, earlier: Sequence[str]) -> list[str]:
    """The items that nobody had liked in earlier parts."""
    rows = connection.execute(
        f"""
        WITH tagged AS (SELECT events.*, {PART_SQL} AS part FROM events LEFT JOIN boundaries USING (user_id))
        SELECT item_id FROM tagged WHERE strength >= {POSITIVE} GROUP BY item_id
        HAVING NOT bool_or(list_contains($earlier, part)) ORDER BY item_id
        """,
        {"earlier": list(earlier)},
    ).fetchall()
    return [item_id for (item_id,) in rows]


def _context(connection: duckdb.DuckDBPyConnection, segments: Sequence[str]) -> str:
    """Expressions of what the users' table says of each segment, as JSON: a column, or a field of `extra`."""
    present = {row[0] for row in connection.execute("DESCRIBE users").fetchall()}
    found = []
    for key in segments:
        if key in present:
            found.append(f"to_json(users.{quoted(key)})::VARCHAR")
        elif "extra" in present:
            found.append(f"CASE WHEN json_valid(users.extra) THEN json_extract(users.extra, '$.{key}')::VARCHAR END")
        else:
            found.append("NULL::VARCHAR")
    return "".join(f", {expression}" for expression in found)


def _activity_edges(connection: duckdb.DuckDBPyConnection, earlier: Sequence[str]) -> tuple[int, int]:
    """The numbers of earlier events that cut the judged users into thirds."""
    row = connection.execute(
        f"""
        WITH tagged AS (
            SELECT user_id, {PART_SQL} AS part FROM events JOIN boundaries USING (user_id) WHERE judged
        ),
        known AS (SELECT count(*) AS events FROM tagged WHERE list_contains($earlier, part) GROUP BY user_id)
        SELECT quantile_disc(events, 1 / 3), quantile_disc(events, 2 / 3) FROM known
        """,
        {"earlier": list(earlier)},
    ).fetchone()
    light, medium = row if row is not None else (None, None)
    return int(light or 0), int(medium or 0)


def _activity(events: int, edges: tuple[int, int]) -> str:
    if events == 0:
        return "new"
    light, medium = edges
    if events <= light:
        return "light"
    return "medium" if events <= medium else "heavy"
