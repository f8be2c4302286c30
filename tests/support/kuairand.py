"""KuaiRand-Pure's six days as raw rows of video, for development, tests and benchmarks; the data stay outside."""

from __future__ import annotations

from pathlib import Path

import duckdb

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "kuairand"
MISSING = f"KuaiRand is not at {FOLDER}"

# What the data do not say: when somebody clicked (taken as the moment of the impression) and when a watch was reported
# (taken as its end).
EVENTS = """
    WITH shown AS (
        SELECT row_number() OVER (ORDER BY time_ms, user_id, video_id, play_time_ms, duration_ms) AS n, *
        FROM read_parquet('{folder}/interactions.parquet')
    ),
    happened AS (
        SELECT n, 'impression' AS type, time_ms, NULL AS watched, NULL AS duration, user_id, video_id,
            json_object('tab', tab)::VARCHAR AS context FROM shown
        UNION ALL SELECT n, 'click', time_ms, NULL, NULL, user_id, video_id, NULL FROM shown WHERE is_click = 1
        UNION ALL SELECT n, 'watch', time_ms + play_time_ms, play_time_ms / 1000::DOUBLE,
            CASE WHEN duration_ms > 0 THEN duration_ms / 1000::DOUBLE END, user_id, video_id, NULL
            FROM shown WHERE play_time_ms > 0
        UNION ALL SELECT n, 'like', time_ms + play_time_ms, NULL, NULL, user_id, video_id, NULL
            FROM shown WHERE is_like = 1
        UNION ALL SELECT n, 'hide', time_ms + play_time_ms, NULL, NULL, user_id, video_id, NULL
            FROM shown WHERE is_hate = 1
    )
    SELECT 'k' || n || '-' || type AS event_id, type, time_ms AS time, user_id::VARCHAR AS user_id,
        video_id::VARCHAR AS item_id, watched AS watch_s, duration AS duration_s, 'k' || n AS request_id, context
    FROM happened ORDER BY time_ms, event_id
"""
ITEMS = """
    SELECT video_id::VARCHAR AS item_id, 'Video ' || video_id AS title,
        list_filter(string_split(coalesce(tag, ''), ','), lambda tag: tag != '') AS tags,
        author_id::VARCHAR AS author_id, video_duration / 1000 AS duration_s,
        epoch_ms(upload_dt::TIMESTAMP) AS published_at
    FROM read_parquet('{folder}/videos.parquet') ORDER BY video_id
"""
USERS = """
    SELECT user_id::VARCHAR AS user_id, 1651363200000 - register_days * 86400000 AS registered_ms
    FROM read_parquet('{folder}/users.parquet') ORDER BY user_id
"""


def write_raw(folder: Path, *, source: Path = FOLDER) -> dict[str, Path]:
    """Write users, items and events as Parquet files, ready for `twinloop load`; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {table: folder / f"{table}.parquet" for table in ("users", "items", "events")}
    with duckdb.connect() as connection:
        for table, query in (("users", USERS), ("items", ITEMS), ("events", EVENTS)):
            path = written[table]
            connection.execute(f"COPY ({query.format(folder=source)}) TO '{path}' (FORMAT parquet)")
    return written
