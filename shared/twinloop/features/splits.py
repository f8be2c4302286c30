"""Where train, validation and test part, by time.

Events of one moment are ordered by a hash: ids often follow the catalogue's age or fame, and a boundary that falls
into many events of one second must not put the famous on one side. A boundary is the place of a part's first event
in this order; an event belongs to the last part whose boundary it has reached.
"""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import duckdb

from twinloop.contracts.history import POSITIVE
from twinloop.contracts.spec import Split
from twinloop.errors import BadInputError

PARTS = ("train", "validation", "test")

_PLACE = "row(events.time_ms, md5(events.user_id || '/' || events.item_id))"

# The part of a row of `events` joined with `boundaries`; users without boundaries are wholly train.
PART_SQL = f"""CASE
    WHEN {_PLACE} >= boundaries.test_start THEN 'test'
    WHEN {_PLACE} >= boundaries.validation_start THEN 'validation'
    ELSE 'train' END"""


def make_boundaries(connection: duckdb.DuckDBPyConnection, split: Split) -> None:
    """Make `boundaries(user_id, judged, validation_start, test_start)` from `events`.

    `per_user`: of a user's n positives the first int(n * (1 - test - validation)) are train, those up to
    int(n * (1 - test)) validation, the rest test; other events fall where their time is.
    `global`: the same shares of everybody's positives give two moments; they hold for every user.
    Only users with `minimum_events` positives are `judged`.
    """
    # Rounded, because 1 - .2 - .1 is a hair above .7 and int() must not see the hair.
    keep_train, keep_both = round(1 - split.test - split.validation, 9), round(1 - split.test, 9)
    if split.strategy == "per_user":
        connection.execute(
            f"""
            CREATE TABLE boundaries AS
            WITH positives AS (
                SELECT user_id, {_PLACE} AS moment,
                    row_number() OVER (PARTITION BY user_id ORDER BY {_PLACE}) AS place,
                    count(*) OVER (PARTITION BY user_id) AS total
                FROM events WHERE strength >= {POSITIVE}
            )
            SELECT user_id, true AS judged,
                min(moment) FILTER (WHERE place > floor(total * $keep_train::DOUBLE)) AS validation_start,
                min(moment) FILTER (WHERE place > floor(total * $keep_both::DOUBLE)) AS test_start
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
        SELECT user_id, judged, row($validation::BIGINT, '') AS validation_start, row($test::BIGINT, '') AS test_start
        FROM users
        """,
        {
            "minimum": split.minimum_events,
            "validation": _moment(connection, keep_train),
            "test": _moment(connection, keep_both),
        },
    )


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
