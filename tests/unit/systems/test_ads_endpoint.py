"""POST /v1/ads/predictions: what it takes, what it answers, and what is logged of it."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from tiny_ads import NOW_MS, ad, files, store

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.contracts.live import LiveCalibration, LiveOffsets, live_key
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.app import guarded
from twinloop.serving.http import Request
from twinloop.serving.openapi import document
from twinloop.serving.service import make_app
from twinloop.systems import load

ADS = {name: ad(10 * key, key=key, category="cars") for key, name in enumerate(("a", "b", "c"), 1)}
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


class Lines:
    def __init__(self):
        self.records = []

    def send(self, system, lines):
        self.records += [json.loads(line) for line in lines]
        return set()


class House:
    """The app around a registry and a store in memory."""

    def __init__(self, seen=None, *, damaged=False, **options):
        self.lines, self.store = Lines(), store(ADS, seen or {}, country="DE")
        objects = self.objects = MemoryObjectStore()
        registry = Registry(objects, "ads", clock=lambda: NOW)
        parts = files()
        schema = ComponentManifest.model_validate_json(parts["click"]["manifest.json"]).schema_hash
        if damaged:
            parts["click"]["model.onnx"] = b"nothing"
        components = {name: registry.register_component(name, content) for name, content in parts.items()}
        draft = registry.draft_release(
            rung="logistic", snapshot_id="snapshot-1", schema_hash=schema, components=components
        )
        self.version = registry.register_release(draft, {"metrics.json": b"{}", "card.html": b"<p>"})
        registry.move_alias("champion", self.version, why="for the test", by="the test")
        store_of = self.store
        self.app = make_app(load("ads"), objects, store_of, self.lines, features=store_of, now=lambda: NOW, **options)

    def post(self, **body):
        body = {"user_id": "u", "ads": [{"ad": "a", "bid": 2.0}, {"ad": "b", "bid": 3}, {"ad": "c"}]} | body
        request = Request("POST", "/v1/ads/predictions", {}, json.dumps(body).encode())
        answer = guarded(lambda: self.app(request))
        self.counts = answer.counts
        return answer.status, json.loads(answer.body)


def test_ads_are_answered_best_first_with_what_they_are_worth():
    house = House()
    status, answer = house.post(explore=False)
    assert status == 200
    assert [one["ad"] for one in answer["ads"]] == ["b", "a", "c"]
    assert [one["rank"] for one in answer["ads"]] == [1, 2, 3]
    for one in answer["ads"][:2]:
        assert one["expected_value"] == pytest.approx(one["bid"] * one["p_click"])
    assert answer["ads"][2].keys() == {"ad", "rank", "p_click"}
    assert (answer["model_version"], answer["arm"], answer["preset"]) == (house.version, "champion", "balanced")
    assert (answer["capped"], answer["paced"], answer["degraded"]) == (0, 0, False)
    assert house.counts == {"Degraded": 0, "Arm_champion": 1, "Ads": 3, "Capped": 0, "Paced": 0}


def test_an_answer_is_logged_as_it_was_given():
    house = House({"c": 5})
    _, answer = house.post(preset="explore")
    [record] = house.lines.records
    assert record["prediction_id"] == answer["prediction_id"]
    assert (record["asked"], record["capped"], record["paced"]) == (3, 1, 0)
    assert [item for item, _ in record["items"]] == [one["ad"] for one in answer["ads"]]
    assert record["p_click"] == pytest.approx([one["p_click"] for one in answer["ads"]], abs=1e-8)
    assert record["bids"] == [one["bid"] for one in answer["ads"]]
    assert record["propensities"] == pytest.approx([one["propensity"] for one in answer["ads"]], abs=1e-8)
    house.post(explore=False)
    assert house.lines.records[-1]["propensities"] is None


def test_where_everything_was_seen_often_enough_nothing_is_answered():
    _, answer = House({"a": 5, "b": 5, "c": 5}).post()
    assert (answer["ads"], answer["capped"]) == ([], 3)


def test_a_release_whose_model_is_damaged_answers_with_the_base_rate():
    status, answer = House(damaged=True).post()
    assert status == 200
    assert {one["p_click"] for one in answer["ads"]} == {0.02}
    assert [one["ad"] for one in answer["ads"]] == ["b", "a", "c"]
    assert (answer["arm"], answer["degraded"]) == ("control", True)
    assert "preset" not in answer


def test_caps_hold_where_the_champion_cannot_be_loaded():
    house = House({"a": 5}, damaged=True)
    _, answer = house.post()
    assert ([one["ad"] for one in answer["ads"]], answer["capped"]) == (["b", "c"], 1)
    assert (answer["arm"], answer["degraded"]) == ("control", True)


def test_a_thousand_ads_are_taken_and_no_more():
    house = House()
    status, answer = house.post(ads=[{"ad": f"ad{n}"} for n in range(1000)], limit=10)
    assert (status, len(answer["ads"])) == (200, 10)
    status, problem = house.post(ads=[{"ad": f"ad{n}"} for n in range(1001)])
    assert (status, problem["errors"][0]["field"]) == (400, "ads")


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"ads": []}, "ads", "at least 1 ad"),
        ({"ads": [{"ad": "a"}, {"ad": "b"}, {"ad": "a"}]}, "ads", "ads.2.ad is the same as ads.0.ad"),
        ({"ads": [{"ad": "a", "bid": -1}]}, "ads.0.bid", "greater than or equal to 0"),
        ({"ads": [{"ad": "a", "bid": "1"}]}, "ads.0.bid", "valid number"),
        ({"ads": [{"ad": "a", "price": 1}]}, "ads.0.price", "unknown field"),
        ({"ads": [{"ad": ""}]}, "ads.0.ad", "at least 1 character"),
        ({"ads": [{"bid": 1}]}, "ads.0.ad", "required"),
        ({"limit": 0}, "limit", "greater than or equal to 1"),
        ({"limit": 1001}, "limit", "less than or equal to 1000"),
        ({"user_id": 7}, "user_id", "valid string"),
        ({"preset": "loud"}, "preset", "is not one of balanced, no_cap, explore"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(body, field, reason):
    status, problem = House().post(**body)
    assert status == 400
    [fault] = problem["errors"]
    assert fault["field"] == field
    assert reason in fault["reason"]


def test_the_document_has_ads_own_words():
    found = document(load("ads"))
    assert set(found["paths"]) == {"/v1/ads/predictions", "/v1/ads/events"}
    schemas = found["components"]["schemas"]
    assert {"AdsRequest", "AskedAd", "AdsAnswer", "RankedAd", "AdEventRow"} <= schemas.keys()
    assert schemas["AdsRequest"]["properties"]["ads"]["minItems"] == 1
    assert "no_cap" in schemas["AdsRequest"]["properties"]["preset"]["enum"]


def live(version, offset, *, made_at=NOW, **by):
    offsets = {"since": NOW, "until": NOW, "rows": 100, "positives": 10, "expected": 8.0, "offset": offset, "by": by}
    return LiveCalibration(system="ads", label="click", made_at=made_at, versions={version: LiveOffsets(**offsets)})


def odds(p):
    return p / (1 - p)


def calibrated(house, made):
    """Two questions: the first one only sees to the champion."""
    house.objects.write(live_key("ads"), made if isinstance(made, bytes) else made.model_dump_json().encode())
    house.post(explore=False)
    return house.post(explore=False, context={"page": "Home"})


def test_what_came_in_lately_moves_what_is_said_and_what_it_is_worth():
    usual = {one["ad"]: one for one in House().post(explore=False)[1]["ads"]}
    house = House()
    _, answer = calibrated(house, live(house.version, 0.5, page={"home": 0.25, "other": 1.0}))
    for one in answer["ads"]:
        assert odds(one["p_click"]) == pytest.approx(odds(usual[one["ad"]]["p_click"]) * math.exp(0.75), rel=1e-5)
        if "bid" in one:
            assert one["expected_value"] == pytest.approx(one["bid"] * one["p_click"])
    record = house.lines.records[-1]
    assert record["p_model"] == pytest.approx([usual[one["ad"]]["p_click"] for one in answer["ads"]], abs=1e-6)
    assert record["p_click"] == pytest.approx([one["p_click"] for one in answer["ads"]], abs=1e-8)
    assert not answer["degraded"]


@pytest.mark.parametrize(
    "made",
    [
        lambda version: live("another", 0.5),
        lambda version: live(version, 0.5, made_at=NOW - timedelta(hours=7)),
        lambda version: b"damaged",
    ],
)
def test_offsets_of_another_release_old_or_damaged_ones_change_nothing(made):
    usual = House().post(explore=False)[1]["ads"]
    house = House()
    status, answer = calibrated(house, made(house.version))
    assert (status, answer["ads"], answer["degraded"]) == (200, usual, False)


def test_the_base_rate_is_not_moved():
    house = House(damaged=True)
    _, answer = calibrated(house, live(house.version, 0.5))
    assert {one["p_click"] for one in answer["ads"]} == {0.02}
    assert house.lines.records[-1]["degraded"]
