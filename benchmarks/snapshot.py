"""A video snapshot of many made-up ratings: its time and the memory it needs.

    python -m benchmarks.snapshot [--events 10000000] [--memory-mb 1500] [--out benchmarks/snapshot.json]

The lake is a folder, so what is measured is the snapshot and not a network. The lake is made in another process.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from twinloop.features.snapshot import Resources, make_snapshot
from twinloop.ports import StoredObject
from twinloop.systems import load

# ruff: noqa: S608  made-up data
FILES = 10


class FolderStore:
    """ObjectStore on a folder, for one process that replaces nothing: every ETag is empty."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, key: str) -> StoredObject:
        return StoredObject(key, (self.root / key).read_bytes(), "")

    def write(self, key: str, body: bytes, *, content_type: str = "") -> str:
        del content_type
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(body)
        return ""

    write_new = write

    def replace(self, key: str, body: bytes, *, etag: str, content_type: str = "") -> str:
        del etag
        return self.write(key, body, content_type=content_type)

    def keys(self, prefix: str) -> Iterator[str]:
        found = (str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)


def fill(root: Path, events: int) -> None:
    """Ratings of users with about a hundred each, on items of unequal fame, three seconds apart."""
    with duckdb.connect() as connection:
        for n in range(FILES):
            folder = root / f"lake/video/events/dt=2025-01-{n + 1:02d}"
            folder.mkdir(parents=True)
            connection.execute(f"""
                COPY (
                    SELECT 'e' || i AS event_id, 'rating' AS type, to_timestamp(1735689600 + i * 3) AS time,
                        'u' || hash(i) % {max(events // 100, 20)} AS user_id,
                        'i' || sqrt(hash(i, 7) % 2500000000)::BIGINT AS item_id, (1 + hash(i, 3) % 5)::DOUBLE AS rating
                    FROM range({events * n // FILES}, {events * (n + 1) // FILES}) AS numbers(i)
                ) TO '{folder}/made-up.parquet' (FORMAT parquet)
            """)


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--memory-mb", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill(options.fill, options.events)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--events", str(options.events), "--fill", folder]
        subprocess.run(command, check=True)  # noqa: S603  ourselves
        start = time.perf_counter()
        resources = Resources(memory_mb=options.memory_mb)
        manifest = make_snapshot(load("video"), FolderStore(Path(folder)), now=datetime.now(UTC), resources=resources)
        seconds = time.perf_counter() - start
    report = {
        "command": f"python -m benchmarks.snapshot --events {options.events} --memory-mb {options.memory_mb}",
        "seconds": round(seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rows": manifest.rows,
        "bytes": {entry.path: entry.bytes for entry in manifest.files},
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "duckdb": duckdb.__version__},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
