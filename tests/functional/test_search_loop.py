"""Search from raw files to a verdict: lake, examples, jobs, gate, promotion; and an index of the items in the lake."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from search_folder import install_encoder

from twinloop import systems
from twinloop.commands.search import lake_items, log_lines
from twinloop.datasets.simulator.searches import SearchSettings, SearchWorld, simulate_searches
from twinloop.errors import BadInputError
from twinloop.evaluation.messages import JudgeRequest, PromoteRequest, RungResult
from twinloop.evaluation.run import judge_results, promote
from twinloop.features.snapshot import make_snapshot, snapshot_key
from twinloop.ingest.limits import DEFAULTS
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.loading import load_models
from twinloop.training import search_rebuild

ROOT = Path(__file__).parents[2]
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
SETTINGS = SearchSettings(documents=300, topics=6, queries=200, searches=3000, judged=0.7, seed=5)
SYSTEM = systems.load("search")


def deliver(store, table, body):
    ingest(
        RawObject(f"raw/search/{table}", str(hash(body)), NOON, len(body), io.BytesIO(body)), SYSTEM, store, DEFAULTS
    )


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    simulate_searches(folder / "made", SETTINGS)
    store = MemoryObjectStore()
    for table in ("items", "events", "judgments"):
        deliver(store, f"{table}/all.jsonl.gz", (folder / "made" / "raw" / f"{table}.jsonl.gz").read_bytes())
    manifest = make_snapshot(SYSTEM, store, now=NOON)
    prefix = snapshot_key("search", manifest.snapshot_id)
    for key in store.keys(prefix):
        path = folder / "snapshot" / key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(key).body)
    words = [word for topic in SearchWorld(SETTINGS).words for word in topic]
    site = install_encoder(folder / "site", words)
    results = [run_rung(rung, folder, site, store) for rung in ("bm25", "learned_ranking")]
    return store, prefix, results, folder


def run_rung(rung, folder, site, store):
    out = folder / rung
    command = [sys.executable, "-m", "twinloop.training.local", str(ROOT / "training_jobs" / rung)]
    path = os.pathsep.join([str(ROOT / "shared"), str(site)])
    ended = subprocess.run(
        [*command, "--snapshot", str(folder / "snapshot"), "--output", str(out)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(out, arcname=".")
    store.write(f"jobs/{rung}/model.tar.gz", packed.getvalue())
    return RungResult(rung=rung, status="Completed", model_key=f"jobs/{rung}/model.tar.gz", seconds=1.0)


def test_the_gate_judges_queries_that_no_job_has_seen_and_promotes(loop):
    store, prefix, results, folder = loop
    learnt = {row for part in ("train", "validation") for row in groups(folder / "snapshot" / part)}
    with gzip.open(folder / "snapshot" / "cases" / "test.jsonl.gz", "rt") as lines:
        judged = [json.loads(line)["case_id"] for line in lines]
    assert len(judged) > 10
    assert not learnt.intersection(judged)
    request = JudgeRequest(system="search", snapshot_key=prefix, results=tuple(results))
    answer = judge_results(request, store, SYSTEM, load_models)
    assert answer.promote, answer.verdict
    promote(PromoteRequest(action="promote", system="search", version=answer.version, why=answer.verdict), store)
    registry = Registry(store, "search")
    assert registry.alias("champion").version == answer.version

    row = {"item_id": "fresh", "title": "Unheard Of", "text": "new", "attributes": {"rating": 9}}
    deliver(store, "items/more.jsonl", json.dumps(row).encode())
    version, rebuilt = search_rebuild.refresh(registry, lake_items(store), lambda files: None, by="a test")
    assert rebuilt.documents == SETTINGS.documents + 1
    assert SYSTEM.predictor(load_models(registry.read_release(version))).rank("unheard of")[0] == "fresh"


def groups(folder):
    import pyarrow.parquet as pq

    return pq.read_table(folder / "examples.parquet").column("group_id").to_pylist()


def test_a_lake_without_items_and_a_log_that_is_too_large_are_told():
    with pytest.raises(BadInputError, match="no items of search"):
        list(lake_items(MemoryObjectStore()))


def test_the_log_is_read_by_its_latest_days():
    store = MemoryObjectStore()
    for day in ("2025/01/01", "2025/01/02", "2025/01/03"):
        store.write(f"predictions/search/{day}/a", f"{day}\n".encode())
    store.write("predictions/search/2025/01/03/b.gz", gzip.compress(b"packed\n"))
    assert list(log_lines(store, 2)) == [b"2025/01/02", b"2025/01/03", b"packed"]
