"""Requests of `ads`, on one thread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.predictions.releases import component, promoted
from benchmarks.predictions.timing import percentiles
from benchmarks.predictions.world import DAY, EVENT, RNG, MemoryStream

from twinloop import systems
from twinloop.contracts.tally import Happening, Tally
from twinloop.features.counting import marks_of
from twinloop.features.outcomes import known_features
from twinloop.features.stores import Entity, MemoryFeatureStore
from twinloop.ports import MemoryObjectStore
from twinloop.serving.lambdas import answer
from twinloop.serving.service import make_app
from twinloop.systems.ads.features import COUNTING as ADS
from twinloop.systems.ads.features import HASHED
from twinloop.training.calibration import IDENTITY
from twinloop.training.click_graph import click_graph
from twinloop.training.clicks import Rows
from twinloop.training.cross_network import Learner
from twinloop.training.cross_network import Shape as CrossShape

ADS_KNOWN = 1000


def ads() -> dict[str, Any]:
    """Requests of ads, from the body to the answer and its log line."""
    names = tuple(feature.name for feature in known_features(ADS))
    count = 50_000
    rows = Rows(
        RNG.integers(0, HASHED.buckets, (count, len(HASHED.fields))),
        RNG.gamma(1, 10, size=(count, len(names))).astype(np.float32),
        (RNG.random(count) < 0.02).astype(np.float32),
        np.arange(count),
        np.arange(count),
    )
    # Every id has a vector of its own, as after many more showings than these; what it has learnt changes no time.
    learner = Learner(rows, HASHED.buckets, CrossShape(least=0), seed=7)
    model = click_graph(learner, IDENTITY, fields=len(HASHED.fields), known=len(names))
    files = {"click": component("click", model, ("ids", "known"), ("click",), known=names, system="ads", of=HASHED)}
    files["click"]["prior.json"] = json.dumps({"click": 0.02}).encode()
    store, known = MemoryObjectStore(), MemoryFeatureStore()
    promoted(store, files, system="ads")
    _fill_ads(known)
    app = make_app(systems.load("ads"), store, known, MemoryStream(), features=known)

    def request_of(many: int) -> Callable[[], Any]:
        asked = [{"ad": f"ad{place}", "bid": 0.5 + place / 100} for place in RNG.permutation(ADS_KNOWN)[:many].tolist()]
        context = {"page": "home", "slot": "top", "device": "phone", "platform": "web"}
        body = {"user_id": "u1", "ads": asked, "context": context}
        event = EVENT | {"path": "/v1/ads/predictions", "body": json.dumps(body)}
        return lambda: answer(event, lambda: app)

    first = json.loads(request_of(100)()[0]["body"])
    assert not first["degraded"], first
    return {
        "features": len(names),
        "ids": len(HASHED.fields),
        "click_mb": round(len(model) / 1e6, 1),
        "ads_100": percentiles(request_of(100), 1000, time.thread_time),
        "ads_1000": percentiles(request_of(1000), 100, time.thread_time),
        "budget_p50_ms": 5,
    }


def _fill_ads(store: MemoryFeatureStore) -> None:
    """Everything of a user with a full memory, and of every ad, up to the present: only that is kept in memory."""
    now_ms = time.time_ns() // 1_000_000

    def facts(place: int) -> dict[str, str | float]:
        named = {"advertiser_id": f"a{place % 30}", "campaign_id": f"c{place % 80}", "category": f"t{place % 12}"}
        return {**named, "daily_budget": 100.0}

    def happened(count: int, *, marked: bool) -> list[Happening]:
        drawn = zip(*(RNG.integers(0, most, count).tolist() for most in (40 * DAY, 2**62, ADS_KNOWN)), strict=True)
        kinds = ("impression",) * 19 + ("click",)
        return [
            Happening(
                now_ms - before,
                key,
                ADS.amounts({"type": kinds[key % len(kinds)], "bid": 0.5}),
                marks_of(ADS, f"ad{place}", facts(place)) if marked else (),
            )
            for before, key, place in drawn
        ]

    user: tuple[Entity, str] = ("user", "u1")
    store.settle("ads", user, Tally(), {"country": "de", "age_group": "25-34"}, ADS.layout("user"))
    store.count("ads", user, happened(600, marked=True), ADS.layout("user"))
    for place in range(ADS_KNOWN):
        key: tuple[Entity, str] = ("item", f"ad{place}")
        store.settle("ads", key, Tally(), facts(place), ADS.layout("item"))
        store.count("ads", key, happened(100, marked=False), ADS.layout("item"))
