"""The gate function on S3 as moto plays it, with real ONNX models and the real serving loader."""

import gzip
import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from played_aws import function

from twinloop.contracts.features import Feature
from twinloop.contracts.spec import GatePolicy, Rung, Split, SystemSpec
from twinloop.contracts.system import System
from twinloop.errors import BadInputError, ConflictError, IntegrityError, NotFoundError
from twinloop.evaluation.ranking import ndcg_at_k, recall_at_k
from twinloop.features.schema import schema_hash
from twinloop.registry.overview import release_rows
from twinloop.registry.registry import Registry
from twinloop.serving.recommendations import RECOMMENDATIONS

SNAPSHOT, ITEMS = "a1b2c3d4", 12
KEY = f"snapshots/toy/{SNAPSHOT}/"
LADDER = tuple(
    Rung(name=name, framework="xgboost", complexity=place)
    for place, name in enumerate(("popularity", "linear", "deep"))
)


LIKES = Feature(name="likes", entity="user", kind="count", description="", window_days=30)
IDLE = Feature(name="idle", entity="user", kind="recency", description="")


class ToyPredictor:
    """Ranks all items by what the model says of a user's history."""

    def __init__(self, models):
        self.model = models["model"]

    def rank(self, history):
        scores = self.model.run({"history": np.array(history, dtype=np.int64)})["scores"]
        return [str(item) for item in np.argsort(-scores, kind="stable")]


def judge_case(predictor, case):
    ranked = predictor.rank(case.request["history"])
    return {
        "ndcg@5": ndcg_at_k(ranked, case.truth["relevant"], 5),
        "recall@5": recall_at_k(ranked, case.truth["relevant"], 5),
    }


TOY = System(
    spec=SystemSpec(
        name="toy", verb="results", requirements="", framing="", data="", architecture="", evaluation="", deployment="",
        split=Split(), rungs=LADDER,
        gate=GatePolicy(primary="ndcg@5", resamples=300, slices=("activity",), latency_p99_ms=5000,
                        minimum_slice_cases=20),
    ),
    tables={}, features=(), strength_sql="NULL", predictor=ToyPredictor, judge=judge_case,
    endpoint=RECOMMENDATIONS,
)  # fmt: skip


def model_bytes(scores):
    """A model that scores the items the same way for everybody."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [len(scores)], scores)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    nodes = [
        helper.make_node("Cast", ["history"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["seen"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["h"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [len(scores)])],
        [table, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


TRUE = [float(ITEMS - item) for item in range(ITEMS)]
QUALITY = {"popularity": TRUE[::-1], "linear": [*TRUE[1::2], *TRUE[::2]], "deep": TRUE}


def archive(rung, /, **changes):
    manifest = {
        "system": "toy", "component": "model", "rung": rung, "framework": "numpy", "snapshot_id": SNAPSHOT,
        "schema_hash": schema_hash(()), "feature_versions": {}, "seed": 0, "code_version": "0", "library_versions": {},
        "hyperparameters": {}, "inputs": ["history"], "outputs": ["scores"],
        "parity": {"max_abs_diff": 0.0, "rows": 5}, "trained_seconds": 0.5,
    }  # fmt: skip
    model = changes.pop("model", None) or model_bytes(QUALITY[rung])
    files = {
        "model/model.onnx": model,
        "model/manifest.json": json.dumps(manifest | changes).encode(),
        "model/metrics.json": b"{}",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


@pytest.fixture
def store(bucket, register):
    register(TOY)
    write_snapshot(bucket)
    return bucket


def write_snapshot(store, *features):
    random = np.random.default_rng(5)
    weights = np.array(TRUE) / sum(TRUE)
    lines = [
        json.dumps({
            "case_id": f"user-{n}",
            "request": {"history": [1, 2]},
            "truth": {"relevant": [str(i) for i in random.choice(ITEMS, 3, replace=False, p=weights)]},
            "slices": {"activity": "light" if n % 2 else "heavy"},
        })
        for n in range(150)
    ]  # fmt: skip
    cases = gzip.compress("\n".join(lines).encode(), mtime=0)
    entry = {"path": "cases/test.jsonl.gz", "sha256": hashlib.sha256(cases).hexdigest(), "bytes": len(cases)}
    manifest = {
        "snapshot_id": SNAPSHOT, "system": "toy", "created_at": "2026-01-02T00:00:00Z", "lake_files": [],
        "files": [entry], "rows": {}, "first_event": "2025-01-01T00:00:00Z", "last_event": "2026-01-01T00:00:00Z",
        "split": {}, "feature_versions": {}, "schema_hash": schema_hash(features), "history_length": 200,
        "features": [feature.model_dump() for feature in features],
    }  # fmt: skip
    store.write(f"{KEY}cases/test.jsonl.gz", cases)
    store.write(f"{KEY}manifest.json", json.dumps(manifest).encode())


@pytest.fixture
def gate(store):
    return function("gate")


def completed(store, rung, body=None):
    key = f"jobs/toy-{rung}/output/model.tar.gz"
    store.write(key, body if body is not None else archive(rung))
    return {"rung": rung, "status": "Completed", "model_key": key, "seconds": 2.5}


def event(*results):
    return {"system": "toy", "snapshot_key": KEY, "results": list(results), "carried": "along"}


def test_the_best_rung_is_registered_promoted_and_then_kept(gate, store):
    learned = event(*(completed(store, rung.name) for rung in LADDER))
    answer = gate(learned)
    assert answer.keys() == {"promote", "version", "rung", "verdict", "report_key", "champion"}
    assert (answer["promote"], answer["rung"], answer["champion"]) == (True, "deep", None)
    assert answer["verdict"].startswith("promote deep: ndcg@5 0.")
    registry = Registry(store, "toy")
    assert registry.alias("champion") is None
    assert len(registry.versions()) == 3

    promoted = gate({"action": "promote", "system": "toy", "version": answer["version"], "why": answer["verdict"],
                     "champion": None})  # fmt: skip
    assert promoted == {"version": answer["version"], "previous": None}
    assert registry.alias("champion").why == answer["verdict"]

    again = gate(learned | {"action": "judge"})
    assert (again["promote"], again["version"], again["champion"]) == (False, answer["version"], answer["version"])
    assert "made the same release again" in again["verdict"]
    assert len(registry.versions()) == 3


def test_every_judged_candidate_leaves_its_evidence(gate, store):
    answer = gate(event(completed(store, "popularity"), completed(store, "deep")))
    registry = Registry(store, "toy")
    for version in registry.versions():
        manifest = registry.release(version)
        assert manifest.verdict
        assert manifest.metrics.keys() == {"ndcg@5", "recall@5"}
        assert registry.read_release(version)["model"]["model.onnx"] == model_bytes(QUALITY[manifest.rung])
        assert b"<svg" in registry.release_file(version, "card.html")
    report = store.read(answer["report_key"]).body.decode()
    assert report.startswith("<!doctype html>")
    record = json.loads(store.read(answer["report_key"].replace(".html", ".json")).body)
    assert [entry["rung"] for entry in record["candidates"]] == ["popularity", "deep"]
    assert record["candidates"][1]["train_seconds"] == 2.5
    assert record["cases"] == 150
    rows = {row.rung: row for row in release_rows(registry)}
    assert rows["deep"].metrics["ndcg@5"].low < rows["deep"].metrics["ndcg@5"].mean
    assert rows["popularity"].latency_p99_ms > 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no whole model.tar.gz"),
        (b"not an archive", "no whole model.tar.gz"),
        (archive("linear", snapshot_id="another"), "trained for the snapshot another"),
        (archive("linear", rung="deep"), "trained for the rung deep"),
        (archive("linear", system="ads"), "trained for the system ads"),
        (archive("linear", schema_hash="x"), "trained for the feature schema x"),
        (archive("linear", context_names=["likes"]), "not without likes"),
        (archive("linear", model=b"not onnx"), "cannot be opened"),
        (archive("linear", outputs=["other"]), "outputs"),
        (archive("linear", component="retrieval"), "says that it is 'retrieval'"),
    ],
)
def test_a_broken_candidate_sinks_only_itself(gate, store, body, told):
    answer = gate(event(completed(store, "popularity"), completed(store, "linear", body), completed(store, "deep")))
    assert answer["rung"] == "deep"
    assert "linear could not be judged" in answer["verdict"]
    assert told in answer["verdict"]


def test_failed_and_unknown_rungs_are_told(gate, store):
    answer = gate(
        event(
            completed(store, "popularity"),
            {"rung": "linear", "status": "Failed", "reason": "AlgorithmError: " + "x" * 5000},
            {"rung": "deep", "status": "Completed", "model_key": "jobs/gone/output/model.tar.gz"},
            {"rung": "quantum", "status": "Failed", "reason": "?"},
        )
    )
    assert answer["rung"] == "popularity"
    assert "linear could not be judged: AlgorithmError: xxx" in answer["verdict"]
    assert "deep could not be judged: no object at s3://data/jobs/gone" in answer["verdict"]
    assert "quantum could not be judged: it is not on the system's ladder" in answer["verdict"]
    assert len(answer["verdict"]) < 4000


def test_a_rung_that_was_not_trained_is_told_with_what_the_snapshot_lacks(gate, store):
    lacking = {"rung": "deep", "reason": "not trained, as the snapshot has no impressions"}
    answer = gate({**event(completed(store, "popularity")), "left_out": [lacking]})
    assert (answer["promote"], answer["rung"]) == (True, "popularity")
    assert "deep could not be judged: not trained, as the snapshot has no impressions." in answer["verdict"]
    assert b"not trained, as the snapshot has no impressions" in store.read(answer["report_key"]).body


def test_nothing_to_judge_is_a_verdict_with_a_report(gate, store):
    answer = gate(event({"rung": "deep", "status": "Failed", "reason": "out of memory"}))
    assert (answer["promote"], answer["version"], answer["rung"]) == (False, None, None)
    assert b"out of memory" in store.read(answer["report_key"]).body
    assert gate(event())["promote"] is False


def promoted(gate, store, rung):
    answer = gate(event(completed(store, "popularity"), completed(store, rung)))
    gate({"action": "promote", "system": "toy", "version": answer["version"], "why": "w"})
    return answer["version"]


def test_a_better_candidate_replaces_the_champion_and_a_worse_one_does_not(gate, store):
    first = promoted(gate, store, "linear")
    worse = gate(event(completed(store, "popularity")))
    assert (worse["promote"], worse["version"], worse["rung"]) == (False, first, "linear")
    better = gate(event(completed(store, "popularity"), completed(store, "deep")))
    assert (better["promote"], better["rung"], better["champion"]) == (True, "deep", first)
    moved = gate({"action": "promote", "system": "toy", "version": better["version"], "why": "w", "champion": first})
    assert moved["previous"] == first


def test_a_champion_that_cannot_serve_counts_as_absent_and_is_told(gate, store):
    version = promoted(gate, store, "deep")
    component = Registry(store, "toy").release(version).components["model"]
    store.write(f"registry/toy/model/versions/{component}/model.onnx", b"spoilt")
    answer = gate(event(completed(store, "popularity"), completed(store, "linear")))
    assert (answer["promote"], answer["rung"], answer["champion"]) == (True, "linear", version)
    assert b"cannot serve these cases and counts as absent" in store.read(answer["report_key"]).body


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ((LIKES, IDLE), False),  # one that no model is asked with
        ((LIKES.model_copy(update={"window_days": 7.0}),), True),
        ((IDLE,), True),
    ],
)
def test_a_champion_of_another_schema_that_can_serve_is_compared_and_told(gate, store, now, told):
    write_snapshot(store, LIKES)
    asked = archive("deep", context_names=[LIKES.name], schema_hash=schema_hash([LIKES]))
    first = gate(event(completed(store, "popularity"), completed(store, "deep", asked)))
    gate({"action": "promote", "system": "toy", "version": first["version"], "why": "w"})
    write_snapshot(store, *now)
    answer = gate(event(completed(store, "popularity")))
    assert (answer["promote"], answer["rung"]) == (False, "deep")
    assert (b"was trained on another feature schema" in store.read(answer["report_key"]).body) is told


def test_promotion_is_refused_when_the_champion_has_moved_since(gate, store):
    first = promoted(gate, store, "popularity")
    answer = gate(event(completed(store, "popularity"), completed(store, "deep")))
    other = gate(event(completed(store, "linear")))["version"]
    Registry(store, "toy").promote(other, why="by hand", by="ann")
    request = {"action": "promote", "system": "toy", "version": answer["version"], "why": "w", "champion": first}
    with pytest.raises(ConflictError, match="by ann"):
        gate(request)
    gate(request | {"champion": other})
    assert gate(request)["version"] == answer["version"]  # the same request once more: it is done already


@pytest.mark.parametrize("version", ["20260101T000000-00000000", "../../evil", ""])
def test_only_whole_releases_are_promoted(gate, store, version):
    with pytest.raises((NotFoundError, BadInputError)):
        gate({"action": "promote", "system": "toy", "version": version, "why": "w"})


def test_cases_that_are_not_the_manifests_are_refused(gate, store):
    store.write(f"{KEY}cases/test.jsonl.gz", gzip.compress(b"{}", mtime=0))
    with pytest.raises(IntegrityError, match="is not the file of the manifest"):
        gate(event(completed(store, "deep")))


def test_a_snapshot_that_is_not_there_or_another_systems_is_refused(gate, store):
    with pytest.raises(NotFoundError):
        gate(event() | {"snapshot_key": "snapshots/toy/nowhere/"})
    body = json.loads(store.read(f"{KEY}manifest.json").body)
    store.write(f"{KEY}manifest.json", json.dumps(body | {"system": "ads"}).encode())
    with pytest.raises(BadInputError, match="a snapshot of ads"):
        gate(event())
    store.write(f"{KEY}manifest.json", json.dumps(body | {"snapshot_id": "other"}).encode())
    with pytest.raises(IntegrityError, match="holds the manifest of snapshot other"):
        gate(event())
    store.write(f"{KEY}manifest.json", b"{}")
    with pytest.raises(BadInputError, match="no snapshot's manifest"):
        gate(event())


@pytest.mark.parametrize(
    "change",
    [
        {"action": "destroy"},
        {"snapshot_key": "snapshots/toy/../ads/"},
        {"snapshot_key": None},
        {"results": [{"rung": "deep", "status": "Perhaps"}]},
        {"results": [{"rung": "deep", "status": "Completed", "model_key": "registry/toy/model.tar.gz"}]},
        {"results": "none"},
        {"action": "promote"},
    ],
)
def test_events_that_make_no_sense_are_told(gate, change):
    with pytest.raises(BadInputError, match="the gate cannot read"):
        gate(event() | change)


def test_what_the_gate_writes_stays_in_its_room(gate, store):
    before, began = set(store.keys("")), datetime.now(UTC)
    answer = gate(event(completed(store, "deep")))
    written = set(store.keys("")) - before - {"jobs/toy-deep/output/model.tar.gz"}
    assert all(key.startswith("registry/toy/") for key in written)
    assert answer["report_key"] in written
    stamp = answer["report_key"].split("/")[-1][:8]
    assert stamp in {f"{moment:%Y%m%d}" for moment in (began, datetime.now(UTC))}
