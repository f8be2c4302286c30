"""Search from raw files to a verdict: lake, examples, jobs, gate, promotion; and an index of the items in the lake."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from job_files import on_disk, packed
from played_aws import function
from search_folder import install_encoder

from twinloop import systems
from twinloop.commands.search import log_lines
from twinloop.contracts.system import Refresh
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.searches import SearchWorld
from twinloop.datasets.simulator.settings import SearchSettings
from twinloop.errors import BadInputError
from twinloop.evaluation.messages import JudgeRequest, PromoteRequest, RungResult
from twinloop.evaluation.run import judge_results, promote
from twinloop.features.lake import latest_rows
from twinloop.features.snapshot import make_snapshot, snapshot_key
from twinloop.ingest.limits import DEFAULTS
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.registry.refresh import refresh
from twinloop.registry.registry import Registry
from twinloop.serving.loading import load_models

ROOT = Path(__file__).parents[2]
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
SETTINGS = SearchSettings(items=300, topics=6, queries=200, searches=3000, judged=0.7, seed=5)
SYSTEM = systems.load("search")


def deliver(store, name, body, *, written=NOON):
    raw = RawObject(f"raw/search/{name}", hashlib.sha256(body).hexdigest(), written, len(body), io.BytesIO(body))
    ingest(raw, SYSTEM, store, DEFAULTS)


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    simulate(folder / "made", SETTINGS)
    store = MemoryObjectStore()
    for table in ("items", "events", "judgments"):
        deliver(
            store, f"{table}/all.jsonl.gz", (folder / "made" / "raw" / table / f"{table}-00000.jsonl.gz").read_bytes()
        )
    manifest = make_snapshot(SYSTEM, store, now=NOON)
    prefix = snapshot_key("search", manifest.snapshot_id)
    on_disk(store, prefix, folder / "snapshot")
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
    store.write(f"jobs/{rung}/model.tar.gz", packed(out))
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
    made = refresh(SYSTEM, store, Refresh(by="a test"))
    assert made.items == SETTINGS.items + 1
    assert registry.alias("champion").version == made.version
    assert made.version in made.said
    predictor = SYSTEM.predictor(load_models(registry.read_release(made.version)))
    assert predictor.rank("unheard of")[0] == "fresh"
    again = refresh(SYSTEM, store, Refresh(by="a test"))
    assert again.version is None
    assert "nothing has changed" in again.said

    deliver(store, "items/off.jsonl", json.dumps(row | {"deleted": True}).encode(), written=NOON + timedelta(hours=1))
    gone = refresh(SYSTEM, store, Refresh(by="a test"))
    assert gone.items == SETTINGS.items
    predictor = SYSTEM.predictor(load_models(registry.read_release(gone.version)))
    assert "fresh" not in predictor.rank("unheard of")

    [other] = [
        version for version in registry.versions() if version not in (answer.version, made.version, gone.version)
    ]
    registry.move_alias("challenger", other, why="an experiment", by="a test")
    caught_up = refresh(SYSTEM, store, Refresh(by="a test"))
    assert caught_up.version is None  # the champion is of the lake's items already, and so is what was learnt of them
    assert caught_up.said.count("nothing has changed") == 2
    deliver(store, "items/again.jsonl", json.dumps(row).encode(), written=NOON + timedelta(hours=2))
    both = refresh(SYSTEM, store, Refresh(by="a test"))
    challenger = registry.alias("challenger").version
    assert registry.release(challenger).refreshed_from == other
    assert registry.release(both.version).refreshed_from == answer.version
    for version in (both.version, challenger):
        predictor = SYSTEM.predictor(load_models(registry.read_release(version)))
        assert predictor.rank("unheard of")[0] == "fresh"
        assert version in both.said


def groups(folder):
    import pyarrow.parquet as pq

    return pq.read_table(folder / "examples.parquet").column("group_id").to_pylist()


def test_the_function_has_nothing_to_do_before_anything_was_learnt(bucket):
    told = function("refresh")({"system": "search"})
    assert (told["version"], told["fresh"]) == (None, 0)
    assert "twinloop learn search" in told["said"]


def test_a_lake_without_items_is_told():
    with pytest.raises(BadInputError, match="no items of search"):
        list(latest_rows(MemoryObjectStore(), SYSTEM, "items", ("item_id",)))


def test_the_log_is_read_by_its_latest_days():
    class Listed(MemoryObjectStore):
        prefixes = ()

        def keys(self, prefix):
            self.prefixes = (*self.prefixes, prefix)
            return super().keys(prefix)

    store, now = Listed(), datetime(2025, 1, 3, 12, tzinfo=UTC)
    for day in ("2025/01/01", "2025/01/02", "2025/01/03"):
        store.write(f"predictions/search/{day}/10/a", f"{day}\n".encode())
    store.write("predictions/search/2025/01/03/10/b.gz", gzip.compress(b"packed\n"))
    store.write("predictions/search/2025/01/02/10/s-1-2025-01-02-10-59-59-x.jsonl", b"more than a day ago\n")
    store.write("predictions/search/2025/01/02/13/s-1-2025-01-02-13-00-01-x.jsonl", b"within a day\n")
    assert list(log_lines(store, 1, now=now)) == [b"packed", b"2025/01/03", b"within a day", b"2025/01/02"]
    assert store.prefixes == ("predictions/search/2025/01/03/", "predictions/search/2025/01/02/")
