"""`davidson_gate`: what the gate says of the archives that the same jobs leave, by the code that judges in the cloud.

Nothing serves yet. `the spec's parts`: a tenth of the groups is the test, a tenth validation, as the system divides its
own snapshots. `a fifth tested`: twice as many, because a tenth holds too few clean texts of a slice for the gate to
guard it. Which texts are tested is told by a hash, so the tenth is inside the fifth, and both overlap the test parts of
`davidson`. A row has the rates of false positives of each guarded slice, inside and outside, with the difference's
interval. `--work` keeps the reports.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clicks import ROOT
from benchmarks.judged import of_record, packed
from benchmarks.moderation.metrics import MARKED
from benchmarks.moderation.parts import RUNGS, opened
from benchmarks.moderation.texts import Row, davidson, snapshot

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.spec import Split
from twinloop.evaluation.messages import JudgeRequest, RungResult
from twinloop.evaluation.run import judge_results
from twinloop.ports import MemoryObjectStore
from twinloop.serving.loading import load_models
from twinloop.systems.moderation.system import SYSTEM
from twinloop.training import local

GATE = "davidson_gate"
GATED: dict[str, Split] = {
    "the spec's parts": SYSTEM.spec.split,
    "a fifth tested": SYSTEM.spec.split.model_copy(update={"test": 0.2}),
}


def add_gate(
    output: Path, data: Path, work: Path | None, *, gated: Sequence[str] = tuple(GATED), rungs: Sequence[str] = RUNGS
) -> None:
    """Let the gate judge the rungs' jobs on Davidson's texts, and add what it says to the result."""
    for name in gated:
        found = judged(davidson(data), GATED[name], rungs, work and work / f"{name}.html")
        result, kept = opened(output)
        kept.setdefault(GATE, {})[name] = found
        output.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps({GATE: {name: found}}, indent=1), flush=True)


def judged(rows: Iterable[Row], split: Split, rungs: Sequence[str], report: Path | None = None) -> Row:
    """Return the gate's verdict on the rungs' jobs, where nothing serves yet; its page is written to `report`."""
    system = dataclasses.replace(SYSTEM, spec=SYSTEM.spec.model_copy(update={"split": split}))
    store, results, seconds = MemoryObjectStore(), [], {}
    with tempfile.TemporaryDirectory(prefix="moderation-") as place:
        made = snapshot(Path(place), rows, system)
        manifest = SnapshotManifest.model_validate_json((made / "manifest.json").read_bytes())
        key = f"snapshots/{manifest.system}/{manifest.snapshot_id}/"
        for path in made.rglob("*"):
            if path.is_file():
                store.write(key + path.relative_to(made).as_posix(), path.read_bytes())
        for rung in rungs:
            started, archive = time.perf_counter(), f"jobs/{rung}/output/model.tar.gz"
            if local.run(ROOT / "training_jobs" / rung, made, Path(place) / rung, {}):
                raise RuntimeError(f"the job {rung} failed; its reason is above")
            seconds[rung] = round(time.perf_counter() - started, 1)
            store.write(archive, packed(Path(place) / rung))
            results.append(RungResult(rung=rung, status="Completed", model_key=archive, seconds=seconds[rung]))
    request = JudgeRequest(system=manifest.system, snapshot_key=key, results=tuple(results))
    answer = judge_results(request, store, system, load_models, clock=lambda: manifest.last_event)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(store.read(answer.report_key).body)
    record = json.loads(store.read(answer.report_key.removesuffix("html") + "json").body)
    parts = {part: manifest.rows[f"{part}/examples"] for part in ("train", "validation", "test")}
    told = of_record(record)
    for entry in record["candidates"]:
        told["rows"][entry["rung"]] |= false_positives(entry)
    del told["judged"]  # impressions, of which there are none
    return {**parts, "job_s": seconds, **told}


def false_positives(entry: Mapping[str, Any]) -> Row:
    """Return, of a candidate of the gate's record, who is wrongly acted upon in each guarded slice, and its vetoes."""
    found: Row = {}
    for rate in entry["subgroups"]:
        name = f"{rate['slice']} {rate['label']}"
        if name in MARKED:  # all others are what it is compared with
            found |= {
                f"{name}: clean texts": rate["negatives"],
                f"{name}: acted upon": round(rate["false_positive_rate"], 4),
                f"{name}: others": round(rate["outside"], 4),
                f"{name}: more by at least": round(rate["low"], 4),
                f"{name}: more by at most": round(rate["high"], 4),
            }
    return found | {"vetoes": [veto["guard"] for veto in entry["vetoes"]]}
