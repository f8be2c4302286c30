"""Video's counters: what a request pays to read them, a write to change them, and a snapshot to compute them.

    python -m benchmarks.features [--events 1000000] [--labels 100000] [--out benchmarks/features.json]

`request`: all features of one user and 100 candidates, from the bytes of the store. `write`: one event into the
counters of a user who did as much as is remembered and more. `offline`: all features of every impression, as of its
moment, by DuckDB, in chunks that fit into its memory limit; as a snapshot computes them.
"""

# ruff: noqa: S608  made-up data

import argparse
import json
import os
import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from twinloop.contracts.features import Counting
from twinloop.contracts.system import System
from twinloop.contracts.tally import Happening
from twinloop.features.counted import make_happened
from twinloop.features.lake import open_database
from twinloop.features.outcomes import impressions
from twinloop.features.stores import Attributes, Known, counted
from twinloop.features.values import compute
from twinloop.systems import load
from twinloop.systems.video.features import COUNTING

NOW, HOUR = 1_767_225_600_000, 3_600_000
KINDS = ("impression", "impression", "impression", "click", "watch", "watch", "like")


def happenings(counting: Counting, count: int, marks: int, seed: int) -> list[Happening]:
    """Events of 40 days."""
    draw = random.Random(seed)
    return [
        Happening(
            NOW - draw.randrange(40 * 24 * HOUR),
            draw.getrandbits(64),
            counting.amounts({"type": draw.choice(KINDS), "watch_s": draw.random() * 60, "duration_s": 30.0}),
            tuple(draw.randrange(1, 50) for _ in range(marks)),
        )
        for _ in range(count)
    ]


def percentiles(call: Callable[[], object], runs: int) -> dict[str, float]:
    """Milliseconds of the thread's own time for a call, so that a busy machine does not tell: p50 and p99."""
    times = []
    for _ in range(runs):
        start = time.thread_time()
        call()
        times.append((time.thread_time() - start) * 1000)
    return {"p50_ms": round(statistics.median(times), 3), "p99_ms": round(statistics.quantiles(times, n=100)[98], 3)}


def online(counting: Counting) -> dict[str, object]:
    """The request's and the write's cost, and the bytes of what is stored."""
    user_layout, item_layout = counting.layout("user"), counting.layout("item")
    user = counted(Known(), happenings(counting, 600, len(counting.marks), 1), user_layout)
    attributes: Attributes = {"author_id": "x", "tag": "t", "duration_s": 30.0, "published_ms": NOW - HOUR}
    items = {f"i{n}": counted(Known(b"", attributes), happenings(counting, 400, 0, n), item_layout) for n in range(100)}
    one = happenings(counting, 1, len(counting.marks), 7)
    return {
        "request_user": percentiles(lambda: compute(counting, NOW, user), 500),
        "request_user_and_100_items": percentiles(lambda: compute(counting, NOW, user, items), 500),
        "write_user": percentiles(lambda: counted(user, one, user_layout), 500),
        "user_bytes": len(user.counters),
        "item_bytes": len(items["i0"].counters),
    }


def offline(system: System, events: int, labels: int, threads: int, memory_mb: int) -> dict[str, float]:
    """Seconds of preparing the events, and of all features of all impressions."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(Path(folder), memory_mb=memory_mb, threads=threads) as connection,
    ):
        assert system.counting is not None
        kinds = ", ".join(f"'{kind}'" for kind in KINDS)
        connection.execute(f"""
            CREATE TABLE once AS SELECT 'e' || i AS event_id,
                list_extract([{kinds}], (1 + hash(i, 6) % {len(KINDS)})::INT) AS type,
                'user-' || hash(i) % {events // 100} AS user_id, 'item-' || hash(i, 1) % 20000 AS item_id,
                {NOW} - (hash(i, 2) % {40 * 24 * HOUR})::BIGINT AS time_ms,
                (hash(i, 3) % 60000)::DOUBLE / 1000 AS watch_s, 30::DOUBLE AS duration_s,
                NULL::DOUBLE AS rating FROM range({events}) AS numbers(i);
            CREATE TABLE items AS SELECT DISTINCT item_id, 'a' || hash(item_id) % 3000 AS author_id,
                ['t' || hash(item_id, 1) % 40] AS tags, 30::DOUBLE AS duration_s, {NOW - 1} AS published_ms FROM once;
            CREATE TABLE users AS SELECT DISTINCT user_id, NULL::VARCHAR AS extra FROM once;
            CREATE TABLE shown AS SELECT user_id, item_id, time_ms, NULL::VARCHAR AS request_id FROM once
                WHERE type = 'impression' LIMIT {labels};
            CREATE TABLE said AS SELECT *, 1::DOUBLE AS l0, 1::DOUBLE AS l1, 1::DOUBLE AS l2 FROM shown WHERE false;
            CREATE TABLE impressions AS
                SELECT user_id, item_id, time_ms, 0 AS position, 'train' AS part FROM shown ORDER BY user_id;
        """)
        start, used = time.perf_counter(), time.process_time()
        make_happened(connection, system.counting)
        prepared = time.perf_counter()
        rows = sum(batch.num_rows for batch in impressions(connection, system, memory_mb=memory_mb))
        done, used = time.perf_counter(), time.process_time() - used
    assert rows == labels, f"{rows} rows of {labels} impressions"
    return {
        "impressions": rows,
        "memory_limit_mb": memory_mb,
        "prepare_s": round(prepared - start, 2),
        "all_features_s": round(done - prepared, 2),
        "processor_s": round(used, 2),
    }


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=1504, help="DuckDB's; what the template's function gives it")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    report = {
        "command": f"python -m benchmarks.features --events {options.events} --labels {options.labels}",
        "features": len(COUNTING.features),
        "online": online(COUNTING),
        "offline": offline(load("video"), options.events, options.labels, options.threads, options.memory_mb),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "machine": {"cpus": os.cpu_count(), "threads": options.threads, "system": platform.platform()},
        "versions": {"python": platform.python_version(), "duckdb": duckdb.__version__},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
