"""How well labels of texts are told: `python -m benchmarks.moderation` adds to benchmarks/quality.json.

Every rung is what the real ingest, snapshot and job make of raw rows; its ONNX file is asked through the predictor that
serves, about texts that nothing was learnt from or chosen on.

`davidson`: tweets of Davidson et al. (ICWSM 2017). Each annotator's word is a row of `labels`: `hate`, and `offensive`
of whoever says hate or offence. A tenth is tested, stratified by the class that most annotators chose: scikit-learn's
`train_test_split` with `random_state` 42, then with 1 and 2. A text is hate where that label is flagged, otherwise
offensive where that one is, otherwise neither; the thresholds are the job's own.

`mlma`: English tweets of Ousidhoum et al. (EMNLP 2019) with several labels each: what is felt in them. A tenth is
tested. `job_s`, `job_cpu_s`: the job's seconds and those of processors. `p50_ms`, `p99_ms`: one text through the
function's code, API Gateway's event to its answer; `100_kb_ms`: one of 100,000 characters; `cpu`: without waiting for
a processor that others use, too. Row `tfidf_lr`: TF-IDF of words (1-2) and characters (2-5) with balanced logistic
regression, which is what moderation is held against. Over several seeds a figure is the mean, and `each test part` has
those of every seed.

`davidson_gate`: what the gate says of the archives that the same jobs leave, where nothing serves yet, judged by the
code that judges in the cloud. `the spec's parts`: a tenth of the groups is the test, a tenth validation, as the system
divides its own snapshots. `a fifth tested`: twice as many, because a tenth holds too few clean texts of a slice for the
gate to guard it. Which texts are tested is told by a hash, so the tenth is inside the fifth, and both overlap the test
parts of `davidson`. A row has the rates of false positives of each guarded slice, inside and outside, with the
difference's interval. `--work` keeps the reports.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gc
import io
import json
import logging
import resource
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.clicks import RESULT, ROOT
from benchmarks.judged import of_record, packed
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import FeatureUnion

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.spec import Split
from twinloop.contracts.system import System
from twinloop.evaluation.classification import average_precision, f1, macro_f1
from twinloop.evaluation.messages import JudgeRequest, RungResult
from twinloop.evaluation.run import judge_results
from twinloop.features.snapshot import Resources, build_snapshot
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.lambdas import answer
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app
from twinloop.systems.moderation.features import slices_of
from twinloop.systems.moderation.serve import ModerationPredictor
from twinloop.systems.moderation.system import SYSTEM
from twinloop.training import local

DATA = ROOT.parent / "shared" / "data"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOLD_MS = 1_700_000_000_000
HATE, OFFENSIVE, NEITHER = 0, 1, 2
MLMA_LABELS = ("abusive", "disrespectful", "fearful", "hateful", "normal", "offensive")
BESIDE = "tfidf_lr"
MARKED = ("identity named", "dialect marked")  # guarded slices, and those who are to be guarded in each
RUNGS = tuple(rung.name for rung in SYSTEM.spec.rungs)
DATA_SETS, SEEDS, GATE = ("davidson", "mlma"), (42, 1), "davidson_gate"
GATED: dict[str, Split] = {
    "the spec's parts": SYSTEM.spec.split,
    "a fifth tested": SYSTEM.spec.split.model_copy(update={"test": 0.2}),
}
Row = dict[str, Any]
Ints = NDArray[np.int64]


def main() -> None:
    """Measure, print and add to the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds davidson/ and mlma/")
    parser.add_argument("--only", nargs="+", choices=[*DATA_SETS, GATE], default=[*DATA_SETS, GATE])
    parser.add_argument("--rungs", nargs="+", choices=[BESIDE, *RUNGS], default=[BESIDE, *RUNGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="each is another tenth to test by")
    parser.add_argument("--gated", nargs="+", choices=list(GATED), default=list(GATED), help="parts that are judged")
    parser.add_argument("--work", type=Path, help="a folder that keeps the gate's reports")
    options = parser.parse_args()
    only = [name for name in options.only if name != GATE]
    add(options.output, options.data, only=only, rungs=options.rungs, seeds=options.seeds)
    if GATE in options.only:
        rungs = [name for name in options.rungs if name in RUNGS]
        add_gate(options.output, options.data, options.work, gated=options.gated, rungs=rungs)


def add(
    output: Path = RESULT,
    data: Path = DATA,
    *,
    only: Sequence[str] = DATA_SETS,
    rungs: Sequence[str] = (BESIDE, *RUNGS),
    seeds: Sequence[int] = SEEDS,
) -> None:
    """Measure rungs on test parts, and add each figure to the result as soon as it is there."""
    result, kept = opened(output)
    for name in only:
        for rung in rungs:
            each = kept.setdefault(f"{name}, each test part", {})
            for seed in seeds:
                each[f"{rung} {seed}"] = measure(name, data, rung, seed)
                found = [row for key, row in each.items() if key.startswith(f"{rung} ")]
                kept.setdefault(name, {})[rung] = summary(found)
                output.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps({name: {rung: kept[name][rung]}}, indent=1), flush=True)


def opened(output: Path) -> tuple[Row, Row]:
    """Return the results so far, and those of moderation in them."""
    result = json.loads(output.read_text()) if output.exists() else {}
    about = {"command": "python -m benchmarks.moderation", "systems": ["moderation"]}
    return result, result.setdefault("moderation", about)


def add_gate(
    output: Path, data: Path, work: Path | None, *, gated: Sequence[str] = tuple(GATED), rungs: Sequence[str] = RUNGS
) -> None:
    """Let the gate judge the rungs' jobs on Davidson's texts, and add what it says to the result."""
    result, kept = opened(output)
    for name in gated:
        found = judged(davidson(data), GATED[name], rungs, work and work / f"{name}.html")
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


def davidson(data: Path) -> list[Row]:
    """Return a row a tweet: its text, every annotator's word, its class."""
    rows = []
    with (data / "davidson" / "labeled_data.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            counts = [int(row[name]) for name in ("hate_speech", "offensive_language", "neither")]
            words = [kind for kind, count in enumerate(counts) for _ in range(count)]
            labels = [("hate", int(word == HATE), f"a{n}") for n, word in enumerate(words)]
            labels += [("offensive", int(word != NEITHER), f"a{n}") for n, word in enumerate(words)]
            kind = int(row["class"])
            rows.append({"id": f"d{number}", "text": row["tweet"], "labels": labels, "stratum": kind, "class": kind})
    return rows


def mlma(data: Path) -> list[Row]:
    """Return a row a tweet: its text, and of every label whether it was given."""
    rows = []
    with (data / "mlma" / "en_dataset.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            given = set(row["sentiment"].split("_"))
            labels = [(label, int(label in given), "a0") for label in MLMA_LABELS]
            rows.append({"id": f"m{number}", "text": row["tweet"], "labels": labels, "stratum": row["sentiment"]})
    return rows


def stratified(strata: NDArray[Any], seed: int) -> Ints:
    """Return the places of a tenth of each stratum, drawn by the seed."""
    draw, chosen = np.random.default_rng(seed), []
    for stratum in np.unique(strata):
        places = draw.permutation(np.flatnonzero(strata == stratum))
        chosen += places[: round(len(places) / 10)].tolist()
    return np.sort(np.array(chosen, np.int64))


def snapshot(place: Path, rows: Iterable[Row], system: System) -> Path:
    """Return the folder of a snapshot of these rows, divided as the system says."""
    items, labels = [], []
    for row in rows:
        items.append({"item_id": row["id"], "text": row["text"]})
        labels += [
            {"item_id": row["id"], "label": label, "value": value, "source": "import", "reviewer_id": who,
             "time": TOLD_MS}
            for label, value, who in row["labels"]
        ]  # fmt: skip
    store = MemoryObjectStore()
    for table, content in (("items", items), ("labels", labels)):
        body = "".join(json.dumps(row) + "\n" for row in content).encode()
        raw = RawObject(f"raw/moderation/{table}/rows.jsonl", "v1", NOW, len(body), io.BytesIO(body))
        receipt = ingest(raw, system, store)
        if receipt.refused:
            raise RuntimeError(receipt.refused)
    (place / "work").mkdir()
    build_snapshot(
        system, store, place / "snapshot", now=NOW, work=place / "work", resources=Resources(), minimum_cases=0
    )
    return place / "snapshot"


def parted(system: System) -> System:
    """Return the system with next to no test part of its own: what is tested is left out before."""
    split = Split(strategy="by_group", validation=0.1, test=1e-6)
    return dataclasses.replace(system, spec=system.spec.model_copy(update={"split": split}))


def of_davidson(predictor: ModerationPredictor, rows: list[Row]) -> Row:
    """Return the metrics of classes, and of who is wrongly flagged."""
    said = predictor.probabilities([row["text"] for row in rows])
    p = {label: np.array([one.get(label, 0.0) for one in said]) for label in ("hate", "offensive")}
    at = {label: predictor.told.labels[label].thresholds["flag"].at for label in p}
    hate, offensive = p["hate"] >= at["hate"], p["offensive"] >= at["offensive"]
    kinds = np.where(hate, HATE, np.where(offensive, OFFENSIVE, NEITHER))
    truth = np.array([row["class"] for row in rows])
    found = {
        "macro_f1": macro_f1(truth, kinds),
        "hate_f1": f1(truth == HATE, kinds == HATE),
        "hate_ap": average_precision(truth == HATE, p["hate"]),
        "neither_f1": f1(truth == NEITHER, kinds == NEITHER),
    }
    slices = [slices_of(row["text"]) for row in rows]
    for name, label in map(str.split, MARKED):
        inside = np.array([one[name] == label for one in slices])
        clean = truth == NEITHER
        found[f"false positives, {name} {label}"] = float((kinds != NEITHER)[clean & inside].mean())
        found[f"false positives, {name} others"] = float((kinds != NEITHER)[clean & ~inside].mean())
    return {name: round(value, 4) for name, value in found.items()}


def of_labels(predictor: ModerationPredictor, rows: list[Row]) -> Row:
    """Return micro- and macro-averaged precision over the labels that the release knows."""
    said = predictor.probabilities([row["text"] for row in rows])
    names = predictor.labels
    p = np.array([[one.get(name, 0.0) for name in names] for one in said])
    truth = np.array([[{label: value for label, value, _ in row["labels"]}[name] for name in names]
                      for row in rows], np.bool_)  # fmt: skip
    return averages(truth, p)


def averages(truth: NDArray[np.bool_], p: NDArray[np.float64]) -> Row:
    """Return micro- and macro-averaged precision of labels, bool[N, L] and float64[N, L]."""
    each = [average_precision(truth[:, place], p[:, place]) for place in range(truth.shape[1]) if truth[:, place].any()]
    return {
        "macro_ap": round(float(np.mean(each)), 4),
        "micro_ap": round(average_precision(truth.ravel(), p.ravel()), 4),
    }


def beside(name: str, train: list[Row], tested: list[Row]) -> Row:
    """Return the same figures of TF-IDF and balanced logistic regression, which learn from the class or the labels."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    both = FeatureUnion([("words", words), ("characters", characters)])
    learnt, asked = both.fit_transform([row["text"] for row in train]), both.transform([row["text"] for row in tested])
    if name == "davidson":
        model = LogisticRegression(C=4, class_weight="balanced", max_iter=200).fit(
            learnt, [row["class"] for row in train]
        )
        truth, p = np.array([row["class"] for row in tested]), model.predict_proba(asked)
        kinds = p.argmax(1)
        return {
            "macro_f1": round(macro_f1(truth, kinds), 4),
            "hate_f1": round(f1(truth == HATE, kinds == HATE), 4),
            "hate_ap": round(average_precision(truth == HATE, p[:, HATE]), 4),
            "neither_f1": round(f1(truth == NEITHER, kinds == NEITHER), 4),
        }
    targets, truth = (np.array([[value for _, value, _ in row["labels"]] for row in some]) for some in (train, tested))
    fits = [LogisticRegression(C=4, class_weight="balanced", max_iter=200).fit(learnt, column) for column in targets.T]
    p = np.stack([model.predict_proba(asked)[:, 1] for model in fits], 1)
    return averages(truth.astype(np.bool_), p)


def latency(files: dict[str, dict[str, bytes]], texts: list[str]) -> Row:
    """Return milliseconds of one text at a time, from API Gateway's event to its answer."""
    store = MemoryObjectStore()
    registry = Registry(store, "moderation")
    components = {name: registry.register_component(name, parts) for name, parts in files.items()}
    manifest = load_models(files)["text"].manifest
    draft = registry.draft_release(
        rung=manifest.rung, snapshot_id=manifest.snapshot_id, schema_hash=manifest.schema_hash, components=components
    )
    registry.register_release(draft, {})
    registry.promote(draft.version, why="measured", by="benchmarks.moderation")
    app = make_app(SYSTEM, store, None, None, logger=logging.getLogger("quiet"))

    def ask(text: str) -> tuple[float, float]:
        event = {"httpMethod": "POST", "path": "/v1/moderation/decisions", "body": json.dumps({"text": text})}
        started, spent = time.perf_counter(), time.thread_time()
        told, _ = answer(event, lambda: app)
        took = (time.perf_counter() - started) * 1000, (time.thread_time() - spent) * 1000
        if told["statusCode"] != 200:
            raise RuntimeError(told["body"])
        return took

    gc.disable()
    try:
        for text in texts[:20]:
            ask(text)
        took, spent = zip(*(ask(text) for text in texts), strict=True)
        long = (" ".join(texts) * 100)[:100_000]
        longest, long_spent = zip(*(ask(long) for _ in range(5)), strict=True)
    finally:
        gc.enable()
    return {
        "p50_ms": round(float(np.percentile(took, 50)), 3),
        "p99_ms": round(float(np.percentile(took, 99)), 3),
        "p50_cpu_ms": round(float(np.percentile(spent, 50)), 3),
        "100_kb_ms": round(float(np.median(longest)), 1),
        "100_kb_cpu_ms": round(float(np.median(long_spent)), 1),
    }


if __name__ == "__main__":
    main()
