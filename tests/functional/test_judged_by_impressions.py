"""A system without histories, judged by impressions, from raw rows to what it answers; everything but AWS is real."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from datetime import timedelta

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import taps
from onnx import TensorProto, helper
from played_aws import TABLE, function

from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.evaluation.messages import JudgeRequest, PromoteRequest
from twinloop.evaluation.run import judge_results, promote
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.features.materialise import materialise
from twinloop.features.rungs import snapshot_answer
from twinloop.features.schema import chosen, schema_hash
from twinloop.features.snapshot import make_snapshot
from twinloop.features.stores import MemoryFeatureStore, MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.http import Request
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app

NOW = taps.NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def learnt():
    """A bucket with a snapshot, and what the state machine goes on with."""
    objects = MemoryObjectStore()
    receipts = taps.deliver(objects, taps.world())
    assert sum(sum(receipt.quarantined.values()) for receipt in receipts) == 0
    manifest = make_snapshot(taps.SYSTEM, objects, now=NOW)
    return objects, manifest, snapshot_answer(taps.SYSTEM, manifest, taps.SYSTEM.spec.rungs)


def job(objects, manifest: SnapshotManifest, rung: str, *, times: float = 1.0) -> str:
    """Fit p = a + b rate + c gold to the train part, and leave what a job leaves; returns its key."""
    body = objects.read(f"snapshots/taps/{manifest.snapshot_id}/train/impressions.parquet").body
    rows = pq.read_table(io.BytesIO(body)).to_pydict()
    gold = np.array([plan == "gold" for plan in rows["text_users_plan"]], float)
    columns = [np.ones(len(gold)), np.array(rows["item_tap_rate"]), gold]
    used = columns[:1] if rung == "constant" else columns
    weights = np.linalg.lstsq(np.stack(used, axis=1), np.array(rows["label_tap"]), rcond=None)[0]
    a, b, c = times * np.pad(weights, (0, 3 - len(weights)))
    told = {
        "system": "taps", "component": "model", "rung": rung, "framework": "numpy",
        "snapshot_id": manifest.snapshot_id, "schema_hash": schema_hash(chosen(manifest.known_features, taps.KNOWN)),
        "feature_versions": {}, "seed": 0, "code_version": "0", "library_versions": {}, "hyperparameters": {},
        "inputs": ["known", "gold"], "outputs": ["tap"], "known_names": taps.KNOWN,
        "parity": {"max_abs_diff": 0.0, "rows": 5}, "trained_seconds": 0.5,
    }  # fmt: skip
    files = {"model.onnx": model(a, b, c), "manifest.json": json.dumps(told).encode(), "metrics.json": b"{}"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"model/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    key = f"jobs/taps-{rung}-{times}/output/model.tar.gz"
    objects.write(key, buffer.getvalue())
    return key


def model(a: float, b: float, c: float) -> bytes:
    tensors = [
        helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [b, 0.0]),
        helper.make_tensor("v", TensorProto.FLOAT, [1, 1], [c]),
        helper.make_tensor("a", TensorProto.FLOAT, [1], [a]),
        helper.make_tensor("low", TensorProto.FLOAT, [], [0.001]),
        helper.make_tensor("high", TensorProto.FLOAT, [], [0.999]),
    ]
    nodes = [
        helper.make_node("MatMul", ["known", "w"], ["rated"]),
        helper.make_node("MatMul", ["gold", "v"], ["planned"]),
        helper.make_node("Add", ["rated", "planned"], ["both"]),
        helper.make_node("Add", ["both", "a"], ["sum"]),
        helper.make_node("Clip", ["sum", "low", "high"], ["tap"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["k", w]) for n, w in (("known", 2), ("gold", 1))]
    outputs = [helper.make_tensor_value_info("tap", TensorProto.FLOAT, ["k", 1])]
    graph = helper.make_graph(nodes, "taps", ends, outputs, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def judged(objects, answer, keys):
    results = [{"rung": rung, "status": "Completed", "model_key": key} for rung, key in keys.items()]
    request = JudgeRequest(
        system="taps", snapshot_key=answer["snapshot_key"], results=results, left_out=answer["left_out"]
    )
    return judge_results(request, objects, taps.SYSTEM, load_models, clock=lambda: NOW)


def test_the_snapshot_has_impressions_and_no_lists(learnt):
    objects, manifest, answer = learnt
    assert sorted(entry.path for entry in manifest.files) == [
        "cases/impressions.jsonl.gz",
        "items/items.parquet",
        "test/impressions.parquet",
        "train/impressions.parquet",
        "users/users.parquet",
        "validation/impressions.parquet",
    ]
    assert (manifest.outcomes.judged, manifest.outcomes.texts) == (True, ("items.brand", "users.plan"))
    assert [rung["name"] for rung in answer["rungs"]] == ["constant", "linear"]
    assert answer["left_out"] == []
    assert make_snapshot(taps.SYSTEM, objects, now=NOW).snapshot_id == manifest.snapshot_id
    json.dumps(answer)


def test_it_is_trained_judged_promoted_and_answers(learnt):
    objects, manifest, answer = learnt
    keys = {rung: job(objects, manifest, rung) for rung in ("constant", "linear")}
    verdict = judged(objects, answer, keys)
    assert (verdict.promote, verdict.rung) == (True, "linear"), verdict.verdict
    record = json.loads(objects.read(verdict.report_key.replace(".html", ".json")).body)
    of = {entry["rung"]: entry for entry in record["candidates"]}
    assert of["linear"]["metrics"]["log_gain"]["mean"] == pytest.approx(
        -of["linear"]["metrics"]["tap_logloss"]["mean"], abs=0.01
    )
    assert of["linear"]["metrics"]["tap_ne"]["mean"] < 0.97 < of["constant"]["metrics"]["tap_ne"]["mean"]
    assert {(entry["slice"], entry["label"]) for entry in of["linear"]["within"]} >= {
        ("device", "tv"), ("device", "phone"), ("activity", "known")
    }  # fmt: skip
    assert sum(one["impressions"] for one in of["linear"]["reliability"]["tap"]) == of["linear"]["impressions"]
    assert len(of["linear"]["reliability"]["tap"]) == 10
    page = objects.read(verdict.report_key).body.decode()
    assert "Predicted and observed: tap" in page
    assert "Quality over cost" in page

    promote(PromoteRequest(action="promote", system="taps", version=verdict.version, why="w", champion=None), objects)
    again = judged(objects, answer, keys)
    assert (again.promote, again.champion, again.version) == (False, verdict.version, verdict.version)

    store, histories = MemoryFeatureStore(), MemoryOnlineStore()
    done = materialise(taps.SYSTEM, objects, histories, features=store)
    assert done == {"system": "taps", "users": 0, "counted": {"items": 12, "users": 80}}

    app = make_app(taps.SYSTEM, objects, histories, None, features=store, look_every_s=3600, now=lambda: NOW)
    body = {"user_id": "u1", "items": ["i3", "i0", "unheard of"]}
    response = app(Request("POST", "/v1/taps/chances", {"content-type": "application/json"}, json.dumps(body).encode()))
    told = json.loads(response.body)
    assert (response.status, told["model_version"], told["degraded"]) == (200, verdict.version, False)
    predictor = taps.Predictor(load_models(Registry(objects, "taps").read_release(verdict.version)))
    cache = ItemCache(taps.COUNTING, lambda ids: store.known("taps", [("item", i) for i in ids]))
    known = UserKnowledge(taps.COUNTING, store.recall("taps", "u1").user, cache)
    at_ms = int(NOW.timestamp() * 1000)
    assert known.texts(taps.OUTCOMES.texts, body["items"]) == [("b0", "gold"), ("b0", "gold"), (None, "gold")]
    expected = predictor.chances(known, body["items"], at_ms)
    assert list(told["chances"].values()) == pytest.approx(expected.tolist())
    assert len(set(told["chances"].values())) == 3


def test_a_model_that_promises_too_much_is_refused_overall_and_in_slices(learnt):
    objects, manifest, answer = learnt
    keys = {"constant": job(objects, manifest, "constant"), "linear": job(objects, manifest, "linear", times=1.3)}
    verdict = judged(objects, answer, keys)
    record = json.loads(objects.read(verdict.report_key.replace(".html", ".json")).body)
    refused = next(entry for entry in record["candidates"] if entry["rung"] == "linear")
    guards = [veto["guard"] for veto in refused["vetoes"]]
    assert "tap calibration" in guards
    assert "tap calibration in device=tv" in guards
    assert verdict.rung != "linear" or not verdict.promote


def going_on() -> System:
    rungs = tuple(rung.model_copy(update={"continues": rung.name == "linear"}) for rung in taps.SYSTEM.spec.rungs)
    return replace(taps.SYSTEM, spec=taps.SYSTEM.spec.model_copy(update={"rungs": rungs}))


def test_the_functions_of_the_loop_take_it_through(bucket, register):
    """In the order and with the messages of the state machine."""
    register(taps.SYSTEM)
    taps.deliver(bucket, taps.world(3000))
    snapshot, gate = function("snapshot"), function("gate")
    taken = snapshot({"system": "taps"})
    manifest = SnapshotManifest.model_validate_json(bucket.read(f"{taken['snapshot_key']}manifest.json").body)
    results = [
        {"rung": rung["name"], "status": "Completed", "model_key": job(bucket, manifest, rung["name"])}
        for rung in taken["rungs"]
    ]
    request = {name: taken[name] for name in ("system", "snapshot_key", "left_out")}
    verdict = gate(request | {"action": "judge", "results": results})
    assert (verdict["promote"], verdict["rung"]) == (True, "linear"), verdict["verdict"]
    said = {"system": "taps", "version": verdict["version"], "why": verdict["verdict"], "champion": verdict["champion"]}
    assert gate(said | {"action": "promote"}) == {"version": verdict["version"], "previous": None}
    with pytest.raises(BadInputError, match="the champion is linear, and no rung can go on, each from its own"):
        snapshot({"system": "taps", "since": "last"})
    register(going_on())
    again = snapshot({"system": "taps", "since": "last"})
    champion = Registry(bucket, "taps").release(verdict["version"])
    assert again["champion_key"] == f"registry/taps/model/versions/{champion.components['model']}/"
    assert again["snapshot_key"] == taken["snapshot_key"]
    assert [rung["continues"] for rung in again["rungs"]] == [False, True]
    with pytest.raises(BadInputError, match="since is 'last' or absent, not 'yesterday'"):
        snapshot({"system": "taps", "since": "yesterday"})
    done = snapshot({"action": "materialise", "system": "taps"})
    assert done == {"system": "taps", "users": 0, "counted": {"items": 12, "users": 80}}
    user = DynamoFeatureStore(TABLE).recall("taps", "u3", []).user
    assert user.attributes["plan"] == "gold"
