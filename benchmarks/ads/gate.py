"""`kuairand_gate`: what the gate says of the last two days, of the archives that the same jobs leave.

Nothing serves yet. One snapshot has all six days, of which 28 April is validation and 29-30 April are the test, judged
by the code that judges in the cloud. `--work` keeps its report.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks import clicks
from benchmarks.ads.kuairand_days import videos_as_ads
from benchmarks.ads.models import parted, trained
from benchmarks.clicks import FIRST_TEST_DAY
from benchmarks.judged import of_record, packed

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.evaluation.messages import JudgeRequest, RungResult
from twinloop.evaluation.run import judge_results
from twinloop.ports import MemoryObjectStore
from twinloop.serving.loading import load_models


def on_kuairand_gate(work: Path, rungs: tuple[str, ...], simulated: int) -> dict[str, Any]:
    """The gate's verdict on the last two days, where nothing serves yet; the report is left in the folder."""
    del simulated
    if not clicks.KUAIRAND.exists():
        return {"missing": clicks.MISSING}
    raw = videos_as_ads(work)
    date = raw.sql("SELECT date FROM events WHERE type = 'impression'").df().date
    chosen_on = date[date < FIRST_TEST_DAY].max()
    system = parted(float((date == chosen_on).mean()), float((date >= FIRST_TEST_DAY).mean()))
    made = clicks.snapshot(work / "made", raw, system)
    manifest = SnapshotManifest.model_validate_json((made / "manifest.json").read_bytes())
    objects, key = MemoryObjectStore(), f"snapshots/{manifest.system}/{manifest.snapshot_id}/"
    for path in made.rglob("*"):
        if path.is_file():
            objects.write(key + path.relative_to(made).as_posix(), path.read_bytes())
    results, seconds = [], {}
    for rung in rungs:
        seconds[rung] = trained(made, work / "models" / rung, rung)
        archive = f"jobs/{rung}/output/model.tar.gz"
        objects.write(archive, packed(work / "models" / rung))
        results.append(RungResult(rung=rung, status="Completed", model_key=archive, seconds=seconds[rung]))
    request = JudgeRequest(system=manifest.system, snapshot_key=key, results=tuple(results))
    # Judged when the last click may have come, as a learning of the same evening would have it.
    moment = manifest.last_event + timedelta(hours=1)
    answer = judge_results(request, objects, system, load_models, clock=lambda: moment)
    (work / "report.html").write_bytes(objects.read(answer.report_key).body)
    record = json.loads(objects.read(answer.report_key.removesuffix("html") + "json").body)
    parts = {part: manifest.rows[f"{part}/impressions"] for part in ("train", "validation", "test")}
    return {**parts, "job_s": seconds, **of_record(record)}
