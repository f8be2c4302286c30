"""Search on MSRD, by a published protocol, and how long an answer takes: `python -m benchmarks.search`.

MSRD (CC BY-SA 4.0, beside the project): 9,750 films, 8,112 judged queries. Queries are divided by a hash of their text
into halves; of the first a tenth is validation, the rest is learnt from; of the second each rung is asked through the
serving code. NDCG@10 over the whole corpus, judgments 0 or 1, what nobody judged gaining nothing. Every setting is
chosen on the first half; but the second was looked at more than once while this was built, so that its intervals say
what chance does and not what looking did. Latency is that of the whole HTTP call in process, the query's encoding
included.

100,000 documents: titles with a number added and words of other films' texts; vectors are those of the films with
noise, since only the time is looked at.

Clicks: of several simulations, how far what is made of clicks is from the truth, for items that were shown often and
for all.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from twinloop import systems
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.searches import SearchWorld
from twinloop.datasets.simulator.settings import SearchSettings
from twinloop.evaluation.candidates import Load
from twinloop.evaluation.intervals import mean_interval
from twinloop.evaluation.replay import replay
from twinloop.features.schema import schema_hash
from twinloop.ports import MemoryObjectStore
from twinloop.registry.artefacts import served_mb
from twinloop.registry.registry import Registry
from twinloop.serving.http import Request
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app
from twinloop.systems.search.features import labelled_case
from twinloop.text.lexical import LexicalIndex
from twinloop.training import document_vectors, lexical_index, local
from twinloop.training.corpus import corpus_of_rows
from twinloop.training.document_vectors import Vectors, kept_vectors
from twinloop.training.examined import Seen, attraction, estimate
from twinloop.training.index_rebuild import named_by

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "support"))
import search_folder  # noqa: E402  what examples of search hold, and how a snapshot of them is written

RESULT = Path(__file__).with_name("quality.json")
MSRD = ROOT.parent / "shared" / "data" / "msrd"
KEY = "search"
RUNGS = ("bm25", "hybrid", "learned_ranking")
_NO_ITEM_FIELD = {"id", "title", "overview", "tags"}
_DOCUMENTS = 100_000
_ASKED = 1000
SEEDS = (0, 1, 2, 3, 4)
_PARTS = {"validation": 0.05, "train": 0.5}  # of all hashes; the rest is test


def films(folder: Path) -> list[dict[str, Any]]:
    """Return the items as they would be loaded."""
    with gzip.open(folder / "movies.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        {
            "item_id": row["id"],
            "title": row["title"],
            "text": row["overview"] or "",
            "tags": row["tags"] or [],
            "attributes": {k: v for k, v in row.items() if k not in _NO_ITEM_FIELD and v not in (None, "", [])},
        }
        for row in rows
    ]


def judgments(folder: Path) -> dict[str, dict[str, float]]:
    """Return query -> document -> grade."""
    found: dict[str, dict[str, float]] = {}
    with gzip.open(folder / "judgments.tsv.gz", "rt", encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            _, query, document, grade = line.rstrip("\n").split("\t")
            found.setdefault(query, {})[document] = float(grade)
    return found


def part_of(query: str) -> str:
    """Return in which part a query is."""
    share = int.from_bytes(hashlib.sha256(query.encode()).digest()[:8]) / 2**64
    return next((part for part, edge in _PARTS.items() if share < edge), "test")


def examples(judged: Mapping[str, Mapping[str, float]]) -> dict[str, list[dict[str, Any]]]:
    """Return the examples of train and validation; test is not among them."""
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for query in sorted(judged):
        if (part := part_of(query)) in rows:
            rows[part] += [search_folder.judged(query, *told) for told in sorted(judged[query].items())]
    return rows


def components(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return what a job left, by component."""
    return {
        part.name: {file.name: file.read_bytes() for file in part.iterdir()}
        for part in folder.iterdir()
        if part.is_dir()
    }


def measure(data: Path = MSRD, *, load: Load = load_models) -> dict[str, Any] | None:
    """Learn the ladder and ask for the other half; None where the data set is not there."""
    if not (data / "movies.jsonl.gz").exists():
        return None
    items, judged = films(data), judgments(data)
    known = {item["item_id"] for item in items}
    test = {
        query: {document: grade for document, grade in of.items() if grade > 0 and document in known}
        for query, of in judged.items()
        if part_of(query) == "test"
    }
    cases = [labelled_case(query, query, right) for query, right in sorted(test.items()) if right]
    queries = [case.request["query"] for case in cases]
    result: dict[str, Any] = {"documents": len(items), "test queries": len(cases)}
    system = systems.load("search")
    with tempfile.TemporaryDirectory() as place:
        snapshot = Path(place) / "snapshot"
        search_folder.write_snapshot(snapshot, examples(judged), items)
        made: dict[str, dict[str, bytes]] = {}
        for rung in RUNGS:
            out, before = Path(place) / rung, Path(place) / "hybrid" / "vectors"
            began = time.perf_counter()
            if local.run(
                ROOT / "training_jobs" / rung, snapshot, out, {}, champion=before if before.exists() else None
            ):
                raise SystemExit(f"{rung} failed; its reason is above")
            seconds = time.perf_counter() - began
            made = components(out)
            scores = replay(system.predictor(load(made)), cases, system.judge)
            told = mean_interval(scores.metrics["ndcg@10"], confidence=0.95, resamples=2000)
            result[rung] = {
                "ndcg@10": told.mean,
                "ndcg@10 low": told.low,
                "ndcg@10 high": told.high,
                "recall@10": float(scores.metrics["recall@10"].mean()),
                "training seconds": seconds,
                "served MB": served_mb(made),
                **latency(made, queries),
            }
            print(rung, json.dumps(result[rung]), flush=True)
        result[f"learned_ranking, {_DOCUMENTS:,} documents"] = larger(made, items, queries)
    result["clicks, simulated"] = clicks()
    return rounded(result)


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures with four digits behind the point, those within too."""

    def told(value: object) -> object:
        if isinstance(value, dict):
            return rounded(value)
        return round(value, 4) if isinstance(value, float) else value

    return {name: told(value) for name, value in figures.items()}


def latency(made: Mapping[str, Mapping[str, bytes]], queries: Sequence[str]) -> dict[str, float]:
    """Return milliseconds of whole calls, asked with titles and highlights as an application would."""
    store = MemoryObjectStore()
    registry = Registry(store, "search")
    versions = {name: registry.register_component(name, files) for name, files in made.items()}
    manifest = registry.draft_release(
        rung="learned_ranking", snapshot_id="benchmark", schema_hash=schema_hash(()), components=versions
    )
    registry.register_release(manifest, {})
    registry.promote(manifest.version, why="measured", by="benchmarks.search")
    app = make_app(systems.load("search"), store, None, None, look_every_s=3600)
    began = time.perf_counter()
    ask(app, queries[0])
    loaded = time.perf_counter() - began
    for query in queries[1:50]:
        ask(app, query)
    wall, cpu = [], []
    for query in queries[:_ASKED]:
        started, thread = time.perf_counter(), time.thread_time()
        ask(app, query)
        cpu.append((time.thread_time() - thread) * 1000)
        wall.append((time.perf_counter() - started) * 1000)
    return {
        "p50 ms": float(np.median(wall)),
        "p99 ms": float(np.quantile(wall, 0.99)),
        "p50 ms of the thread": float(np.median(cpu)),
        "first answer s": loaded,
    }


def ask(app: Callable[[Request], Any], query: str) -> dict[str, Any]:
    """Return the answer to a query."""
    body = json.dumps({"query": query, "include": ["titles", "highlights"], "explore": False}).encode()
    answer = app(Request("POST", "/v1/search/results", {"content-type": "application/json"}, body))
    told: dict[str, Any] = json.loads(answer.body)
    if answer.status != 200 or told["degraded"]:
        raise SystemExit(f"{query!r} was answered by {answer.body[:300]!r}")
    return told


def larger(
    made: Mapping[str, Mapping[str, bytes]], items: Sequence[Mapping[str, Any]], queries: Sequence[str]
) -> dict[str, float]:
    """Return the same of a hundred thousand documents, behind the same encoder and ranker."""
    began = time.perf_counter()
    corpus = corpus_of_rows(many(items), named_by(made["index"]))
    before = LexicalIndex.unpacked(made["index"][lexical_index.LEXICAL_FILE])
    index = lexical_index.build_index(corpus, before.scoring)
    files = lexical_index.index_files(corpus, index)
    seconds = time.perf_counter() - began
    kept = kept_vectors(made["vectors"][document_vectors.KEPT_FILE])
    drawn = np.random.default_rng(0)
    source = np.arange(len(corpus.ids)) % len(kept.scales)
    noise = drawn.integers(-8, 9, (len(source), kept.levels.shape[1]))
    levels = np.clip(kept.levels[source].astype(np.int64) + noise, -127, 127).astype(np.int8)
    vectors = Vectors(levels, kept.scales[source], np.arange(len(source), dtype=np.uint64))
    large = {name: dict(files) for name, files in made.items()}
    large["index"] |= {**files, "model.onnx": lexical_index.scoring_graph(index.size)}
    large["vectors"] |= {
        "model.onnx": document_vectors.vectors_graph(vectors),
        document_vectors.KEPT_FILE: vectors.kept(),
    }
    told = {"index seconds": seconds, "served MB": served_mb(large), **latency(large, queries)}
    print("larger", json.dumps(told), flush=True)
    return told


def many(items: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a hundred thousand items made of a few: the films as they are first, then again with other words."""
    draw = random.Random(0)
    words = [item["text"].split() for item in items if item["text"]]
    for number in range(_DOCUMENTS):
        item = items[number % len(items)]
        if number < len(items):
            yield dict(item)
            continue
        mixed = draw.choice(words)[:30] + draw.choice(words)[:30]
        title = f"{item['title']} {draw.choice(draw.choice(words))} {number // len(items)}"
        yield {**item, "item_id": f"{item['item_id']}-{number}", "title": title, "text": " ".join(mixed)}


def clicks(seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Return how well looks and attraction are told from simulated clicks, mean over simulations.

    Looks: the mean absolute error by place. Attraction, and clicks over showings beside it as they are and scaled by
    the truth (which nobody knows): root mean squared error and correlation, over pairs of query and item.
    """
    with tempfile.TemporaryDirectory() as place:
        each = [clicks_of(Path(place) / str(seed), SearchSettings(seed=seed)) for seed in seeds]
    told: dict[str, Any] = {"simulations": len(seeds)}
    for name in each[0]:
        told[name] = {key: float(np.mean([of[name][key] for of in each])) for key in each[0][name]}
    return told


def clicks_of(folder: Path, settings: SearchSettings) -> dict[str, dict[str, float]]:
    """Return the same of one simulation."""
    simulate(folder, settings, kind="parquet")
    truth = pq.read_table(folder / "truth.parquet").to_pandas()
    # Two documents' queries may be written alike; what is true of them is then the mean over their searches.
    places = truth.groupby(["query", "item_id", "position"]).agg(shown=("clicked", "size"), clicked=("clicked", "sum"))
    seen = [
        Seen(query, item, place, int(row.shown), int(row.clicked))
        for (query, item, place), row in zip(places.index, places.itertuples(), strict=True)
    ]
    observed = estimate(seen)
    found = attraction(seen, observed)
    pairs = truth.groupby(["query", "item_id"]).agg(
        shown=("clicked", "size"), naive=("clicked", "mean"), true=("p_attracts", "mean")
    )
    pairs["debiased"] = [found[pair] for pair in pairs.index]
    examined = SearchWorld(settings).examined
    told = {"looks": {"mean absolute error": float(np.abs(observed.examined[: len(examined)] - examined).mean())}}
    for least in (100, 20, 1):
        of = pairs[pairs.shown >= least]
        scaled = of.naive * (of.naive @ of.true) / (of.naive @ of.naive)
        scores = {"attraction": of.debiased, "clicks over showings": of.naive, "the same, scaled by the truth": scaled}
        row = {"pairs": float(len(of)), "share of showings": float(of.shown.sum() / pairs.shown.sum())}
        for name, score in scores.items():
            row |= {
                f"{name}: off by": float(np.sqrt(((score - of.true) ** 2).mean())),
                f"{name}: correlation": float(np.corrcoef(score, of.true)[0, 1]),
            }
        told[f"shown {least} times and more"] = row
    return told


def main() -> None:
    """Measure, and put the result beside that of the other systems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--data", type=Path, default=MSRD)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    found = measure(options.data)
    if found is None:
        raise SystemExit(f"there is no MSRD in {options.data}; name its folder with --data")
    told = json.loads(options.output.read_text()) if options.output.exists() else {}
    machine = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": "python -m benchmarks.search",
        "load": load,
    }
    told[KEY] = machine | {"systems": [KEY]} | found
    options.output.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told[KEY], indent=1))


if __name__ == "__main__":
    main()
