"""`davidson` and `mlma`: each rung's figures on texts left out, part by part.

Of Davidson's texts a tenth is tested, stratified by the class that most annotators chose: scikit-learn's
`train_test_split` with `random_state` 42, then with 1 and 2. A text is hate where that label is flagged, otherwise
offensive where that one is, otherwise neither; the thresholds are the job's own. Of `mlma` a tenth is tested, too.

`job_s`, `job_cpu_s`: the job's seconds and those of processors. `p50_ms`, `p99_ms`: one text through the function's
code, API Gateway's event to its answer; `100_kb_ms`: one of 100,000 characters; `cpu`: without waiting for a processor
that others use, too. Row `tfidf_lr`: see `tfidf`. Over several seeds a figure is the mean, and `each test part` has
those of every seed.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.clicks import RESULT, ROOT
from benchmarks.moderation.latency import latency
from benchmarks.moderation.metrics import of_davidson, of_labels
from benchmarks.moderation.texts import DATA, Row, davidson, mlma, parted, snapshot, stratified
from benchmarks.moderation.tfidf import beside
from sklearn.model_selection import train_test_split

from twinloop.serving.loading import load_models
from twinloop.systems.moderation.serve import ModerationPredictor
from twinloop.systems.moderation.system import SYSTEM
from twinloop.training import local

BESIDE = "tfidf_lr"
RUNGS = tuple(rung.name for rung in SYSTEM.spec.rungs)
DATA_SETS, SEEDS = ("davidson", "mlma"), (42, 1, 2)


def add(
    output: Path = RESULT,
    data: Path = DATA,
    *,
    only: Sequence[str] = DATA_SETS,
    rungs: Sequence[str] = (BESIDE, *RUNGS),
    seeds: Sequence[int] = SEEDS,
) -> None:
    """Measure rungs on test parts, and add each figure to the result as soon as it is there."""
    for name in only:
        for rung in rungs:
            for seed in seeds:
                row = measure(name, data, rung, seed)
                result, kept = opened(output)  # as it is by now: another run may have added to it
                each = kept.setdefault(f"{name}, each test part", {})
                each[f"{rung} {seed}"] = row
                found = [row for key, row in each.items() if key.startswith(f"{rung} ")]
                kept.setdefault(name, {})[rung] = summary(found)
                output.write_text(json.dumps(result, indent=1) + "\n")
                print(json.dumps({name: {f"{rung} {seed}": row}}, indent=1), flush=True)


def opened(output: Path) -> tuple[Row, Row]:
    """Return the results so far, and those of moderation in them."""
    result = json.loads(output.read_text()) if output.exists() else {}
    about = {"command": "python -m benchmarks.moderation", "systems": ["moderation"]}
    return result, result.setdefault("moderation", about)


def summary(found: list[Row]) -> Row:
    """Return the mean of each figure, and of how many test parts it is one."""
    names = dict.fromkeys(name for one in found for name in one)
    means = {name: round(float(np.mean([one[name] for one in found if name in one])), 4) for name in names}
    return {"test parts": len(found), **means}


def measure(name: str, data: Path, rung: str, seed: int) -> Row:
    """Return the figures of one rung on one test part."""
    rows = {"davidson": davidson, "mlma": mlma}[name](data)
    strata = np.array([row["stratum"] for row in rows])
    if name == "davidson":
        test = train_test_split(np.arange(len(rows)), test_size=0.1, stratify=strata, random_state=seed)[1]
    else:
        test = stratified(strata, seed)  # some strata have one text, which scikit-learn refuses
    held = set(test.tolist())
    tested = [rows[place] for place in test]
    if rung == BESIDE:
        return beside(name, [row for number, row in enumerate(rows) if number not in held], tested)
    with tempfile.TemporaryDirectory(prefix="moderation-") as place:
        learnt = [row for number, row in enumerate(rows) if number not in held]
        folder = snapshot(Path(place), learnt, parted(SYSTEM))
        started, spent = time.perf_counter(), children()
        if local.run(ROOT / "training_jobs" / rung, folder, Path(place) / "model", {"seed": str(seed)}):
            raise RuntimeError(f"the job {rung} failed; its reason is above")
        took = {"job_s": round(time.perf_counter() - started, 1), "job_cpu_s": round(children() - spent, 1)}
        files = {"text": {path.name: path.read_bytes() for path in (Path(place) / "model" / "text").iterdir()}}
    predictor = ModerationPredictor(load_models(files))
    found = of_davidson(predictor, tested) if name == "davidson" else of_labels(predictor, tested)
    return (
        found
        | took
        | {"mb": round(sum(map(len, files["text"].values())) / 2**20, 2)}
        | latency(files, [row["text"] for row in tested[:300]])
    )


def children() -> float:
    """Return the processor seconds of processes that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
