"""Search on MSRD, by a published protocol, and how long an answer takes: `python -m benchmarks.search`.

MSRD (CC BY-SA 4.0, beside the project): 9,750 films, 8,112 judged queries. Queries are divided by a hash of their text
into halves; of the first a tenth is validation, the rest is learnt from; of the second each rung is asked through the
serving code. It was looked at more than once while this was built, with settings kept all the same. NDCG@10 over the
whole corpus, judgments 0 or 1, what nobody judged gaining nothing. Every setting is chosen on the first half. Latency
is that of the whole HTTP call in process, the query's encoding included.

100,000 documents: titles with a number added and words of other films' texts; vectors are those of the films with
noise, since only the time is looked at.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twinloop import systems
from twinloop.contracts.artefacts import SnapshotManifest
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
from twinloop.training import local, search_index, search_vectors
from twinloop.training.search_data import corpus_of_rows
from twinloop.training.search_rebuild import named_by
from twinloop.training.search_vectors import Vectors, kept_vectors

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("quality.json")
MSRD = ROOT.parent / "shared" / "data" / "msrd"
KEY = "search"
RUNGS = ("bm25", "hybrid", "learned_ranking")
COLUMNS = {
    "example_id": pa.string(),
    "group_id": pa.string(),
    "time_ms": pa.int64(),
    "query": pa.string(),
    "item_id": pa.string(),
    "grade": pa.float64(),
    "position": pa.int32(),
    "shown": pa.int64(),
    "clicked": pa.int64(),
}
_NO_ITEM_FIELD = {"id", "title", "overview", "tags"}
_DOCUMENTS = 100_000
_ASKED = 1000
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


def write_snapshot(folder: Path, items: Sequence[Mapping[str, Any]], judged: Mapping[str, Mapping[str, float]]) -> None:
    """Write what jobs read: items, and the examples of train and validation; test is not in the folder."""
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for query in sorted(judged):
        for document, grade in sorted(judged[query].items()):
            row = {"example_id": f"{query}\n{document}", "group_id": query, "time_ms": 0, "query": query}
            row |= {"item_id": document, "grade": grade, "position": None, "shown": 0, "clicked": 0}
            if (part := part_of(query)) in rows:
                rows[part].append(row)
    (folder / "items").mkdir(parents=True)
    packed = [{**item, "attributes": json.dumps(item["attributes"])} for item in items]
    pq.write_table(pa.Table.from_pylist(packed), folder / "items" / "items.parquet")
    for part, of in rows.items():
        (folder / part).mkdir()
        pq.write_table(pa.Table.from_pylist(of, schema=pa.schema(COLUMNS)), folder / part / "examples.parquet")
    now = datetime.now(UTC)
    manifest = SnapshotManifest(
        snapshot_id="benchmark",
        system="search",
        created_at=now,
        lake_files=(),
        files=(),
        rows={f"{part}/examples": len(of) for part, of in rows.items()} | {"items": len(packed)},
        first_event=now,
        last_event=now,
        split={"strategy": "by_group"},
        feature_versions={},
        schema_hash=schema_hash(()),
        features=(),
        history_length=1,
        example_columns=tuple(f"{name}:{kind}" for name, kind in COLUMNS.items()),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())


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
        write_snapshot(snapshot, items, judged)
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
    return rounded(result)


def rounded(value: Any) -> Any:
    """Return figures with four digits behind the point."""
    if isinstance(value, dict):
        return {name: rounded(of) for name, of in value.items()}
    return round(value, 4) if isinstance(value, float) else value


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
    before = search_index.LexicalIndex.unpacked(made["index"][search_index.LEXICAL_FILE])
    index = search_index.build_index(corpus, before.scoring)
    files = search_index.index_files(corpus, index)
    seconds = time.perf_counter() - began
    kept = kept_vectors(made["vectors"][search_vectors.KEPT_FILE])
    drawn = np.random.default_rng(0)
    source = np.arange(len(corpus.ids)) % len(kept.scales)
    noise = drawn.integers(-8, 9, (len(source), kept.levels.shape[1]))
    levels = np.clip(kept.levels[source].astype(np.int64) + noise, -127, 127).astype(np.int8)
    vectors = Vectors(levels, kept.scales[source], np.arange(len(source), dtype=np.uint64))
    large = {name: dict(files) for name, files in made.items()}
    large["index"] |= {**files, "model.onnx": search_index.scoring_graph(index.size)}
    large["vectors"] |= {"model.onnx": search_vectors.vectors_graph(vectors), search_vectors.KEPT_FILE: vectors.kept()}
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


def main() -> None:
    """Measure, and put the result beside that of the other systems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--data", type=Path, default=MSRD)
    options = parser.parse_args()
    found = measure(options.data)
    if found is None:
        raise SystemExit(f"there is no MSRD in {options.data}; name its folder with --data")
    told = json.loads(options.output.read_text()) if options.output.exists() else {}
    machine = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "command": "python -m benchmarks.search"}
    told[KEY] = machine | {"systems": [KEY]} | found
    options.output.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told[KEY], indent=1))


if __name__ == "__main__":
    main()
