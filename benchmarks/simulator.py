"""The simulator: its time and memory, up to 100,000 users, 100,000 videos and 10 million events.

    python -m benchmarks.simulator [--out benchmarks/simulator.json]

Each case is the command itself, in a process of its own; what it wrote is deleted again. `best` is the score of the
true probabilities, which no model is expected to pass.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

CASES: dict[str, dict[str, object]] = {
    "defaults": {},
    "one_million": {"users": 100_000, "items": 100_000, "events": 1_000_000},
    "ten_million": {"users": 100_000, "items": 100_000, "events": 10_000_000},
    "ten_million_parquet": {"users": 100_000, "items": 100_000, "events": 10_000_000, "format": "parquet"},
}
# The parent of a process knows its peak; a module that only runs the command line measures itself.
_RUN = "import resource, sys; from twinloop.cli import app\ntry: app()\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # noqa: E501


def measure(options: dict[str, object]) -> dict[str, object]:
    """Run one case."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "simulated")
        command = [sys.executable, "-c", _RUN, "simulate", "video", str(target)]
        command += [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
        seconds = time.perf_counter() - start
        facts = json.loads((target / "simulation.json").read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in (target / "raw").rglob("*") if path.is_file())
    best = facts["best_possible"]
    return {
        "users": facts["rows"]["users"],
        "items": facts["rows"]["items"],
        "events": facts["rows"]["events"],
        "seconds": round(seconds, 1),
        "peak_mb": round(int(done.stdout.split()[-1]) / 1024),
        "raw_mb": round(size / 1e6),
        "best click AUC": round(best["click"]["auc"], 4),
        "best click NE": round(best["click"]["normalised_entropy"], 4),
    }


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--cases", default=",".join(CASES))
    options = parser.parse_args()
    report: dict[str, object] = {"command": "python -m benchmarks.simulator", "systems": ["video"]}
    for case in options.cases.split(","):
        report[case] = measure(CASES[case])
        print(case, report[case], flush=True)
    report["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    report["versions"] = {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
