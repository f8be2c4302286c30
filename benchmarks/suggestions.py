"""How well upcoming events are ranked: `python -m benchmarks.suggestions` adds to benchmarks/quality.json.

Simulated towns (`twinloop simulate suggestions`), whose true probabilities are known, as is therefore the best possible
ranking. Every rung of the ladder is what the real snapshot and the real job make of a lake; the last tenth of the lists
is ranked by the code that serves, each list by what was known at its moment, and held against what came of it. Beside
the rungs stand the true probabilities (of a yes to what is looked at), and chance. Intervals are bootstraps over
lists, of a list's own differences.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.artefacts import Case
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import SuggestionsSettings, WorldSettings
from twinloop.evaluation.candidates import CASES_FILE
from twinloop.evaluation.cases import read_cases
from twinloop.evaluation.intervals import Interval, mean_interval, paired_gain
from twinloop.evaluation.ranking import mrr, ndcg_at_k
from twinloop.evaluation.replay import replay
from twinloop.features.snapshot import Resources, build_snapshot
from twinloop.ports.objects import MemoryObjectStore
from twinloop.serving.loading import load_models
from twinloop.systems.suggestions.system import SYSTEM
from twinloop.training import local

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("quality.json")
RUNGS = tuple(rung.name for rung in SYSTEM.spec.rungs)
BASELINE, TRUTH = "distance_popularity", "true probabilities"
WORLD = WorldSettings(users=6_000, items=6_000, days=28, taste_turn_days=3_600)  # a month changes nobody
EVENTS = 300_000
SEED = 2026112  # of a world that nobody had looked at before models were what they are
Scores = dict[str, np.ndarray]


def main() -> None:
    """Measure, print and add to the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=list(RUNGS))
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--users", type=int, default=WORLD.users)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    found = measure(tuple(options.rungs), events=options.events, users=options.users, seed=options.seed)
    result = json.loads(options.output.read_text()) if options.output.exists() else {}
    result["suggestions"] = found
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def measure(
    rungs: tuple[str, ...] = RUNGS, *, events: int = EVENTS, users: int = WORLD.users, seed: int = SEED
) -> dict[str, Any]:
    """Return what was measured."""
    with tempfile.TemporaryDirectory(prefix="suggestions-") as place:
        work = Path(place)
        world = replace(WORLD, users=users, seed=seed)
        simulate(work / "world", world, SuggestionsSettings(events=events), kind="parquet")
        made = snapshot(work, work / "world")
        cases = read_cases((made / CASES_FILE).read_bytes())
        metrics, about = {"chance": of_chance(cases), TRUTH: of_truth(cases, work / "world" / "truth.parquet")}, {}
        for rung in rungs:
            metrics[rung], about[rung] = of_rung(rung, made, work / "models" / rung, cases)
        manifest = json.loads((made / "manifest.json").read_text())
    return {
        "command": f"python -m benchmarks.suggestions --seed {seed}",
        "systems": ["suggestions"],
        "machine": platform.machine(),
        "users": users,
        "events": events,
        "train": manifest["rows"]["train/examples"],
        "lists": len(cases),
        "rows": {name: told(name, metrics, about.get(name, {})) for name in metrics},
    }


def snapshot(work: Path, world: Path) -> Path:
    """Return the folder of a snapshot of a simulated world."""
    objects = MemoryObjectStore()
    for table in ("users", "items", "events"):
        for part in sorted((world / "raw" / table).glob("*.parquet")):
            objects.write(f"lake/suggestions/{table}/dt=2025-01-01/{part.name}", lake_rows(pq.read_table(part)))
    build_snapshot(
        SYSTEM,
        objects,
        work / "snapshot",
        now=datetime(2025, 2, 1, tzinfo=UTC),
        work=work / "lake",
        resources=Resources(),
    )
    return work / "snapshot"


def lake_rows(table: pa.Table) -> bytes:
    """Return rows as the ETL would leave them: objects as JSON text, no dictionaries."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_struct(column.type):
            told_of = [json.dumps({k: v for k, v in row.items() if v is not None}) for row in column.to_pylist()]
            column = pa.chunked_array([told_of])
        elif pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        if name != "simulated":
            columns[name] = column
    body = io.BytesIO()
    pq.write_table(pa.table(columns), body)
    return body.getvalue()


def of_rung(rung: str, made: Path, output: Path, cases: list[Case]) -> tuple[Scores, dict[str, float]]:
    """Return what a rung's release scores on each list, and what it took."""
    started = time.perf_counter()
    if local.run(ROOT / "training_jobs" / rung, made, output, {}):
        raise RuntimeError(f"the job {rung} failed; its reason is above")
    seconds = time.perf_counter() - started
    files = {
        folder.name: {path.name: path.read_bytes() for path in folder.iterdir()} for folder in sorted(output.iterdir())
    }
    scores = replay(SYSTEM.predictor(load_models(files)), cases, SYSTEM.judge)
    model_kb = len(files["ranking"]["model.onnx"]) / 1000
    about = {"job_s": round(seconds, 1), "p50_ms": round(scores.latency(50), 2), "model_kb": round(model_kb, 1)}
    return dict(scores.metrics), about


def of_truth(cases: list[Case], truth: Path) -> Scores:
    """Return what the true probabilities score on each list."""
    columns = ("request_id", "item_id", "p_rsvp", "p_seen")
    table = pq.read_table(truth, columns=list(columns))
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    chance = {(request, item): p / seen for request, item, p, seen in rows}
    return scored(cases, lambda case, item: chance[case.case_id, item])


def of_chance(cases: list[Case]) -> Scores:
    """Return what any order scores on each list."""
    return scored(
        cases, lambda case, item: int.from_bytes(hashlib.sha256(f"{case.case_id} {item}".encode()).digest()[:6])
    )


def scored(cases: list[Case], worth: Any) -> Scores:
    """Return the metrics of lists in the order of what each event is worth."""
    rows = []
    for case in cases:
        ids = [event["item_id"] for event in case.request["events"]]
        ranked, came = sorted(ids, key=lambda item: -worth(case, item)), set(case.truth["came"])
        rows.append((ndcg_at_k(ranked, came, 10), mrr(ranked, came)))
    values = np.array(rows)
    return {"ndcg_at_10": values[:, 0], "mrr": values[:, 1]}


def told(name: str, metrics: dict[str, Scores], about: dict[str, float]) -> dict[str, Any]:
    """Return a row: its scores, and how far it is from the truth and from the baseline."""
    mine, best = metrics[name]["ndcg_at_10"], metrics[TRUTH]["ndcg_at_10"]
    found = named("ndcg_at_10", mean_interval(mine)) | {"mrr": round(float(metrics[name]["mrr"].mean()), 4)}
    found["share of the true ranking's"] = round(float(mine.mean() / best.mean()), 4)
    if BASELINE in metrics and name != BASELINE:
        found |= named(f"above {BASELINE}", paired_gain(mine, metrics[BASELINE]["ndcg_at_10"]))
    return found | about


def named(name: str, interval: Interval) -> dict[str, float]:
    """Return an interval under a name, to four digits."""
    ends = {name: interval.mean, f"{name} low": interval.low, f"{name} high": interval.high}
    return {of: round(value, 4) for of, value in ends.items()}


if __name__ == "__main__":
    main()
