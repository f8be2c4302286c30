"""Models on public data, by published protocols: `python -m benchmarks.quality` writes benchmarks/quality.json.

MovieLens-100K: ratings of 4 and more are positive; users with at least five of them; each user's first 80 % by time
(ties in the source's order) are loaded through the deployed ETL, the last 20 % are never seen by any job. Every item
that the user had not liked before is ranked. The served release is asked through the API; each rung of the same
learning run is asked in process, through the same serving code. A split at one moment for everybody stands beside it,
because under the per-user split popularity may look at other users' later events.

KuaiRand, what becomes of a video that is shown: `benchmarks/clicks.py`. Probabilities of clicks on ads:
`benchmarks/ads`. Search on judged queries: `benchmarks/search.py`. Labels of texts: `benchmarks/moderation`.
Events in simulated towns: `benchmarks/suggestions.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import moderation
from benchmarks.ads import measure as measure_ads
from benchmarks.clicks import MISSING
from benchmarks.clicks import measure as measure_clicks
from benchmarks.search import measure as measure_search
from benchmarks.suggestions import measure as measure_suggestions
from rich.console import Console

from twinloop.aws import clients
from twinloop.commands import learn
from twinloop.commands.cloud import bring_up
from twinloop.commands.data import load_files
from twinloop.commands.evaluate import score
from twinloop.commands.target import deployment
from twinloop.datasets.movielens import write_movielens_100k
from twinloop_local import LocalSettings, down

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("quality.json")
CLOUD = {"TWINLOOP_STACK": "twinloop-quality", "TWINLOOP_PORT": "4576", "TWINLOOP_SAGEMAKER_PORT": "4580"}
Row = dict[str, Any]

console = Console()


def main() -> None:
    """Measure both splits and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    os.environ |= CLOUD
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": "make bench-quality",
    }
    for name, split in (("movielens-100k", per_user), ("movielens-100k, one moment for all", one_moment)):
        console.rule(name)
        result[name] = {"systems": ["video"], **measure(split)}
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    console.rule("kuairand")
    clicks = measure_clicks()
    if clicks is None:
        console.print(MISSING)
    else:
        result["kuairand"] = clicks
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    console.rule("ads")
    result["ads"] = measure_ads()
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    console.rule("search")
    searched = measure_search()
    if searched is not None:
        result["search"] = {"systems": ["search"]} | searched
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    console.rule("moderation")
    if all((moderation.DATA / name).is_dir() for name in moderation.DATA_SETS):
        moderation.add(options.output)
        result = json.loads(options.output.read_text())
    else:
        console.print(f"there are no texts in {moderation.DATA}: moderation is not measured")
    console.rule("suggestions")
    result["suggestions"] = measure_suggestions()
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    console.print_json(json.dumps(result))


def measure(split: Any) -> dict[str, dict[str, float]]:
    """Load the earlier part into a fresh local cloud, learn, and ask for the later part."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        write_movielens_100k(raw)
        rows = [json.loads(line) for line in (raw / "events.jsonl").read_text(encoding="utf-8").splitlines()]
        earlier, later = split([row for row in rows if row["rating"] >= 4])
        _write(raw / "events.jsonl", earlier)
        held_out = Path(folder) / "events-held-out.jsonl"
        _write(held_out, later)
        try:
            for name in list(os.environ):  # a new cloud has new addresses
                if name.startswith("AWS_ENDPOINT_URL"):
                    del os.environ[name]
            clients.forget()
            bring_up()
            place = deployment()
            load_files(place, "video", [raw])
            answer, _ = learn.run(place, "video")
            console.print(answer["verdict"])
            measured = {"served, through the API": _metrics(score(place, "video", held_out, api=True))}
            registry = place.registry("video")
            for version in registry.versions():
                # An alias is how a release is named to the serving code; the champion's own is left alone.
                registry.move_alias("shadow", version, why="measured", by="benchmarks.quality")
                found = score(place, "video", held_out, alias="shadow")
                measured[found["rung"]] = _metrics(found)
            return measured
        finally:
            down(LocalSettings.from_environment(ROOT))


def per_user(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Each user's first 80 % of positives, rounded down, and the rest; users with five positives or more."""
    users: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        users[row["user_id"]].append(row)
    earlier, later = [], []
    for theirs in users.values():
        if len(theirs) >= 5:
            theirs.sort(key=lambda row: row["time"])
            cut = int(len(theirs) * 0.8)
            earlier += theirs[:cut]
            later += theirs[cut:]
    return earlier, later


def one_moment(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The first 80 % of all positives by time, and what the same users liked afterwards."""
    rows = sorted(rows, key=lambda row: row["time"])
    cut = int(len(rows) * 0.8)
    known = {row["user_id"] for row in rows[:cut]}
    return rows[:cut], [row for row in rows[cut:] if row["user_id"] in known]


def _metrics(found: dict[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {"users": found["cases"], "p50_ms": found["latency_ms"]["p50"]}
    for name, interval in found["metrics"].items():
        flat |= {name: interval["mean"], f"{name} low": interval["low"], f"{name} high": interval["high"]}
    return {name: round(value, 4) for name, value in flat.items()}


def _write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
