"""ETL: JSONL events into the lake, against DuckDB merely reading and writing them.

    python -m benchmarks.etl [--out benchmarks/etl.json]

Every run is a fresh process (so that peak memory is its own), in turns; the best time of the runs counts, without
imports. `cpu_ratio` is what a machine that others share can still tell; `load` is how busy they kept it. Both read from
disk and write to disk. Cases: `plain` (a month in order), `context` (each row also has an object and an unknown
column), `shuffled` (a year in no order), `faulty` (1% of the rows are bad), `ten_million` (a year in no order).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2025, 1, 1, tzinfo=UTC)
CASES = {  # rows, days, runs
    "plain": (1_000_000, 30, 5),
    "context": (1_000_000, 30, 5),
    "shuffled": (1_000_000, 365, 5),
    "faulty": (1_000_000, 30, 5),
    "ten_million": (10_000_000, 365, 1),
}


def write_events(path: Path, case: str, rows: int, days: int) -> None:
    """Write made-up events; the same ones every time."""
    draw = random.Random(7)
    with path.open("w") as out:
        for number in range(rows):
            place = draw.random() if case in {"shuffled", "ten_million"} else number / rows
            moment = START + timedelta(seconds=place * days * 86_400)
            row: dict[str, object] = {
                "event_id": f"e{number:09d}",
                "type": draw.choice(("impression", "click", "rating")),
                "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
                "user_id": f"u{draw.randrange(50_000)}",
                "item_id": f"v{draw.randrange(20_000)}",
            }
            row |= {"rating": draw.randrange(10) / 2} if row["type"] == "rating" else {"position": draw.randrange(20)}
            if case == "context":
                row |= {"context": {"device": draw.choice(("tv", "phone"))}, "campaign": draw.randrange(9)}
            if case == "faulty" and number % 100 == 50:
                row["user_id"] = ""
            out.write(json.dumps(row) + "\n")


def ours(path: Path, folder: Path) -> dict[str, float]:
    """Bring the file in, as the function does."""
    from twinloop.ingest.process import ingest  # noqa: PLC0415 - imports are no part of the time
    from twinloop.ingest.source import RawObject  # noqa: PLC0415
    from twinloop.ports import MemoryObjectStore  # noqa: PLC0415
    from twinloop.systems import load  # noqa: PLC0415

    class DiskStore(MemoryObjectStore):
        def write(self, key: str, body: bytes, *, content_type: str = "") -> str:
            del content_type
            target = folder / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
            return "written"

    system = load("video")
    with path.open("rb") as stream:
        start, cpu = time.perf_counter(), time.process_time()
        raw = RawObject("raw/video/events/bench.jsonl", "1", START, path.stat().st_size, stream)
        made = ingest(raw, system, DiskStore())
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rows": sum(made.rows.values()),
        "quarantined": sum(made.quarantined.values()),
    }


def bare(path: Path, folder: Path) -> dict[str, float]:
    """Read and write, no more."""
    import duckdb  # noqa: PLC0415

    connection = duckdb.connect()
    start, cpu = time.perf_counter(), time.process_time()
    connection.execute(
        f"COPY (SELECT * FROM read_json('{path}', format = 'newline_delimited'))"  # noqa: S608
        f" TO '{folder / 'bare.parquet'}' (FORMAT parquet)"
    )
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def run(side: str, path: Path) -> dict[str, float]:
    """Run one side in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--side", side, str(path)], check=True, capture_output=True)  # noqa: S603
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def measure(case: str) -> dict[str, float]:
    """Measure one case."""
    rows, days, runs = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.jsonl")
        write_events(path, case, rows, days)
        both = [(run("ours", path), run("bare", path)) for _ in range(runs)]
    best = {
        f"{name}{key}": round(min(measured[key] for measured in side), 2)
        for name, side in zip(("", "duckdb_"), zip(*both, strict=True), strict=True)
        for key in ("seconds", "cpu_seconds")
    }
    return {
        "rows": rows,
        "quarantined": both[0][0]["quarantined"],
        **best,
        "ratio": round(best["seconds"] / best["duckdb_seconds"], 2),
        "cpu_ratio": round(best["cpu_seconds"] / best["duckdb_cpu_seconds"], 2),
        "peak_mb": max(round(first["peak_mb"]) for first, _ in both),
    }


def main() -> None:
    """Measure all cases, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--side", nargs=2)
    arguments = parser.parse_args()
    if arguments.side:
        side, path = arguments.side
        with tempfile.TemporaryDirectory() as folder:
            measured = {"ours": ours, "bare": bare}[side](Path(path), Path(folder))
        measured["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(json.dumps(measured))
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    load = round(os.getloadavg()[0], 1)
    result: dict[str, object] = {"machine": machine, "load": load, "budget": {"plain_ratio": 3, "peak_mb": 1000}}
    for case in arguments.cases.split(","):
        result[case] = measure(case)
        print(case, result[case], flush=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
