"""The whole loop on many users, items and events: the time and the peak memory of every step.

    python -m benchmarks.scale [--users 100000] [--items 100000] [--events 10000000] [--out benchmarks/scale.json]

Simulated data goes through ETL, snapshot, every rung of the ladder, the gate, the online store and serving. Every step
is a process of its own on one thread, so its peak memory is its own (the largest resident set of it and its children).
A rung that refuses such a catalogue is told with its words; that is a result. The gate judges what was trained, and the
largest release that can serve is then served by the real handler in a fresh process, whatever the gate thought of it.
The whole size takes more than ten minutes, so `python -m benchmarks` leaves it out; `--only` runs some of the steps
again on what `--work` holds from earlier.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from twinloop import systems

ROOT = Path(__file__).resolve().parents[1]
SERVED = ("multitask_ranker", "sequence", "two_tower", "popularity")  # the first of these that was trained is served
BUDGET_MB = 512
# Two releases are in memory with a challenger, and for a moment whenever a release replaces another one.
BESIDE: dict[str, list[str]] = {
    "serve": [],
    "serve two releases": ["challenger"],
    "serve three releases": ["challenger", "shadow"],
}
COSTS = ("seconds", "cpu_seconds", "peak_mb", "load")  # `load`: how busy the machine was, with others' work too
console = Console()


@dataclass
class Scale:
    """One measurement under way."""

    work: Path
    settings: dict[str, int]
    limit_s: int
    serve: list[str]
    out: Path
    report: dict[str, Any] = field(default_factory=dict)

    def run(self, name: str, command: list[str]) -> dict[str, Any]:
        """Run one step in a process of its own; what it costs, what it made or why it failed."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        log, out = self.work / f"{name}.log", self.work / f"{name}.out"
        began = time.perf_counter()
        with log.open("w") as errors, out.open("w") as said:
            process = subprocess.Popen(  # noqa: S603 - ourselves
                command, cwd=ROOT, env=environment, stdout=said, stderr=errors, start_new_session=True
            )
            status, used, late = self._wait(name, process, began)
        measured: dict[str, Any] = {
            "seconds": round(time.perf_counter() - began, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_mb": round(used.ru_maxrss / 1024),
            "load": round(os.getloadavg()[0], 1),
        }
        lines = out.read_text().strip().splitlines()
        if late:
            measured["failed"] = f"was not done after {self.limit_s} s"
        elif status:
            told = [line for line in log.read_text().splitlines() if line.strip()] or lines or ["nothing was said"]
            measured["failed"] = next((line for line in told if line.startswith("failed: ")), told[-1])
        elif lines and lines[-1].startswith("{"):
            measured |= json.loads(lines[-1])
        self.report[name] = measured
        self.save()
        console.print(_row(name, measured), soft_wrap=True, highlight=False)
        return measured

    def _wait(self, name: str, process: subprocess.Popen[bytes], began: float) -> tuple[int, Any, bool]:
        late = False
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task(name)
            while True:
                pid, status, used = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    return process.returncode, used, late
                if not late and time.perf_counter() - began > self.limit_s:
                    late = True
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.05)

    def save(self) -> None:
        """Write what was measured so far: the whole takes long, and the last step may fail."""
        flags = " ".join(f"--{name} {value}" for name, value in self.settings.items())
        report = {
            "command": f"python -m benchmarks.scale {flags}",
            "systems": ["video"],
            **self.settings,
            "steps": self.report,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a step",
            "versions": {"python": platform.python_version()},
        }
        self.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def step(self, name: str, *more: Any) -> list[str]:
        """The command of a step of `scale_steps`."""
        told = [json.dumps(value) for value in more]
        return [sys.executable, "-m", "benchmarks.scale_steps", name, str(self.work), *told]


def simulate(scale: Scale) -> None:
    """Make the raw data up."""
    run = "from twinloop.cli import main; main()"
    sizes = [part for name, value in scale.settings.items() for part in (f"--{name}", str(value))]
    scale.run("simulate", [sys.executable, "-c", run, "simulate", "video", str(scale.work / "simulated"), *sizes])


def ladder(scale: Scale, only: set[str]) -> None:
    """Train every rung."""
    for rung in systems.load("video").spec.rungs:
        if not only or {"train", f"train {rung.name}"} & only:
            scale.run(f"train {rung.name}", scale.step("train", rung.name))


def judge(scale: Scale) -> None:
    """Judge what was trained, and let what is large serve."""
    trained = {name[6:]: entry for name, entry in scale.report.items() if name.startswith("train ")}
    done = [name for name, entry in trained.items() if "failed" not in entry]
    failed = {name: entry["failed"] for name, entry in trained.items() if "failed" in entry}
    judged = scale.run("gate", scale.step("gate", done, failed))
    if "failed" not in judged:
        judged["served"] = next(name for name in SERVED if name in done)
        subprocess.run(scale.step("serve_release", judged["served"]), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603 - ourselves


def measure(scale: Scale, only: set[str]) -> None:
    """Run the steps, one after the other: the machine belongs to one at a time."""
    if not only or "simulate" in only:
        simulate(scale)
    for name in ("etl", "snapshot"):
        if not only or name in only:
            scale.run(name, scale.step(name))
    ladder(scale, only)
    if not only or "gate" in only:
        judge(scale)
    if not only or "materialise" in only:
        scale.run("materialise", scale.step("materialise"))
    if not only or "serve" in only:
        serve(scale)


def serve(scale: Scale) -> None:
    """Measure serving, with the champion alone and with others of the same size beside it.

    What is resident is told by the serving process itself; the process around it plays the cloud.
    """
    command = [sys.executable, "-m", "benchmarks.scale_serve", str(scale.work), *scale.serve]
    for name, aliases in BESIDE.items():
        beside = scale.step("serve_beside", scale.report["gate"]["served"], aliases)
        subprocess.run(beside, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603 - ourselves
        scale.run(name, command)["budget_mb"] = BUDGET_MB


def _row(name: str, measured: dict[str, Any]) -> str:
    made = {key: value for key, value in measured.items() if key not in COSTS}
    return f"{name:22}{measured['seconds']:9.1f} s{measured['peak_mb']:8} MB  {json.dumps(made)[:300]}"


def table(report: dict[str, Any]) -> Table:
    """The steps side by side."""
    made = Table("step", "seconds", "CPU seconds", "peak MB", "load", "")
    for name, entry in report.items():
        made.add_row(name, *(str(entry.get(cost, "")) for cost in COSTS), str(entry.get("failed", "")))
    return made


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--limit-s", type=int, default=3600, help="A step that takes longer is stopped, and told so.")
    parser.add_argument("--serve-python", default=sys.executable, help="Interpreter of the serving process.")
    parser.add_argument("--serve-path", default="", help="Where its dependencies are, unless it has them (PYTHONPATH).")
    parser.add_argument("--work", type=Path, help="Keep what the steps make here; by default it is deleted.")
    parser.add_argument("--only", action="append", default=[], help="A step; give it several times. Needs --work.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    sizes = {name: getattr(options, name) for name in ("users", "items", "events")}
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(options.out.read_text()) if options.only and options.out.exists() else {}
        serve = ["--python", options.serve_python, "--path", options.serve_path]
        scale = Scale(work, sizes, options.limit_s, serve, options.out, dict(earlier.get("steps", {})))
        measure(scale, set(options.only))
    scale.save()
    console.print(table(scale.report))


if __name__ == "__main__":
    main()
