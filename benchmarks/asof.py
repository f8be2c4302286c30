"""As-of features of 1M labels over 10M events: the definitions' cost against plain SQL for the same values.

    python -m benchmarks.asof [--events 10000000] [--labels 1000000] [--out benchmarks/asof.json]

`latest`: the as-of join alone (one recency feature) against DuckDB's own ASOF JOIN.
`all`: every kind of feature at once against the SQL that one would write by hand for these values.
Both sides run in the same process with the same threads, in turns; the best of the runs counts.
"""

# ruff: noqa: S608  made-up data

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

import duckdb

from twinloop.contracts.features import Feature
from twinloop.features.offline import asof_sql

DAY_MS = 86_400_000


def feature(name: str, kind: str, **more: object) -> Feature:
    """A definition of a user's feature that lives longer than the data."""
    fields = {"name": name, "entity": "user", "kind": kind, "description": name, "time_to_live_days": 36_500}
    return Feature.model_validate(fields | more)


LATEST = [feature("idle", "recency", default=365.0)]
ALL = [
    *LATEST,
    feature("history", "last_n", length=20),
    feature("positives_30d", "count", window_days=30),
    feature("mean", "mean", default=0.5),
]
BARE_LATEST = f"""
    SELECT labels.*, coalesce((labels.time_ms - events.time_ms) / {DAY_MS}::DOUBLE, 365.0) AS idle
    FROM labels ASOF LEFT JOIN events ON labels.user_id = events.user_id AND labels.time_ms > events.time_ms
"""
# By hand: every label meets its user's earlier events, then one aggregation. Without a bound on the history.
BARE_ALL = f"""
    SELECT labels.user_id, labels.time_ms,
        coalesce((labels.time_ms - max(events.time_ms)) / {DAY_MS}::DOUBLE, 365.0) AS idle,
        (list(events.item_id ORDER BY events.time_ms, events.item_id) FILTER (events.strength >= 0.5))[-20:] AS history,
        (count(*) FILTER (events.strength >= 0.5 AND events.time_ms >= labels.time_ms - {30 * DAY_MS}))::DOUBLE
            AS positives_30d,
        coalesce(avg(events.strength), 0.5) AS mean
    FROM labels LEFT JOIN events ON labels.user_id = events.user_id AND labels.time_ms > events.time_ms
    GROUP BY labels.user_id, labels.time_ms
"""


def fill(connection: duckdb.DuckDBPyConnection, events: int, labels: int, users: int) -> None:
    """Events and labels over a year, users alike."""
    year = 365 * DAY_MS
    connection.execute(f"""
        CREATE TABLE events AS SELECT DISTINCT ON (user_id, item_id, time_ms)
            'user-' || hash(i) % {users} AS user_id, 'item-' || hash(i, 1) % 50000 AS item_id,
            1700000000000 + (hash(i, 2) % {year})::BIGINT AS time_ms, (hash(i, 3) % 2)::DOUBLE AS strength
        FROM range({events}) AS numbers(i);
        CREATE TABLE labels AS SELECT DISTINCT 'user-' || hash(i, 4) % {users} AS user_id,
            1700000000000 + (hash(i, 5) % {year})::BIGINT AS time_ms FROM range({labels}) AS numbers(i);
    """)


def seconds(connection: duckdb.DuckDBPyConnection, query: str, name: str) -> float:
    """Run a query into a table and return how long it took."""
    start = time.perf_counter()
    connection.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")
    return time.perf_counter() - start


def compare(connection: duckdb.DuckDBPyConnection, ours: str, bare: str, runs: int) -> dict[str, float]:
    """Best seconds of both and their ratio; the values must be the same."""
    times = [(seconds(connection, bare, "bare"), seconds(connection, ours, "ours")) for _ in range(runs)]
    columns = [row[0] for row in connection.execute("DESCRIBE bare").fetchall()]
    same = " AND ".join(f"coalesce(ours.{c}::VARCHAR, '[]') = coalesce(bare.{c}::VARCHAR, '[]')" for c in columns)
    equal = connection.execute(f"SELECT count(*) FROM ours JOIN bare USING (user_id, time_ms) WHERE {same}").fetchone()
    total = connection.execute("SELECT count(*) FROM labels").fetchone()
    assert equal == total, f"only {equal} of {total} rows agree"
    best = [min(column) for column in zip(*times, strict=True)]
    return {"bare_s": round(best[0], 2), "ours_s": round(best[1], 2), "ratio": round(best[1] / best[0], 2)}


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {options.threads}")
        connection.execute("SET preserve_insertion_order = false")
        fill(connection, options.events, options.labels, options.users)
        results = {
            "latest": compare(connection, asof_sql(LATEST), BARE_LATEST, options.runs),
            "all": compare(connection, asof_sql(ALL), BARE_ALL, options.runs),
        }
    report = {
        "command": "python -m benchmarks.asof "
        f"--events {options.events} --labels {options.labels} --runs {options.runs}",
        "budget": "latest.ratio <= 1.5",
        "results": results,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "machine": {"cpus": os.cpu_count(), "threads": options.threads, "system": platform.platform()},
        "versions": {"python": platform.python_version(), "duckdb": duckdb.__version__},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
