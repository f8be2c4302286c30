"""The ads system from simulated rows to answers: four jobs, gate and endpoint; everything but AWS is real."""

from __future__ import annotations

import gzip
import importlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from job_files import on_disk, packed
from simulated_lake import loaded

from twinloop import systems
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings
from twinloop.evaluation.messages import JudgeRequest, PromoteRequest
from twinloop.evaluation.run import judge_results, promote
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.features.materialise import materialise
from twinloop.features.rungs import snapshot_answer
from twinloop.features.snapshot import make_snapshot
from twinloop.features.stores import MemoryFeatureStore, MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.http import Request
from twinloop.serving.loading import load_models
from twinloop.serving.releases import ReleaseLoader
from twinloop.serving.service import make_app
from twinloop.systems.ads.features import COUNTING, HASHED, OUTCOMES
from twinloop.systems.ads.serve import AdsPredictor, Moment
from twinloop.training.clicks import open_clicks
from twinloop.training.impressions import FILE
from twinloop.training.local import run as run_local

JOBS = Path(__file__).parents[2] / "training_jobs"
WORLD = WorldSettings(users=300, items=100, days=14, seed=1)
ADS = AdsSettings(events=30_000, click_rate=0.1)  # more clicks than real ads get, so that few rows tell something
NOW = WORLD.end + timedelta(hours=2)
QUICK = {
    "base_rate": {},
    "logistic": {"alpha": "0.02", "l1": "0.5"},
    "click_trees": {"rounds": "25", "eta": "0.2", "max_depth": "4"},
    "cross_network": {"epochs": "1", "learning_rate": "0.004", "batch": "256"},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The simulated folder, and a bucket whose lake has its rows."""
    folder = tmp_path_factory.mktemp("ads") / "world"
    simulate(folder, WORLD, ADS)
    objects = loaded(folder / "raw", "ads", NOW).objects
    assert not list(objects.keys("quarantine/"))
    return folder, objects


@pytest.fixture(scope="module")
def judged(world, tmp_path_factory):
    """What the ladder's jobs leave of a snapshot, judged, and the best promoted."""
    (_, objects), system, work = world, systems.load("ads"), tmp_path_factory.mktemp("jobs")
    taken = snapshot_answer(system, make_snapshot(system, objects, now=NOW), system.spec.rungs)
    snapshot, results = on_disk(objects, taken["snapshot_key"], work / "snapshot"), []
    for rung in taken["rungs"]:
        name = rung["name"]
        assert run_local(JOBS / name, snapshot, work / name, QUICK[name]) == 0
        key = f"jobs/ads-{name}/output/model.tar.gz"
        objects.write(key, packed(work / name))
        results.append({"rung": name, "status": "Completed", "model_key": key})
    request = JudgeRequest(
        system="ads", snapshot_key=taken["snapshot_key"], results=results, left_out=taken["left_out"]
    )
    verdict = judge_results(request, objects, system, load_models, clock=lambda: NOW)
    said = PromoteRequest(action="promote", system="ads", version=verdict.version, why="w", champion=None)
    promote(said, objects)
    return objects, verdict


@pytest.fixture(scope="module")
def ask(judged):
    """POST to the endpoint as it serves once the online store has what the lake knows; (status, answer)."""
    (objects, _), system = judged, systems.load("ads")
    store, histories = MemoryFeatureStore(), MemoryOnlineStore()
    assert materialise(system, objects, histories, features=store)["counted"]["items"] == WORLD.items
    app = make_app(system, objects, histories, None, features=store, look_every_s=3600, now=lambda: NOW)

    def asked(body):
        told = json.dumps(body).encode()
        response = app(Request("POST", "/v1/ads/predictions", {"content-type": "application/json"}, told))
        return response.status, json.loads(response.body)

    return asked


def test_every_rung_is_judged_and_one_is_promoted(judged):
    objects, verdict = judged
    record = json.loads(objects.read(verdict.report_key.replace(".html", ".json")).body)
    of = {entry["rung"]: entry for entry in record["candidates"]}
    assert set(of) == set(QUICK), verdict.verdict
    assert verdict.promote, verdict.verdict
    assert verdict.rung != "base_rate", verdict.verdict
    assert all(entry["impressions"] == of["base_rate"]["impressions"] > 2_000 for entry in of.values())
    for name in ("logistic", "click_trees", "cross_network"):
        assert of[name]["metrics"]["click_ne"]["mean"] < of["base_rate"]["metrics"]["click_ne"]["mean"] - 0.02


def test_the_benchmark_tells_what_the_record_says(judged, monkeypatch):
    """Every rung's log loss, its gain over simpler ones, and what its cost asks for by the spec's prices."""
    monkeypatch.syspath_prepend(str(JOBS.parent))
    of_record = importlib.import_module("benchmarks.ads.gate").of_record
    objects, verdict = judged
    record = json.loads(objects.read(verdict.report_key.replace(".html", ".json")).body)
    told, of = of_record(record), {entry["rung"]: entry for entry in record["candidates"]}
    assert (told["promoted"], told["verdict"]) == (verdict.rung, verdict.verdict)
    assert told["judged"] == of["logistic"]["impressions"]
    prices, base, rows = systems.load("ads").spec.gate.prices, of["base_rate"], told["rows"]
    assert set(rows) == set(QUICK)
    for name, row in rows.items():
        assert row["log_loss low"] <= row["log_loss"] <= row["log_loss high"]
        assert row["log_loss"] == pytest.approx(-of[name]["metrics"]["log_gain"]["mean"], abs=1e-5)
        if name != "base_rate":
            gain = rows["base_rate"]["log_loss"] - row["log_loss"]
            assert row["better than base_rate by"] == pytest.approx(gain, abs=2e-5)
    more = {of_: max(0.0, of["logistic"][of_] - base[of_]) for of_ in ("latency_p50_ms", "size_mb", "train_seconds")}
    asked = prices.per_ms * more["latency_p50_ms"] + prices.per_mb * more["size_mb"]
    asked += prices.per_training_minute * more["train_seconds"] / 60
    assert rows["logistic"]["better than base_rate by at least"] == pytest.approx(asked, abs=1e-5)
    nobody = of_record(record | {"promote": False, "candidates": []})
    assert (nobody["promoted"], nobody["judged"], nobody["rows"]) == ("nobody", 0, {})


def test_what_learning_goes_on_from_is_kept_and_not_served(judged):
    objects, _ = judged
    registry = Registry(objects, "ads", clock=lambda: NOW)
    system = systems.load("ads")
    releases = {registry.release(version).rung: version for version in registry.versions()}
    assert {"ftrl.npz", "ftrl_served.npz"} <= set(registry.read_release(releases["logistic"])["click"])
    read = []

    class Watched(MemoryObjectStore):
        def read(self, key):
            read.append(key)
            return objects.read(key)

    loaded = ReleaseLoader(Registry(Watched(), "ads"), system.predictor, system.definitions).load(releases["logistic"])
    assert loaded.whole
    assert any(key.endswith("/model.onnx") for key in read)
    assert not any(key.endswith(".npz") for key in read)


def impressions(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted((folder / "raw" / "events").iterdir()):
        rows += [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return [row for row in rows if row["type"] == "impression"]


def test_the_champion_answers_and_its_chances_are_those_of_the_world(world, judged, ask):
    """Of the latest showings, which no job has seen; two standard errors of a hundred clicks are a fifth of them."""
    folder, verdict = world[0], judged[1]
    truth = pq.read_table(folder / "truth.parquet", columns=["event_id", "p_click"]).to_pydict()
    chance = dict(zip(truth["event_id"], truth["p_click"], strict=True))
    said, true = [], []
    for row in impressions(folder)[-1_500:]:
        body = {"user_id": row["user_id"], "ads": [{"ad": row["item_id"]}], "context": row["context"]}
        status, told = ask(body | {"explore": False, "time_ms": row["time"]})
        assert (status, told["model_version"], told["degraded"]) == (200, verdict.version, False)
        if told["ads"]:  # one that the user has seen often enough is not shown, so nothing is said of it
            said.append(told["ads"][0]["p_click"])
            true.append(chance[row["event_id"]])
    assert len(said) > 1_000
    assert np.mean(said) == pytest.approx(np.mean(true), rel=0.2)
    likely = np.argsort(said)[len(said) // 2 :]
    assert np.mean(np.array(true)[likely]) > 1.3 * np.mean(true)


def test_ads_are_ordered_by_what_showing_them_is_worth(ask):
    ads = [{"ad": f"ad{n}", "bid": 0.1 * (1 + n % 7)} for n in range(100)]
    status, told = ask({"user_id": "u1", "ads": ads, "explore": False, "context": {"slot": "top"}})
    assert status == 200
    worth = [one["expected_value"] for one in told["ads"]]
    assert worth == sorted(worth, reverse=True)
    assert [one["rank"] for one in told["ads"]] == list(range(1, len(worth) + 1))
    assert len(worth) + told["capped"] + told["paced"] == 100
    assert all(one["expected_value"] == pytest.approx(one["bid"] * one["p_click"]) for one in told["ads"])


class Heard:
    """A component that keeps what it is asked with."""

    def __init__(self, model):
        self.model, self.asked = model, []

    manifest = property(lambda self: self.model.manifest)

    def run(self, inputs):
        self.asked.append(inputs)
        return self.model.run(inputs)


def test_ids_are_the_same_numbers_in_a_snapshot_and_in_a_request(judged, tmp_path):
    (objects, _), system = judged, systems.load("ads")
    registry, store = Registry(objects, "ads"), MemoryFeatureStore()
    version = next(version for version in registry.versions() if registry.release(version).rung == "logistic")
    snapshot = on_disk(objects, f"snapshots/ads/{registry.release(version).snapshot_id}/", tmp_path)
    learnt = open_clicks(snapshot).read("validation").ids[:200]
    rows = pq.read_table(snapshot / "validation" / FILE).to_pylist()
    rows = sorted(rows, key=lambda row: row["time_ms"])[:200]  # stable, as jobs read them
    assert len(rows) == len(learnt) == 200

    heard = Heard(load_models(registry.read_release(version))["click"])
    predictor = AdsPredictor({"click": heard})
    materialise(system, objects, MemoryOnlineStore(), features=store)
    items = ItemCache(COUNTING, lambda ids: store.known("ads", [("item", of) for of in ids]), now_ms=lambda: 0)
    for row in rows:
        known = UserKnowledge(COUNTING, store.known("ads", [("user", row["user_id"])])[0], items)
        told = {name: row[f"context_{name}"] for name in OUTCOMES.context}
        context = {name: json.loads(text) for name, text in told.items() if text is not None}
        predictor.predict([row["item_id"]], Moment(row["user_id"], context, row["time_ms"]), known)
    asked = np.concatenate([inputs["ids"] for inputs in heard.asked])
    assert asked.shape == (200, len(HASHED.fields))
    np.testing.assert_array_equal(asked, learnt)
