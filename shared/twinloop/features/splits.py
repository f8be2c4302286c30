"""Where train, validation and test part, by time.

Events of one moment are ordered by a hash: ids often follow the catalogue's age or fame, and a boundary that falls
into many events of one second must not put the famous on one side. A boundary is the place of a part's first event
in this order; an event belongs to the last part whose boundary it has reached.

Where things are shown, a part begins when the list was asked for that led to its first positive, and not at that
positive: what becomes of a list is one answer, and it is in one part. `outcomes.py` finds that moment.
"""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import duckdb

from twinloop.contracts.history import POSITIVE
from twinloop.contracts.outcomes import Outcomes
from twinloop.contracts.spec import Split
from twinloop.errors import BadInputError

PARTS = ("train", "validation", "test")

PLACE = "row(events.time_ms, md5(events.user_id || '/' || events.item_id))"

# The part of a row of `events` joined with `boundaries`; users without boundaries are wholly train.
PART_SQL = f"""CASE
    WHEN {PLACE} >= boundaries.test_start THEN 'test'
    WHEN {PLACE} >= boundaries.validation_start THEN 'validation'
    ELSE 'train' END"""

_NO_ASK = ", NULL::BIGINT AS validation_ask, NULL::BIGINT AS test_ask"


def make_boundaries(connection: duckdb.DuckDBPyConnection, split: Split) -> None:
    """Make `boundaries(user_id, judged, validation_start, test_start, validation_ask, test_ask)` from `events`.

    `per_user`: of a user's n positives the first int(n * (1 - test - validation)) are train, those up to
    int(n * (1 - test)) validation, the rest test; other events fall where their time is.
    `global`: the same shares of everybody's positives give two moments; they hold for every user.
    Only users with `minimum_events` positives are `judged`. `..._ask` are empty until `move_to_requests`.
    """
    # Rounded, because 1 - .2 - .1 is a hair above .7 and int() must not see the hair.
    keep_train, keep_both = round(1 - split.test - split.validation, 9), round(1 - split.test, 9)
    if split.strategy == "per_user":
        connection.execute(
            f"""
            CREATE TABLE boundaries AS
            WITH positives AS (
                SELECT user_id, {PLACE} AS moment,
                    row_number() OVER (PARTITION BY user_id ORDER BY {PLACE}) AS place,
                    count(*) OVER (PARTITION BY user_id) AS total
                FROM events WHERE strength >= {POSITIVE}
            )
            SELECT user_id, true AS judged,
                min(moment) FILTER (WHERE place > floor(total * $keep_train::DOUBLE)) AS validation_start,
                min(moment) FILTER (WHERE place > floor(total * $keep_both::DOUBLE)) AS test_start{_NO_ASK}
            FROM positives WHERE total >= $minimum GROUP BY user_id
            """,
            {"keep_train": keep_train, "keep_both": keep_both, "minimum": split.minimum_events},
        )
        return
    connection.execute(
        f"""
        CREATE TABLE boundaries AS
        WITH users AS (
            SELECT user_id, count(*) FILTER (WHERE strength >= {POSITIVE}) >= $minimum AS judged
            FROM events GROUP BY user_id
        )
        SELECT user_id, judged,
            row($validation::BIGINT, '') AS validation_start, row($test::BIGINT, '') AS test_start{_NO_ASK}
        FROM users
        """,
        {
            "minimum": split.minimum_events,
            "validation": _moment(connection, keep_train),
            "test": _moment(connection, keep_both),
        },
    )


def move_to_requests(connection: duckdb.DuckDBPyConnection, outcomes: Outcomes) -> None:
    """Let a user's parts begin when the list was asked for that led to their first positive, where there is one.

    A positive was led to by the latest showing of its item to its user, at or before it and within the window; where
    both name a request, it is the same one. The list was asked for when its request first showed something, at most the
    window before. That moment, epoch milliseconds, is the part's `..._ask`. Never later than before.

    Args:
        connection: With `events`, `boundaries`, `once` (everything that happened, with its request) and `shown`.
        outcomes: Which of it shows something, and the window.
    """
    window_ms = outcomes.window_ms
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE firsts AS
        WITH tagged AS (
            SELECT events.user_id, item_id, time_ms, {PLACE} AS place, {PART_SQL} AS part
            FROM events JOIN boundaries USING (user_id) WHERE strength >= {POSITIVE}
        )
        SELECT user_id, part, arg_min(item_id, place) AS item_id, min(time_ms) AS time_ms
        FROM tagged WHERE part != 'train' GROUP BY user_id, part;
        CREATE OR REPLACE TEMP TABLE asks AS
        WITH named AS (
            SELECT DISTINCT firsts.*, done.request_id::VARCHAR AS request_id
            FROM firsts JOIN (SELECT * FROM once WHERE NOT ({outcomes.shown_sql})) AS done
                USING (user_id, item_id, time_ms)
        ),
        led AS (
            SELECT named.user_id, part, max(row(shown.time_ms, shown.request_id)) AS latest
            FROM named JOIN shown USING (user_id, item_id)
            WHERE shown.time_ms <= named.time_ms AND shown.time_ms >= named.time_ms - {window_ms}
                AND coalesce(shown.request_id = named.request_id, true)
            GROUP BY named.user_id, part
        )
        SELECT led.user_id, part, least(latest[1], min(shown.time_ms)) AS ask_ms
        FROM led LEFT JOIN shown ON shown.user_id = led.user_id AND shown.request_id = latest[2]
            AND shown.time_ms <= latest[1] AND shown.time_ms >= latest[1] - {window_ms}
        GROUP BY led.user_id, part, latest;
        DROP TABLE firsts
    """)
    for part in PARTS[1:]:
        connection.execute(f"""
            UPDATE boundaries SET {part}_ask = ask_ms, {part}_start = CASE
                WHEN {part}_start <= row(ask_ms, '') THEN {part}_start ELSE row(ask_ms, '') END
            FROM asks WHERE asks.user_id = boundaries.user_id AND asks.part = '{part}'
        """)
    connection.execute("DROP TABLE asks")


def _moment(connection: duckdb.DuckDBPyConnection, share: float) -> int:
    """The time of the first positive after that share of all positives."""
    found = connection.execute(
        f"""
        SELECT time_ms FROM events WHERE strength >= {POSITIVE} ORDER BY time_ms LIMIT 1
        OFFSET (SELECT floor(count(*) * $share::DOUBLE)::BIGINT FROM events WHERE strength >= {POSITIVE})
        """,
        {"share": share},
    ).fetchone()
    if found is None:
        raise BadInputError("no positive events; load more data: users must like something before a model can learn")
    return int(found[0])
