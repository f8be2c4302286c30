"""People click otherwise than any day learnt from: from answers, through log and lake and `monitor`, back to answers.

S3 is moto's; the model is a tiny one, and everything between is real.
"""

import json
import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pytest
from played_aws import function
from tiny_ads import HASHED, files

from twinloop import systems
from twinloop.contracts.artefacts import ComponentManifest
from twinloop.contracts.live import LiveCalibration, live_key
from twinloop.errors import BadInputError
from twinloop.features.stores import MemoryFeatureStore
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.registry.registry import Registry
from twinloop.serving.http import Request
from twinloop.serving.service import make_app

ADS = systems.load("ads")
SHIFT, OF_SEARCH = 0.5, -0.8
ASKED = [{"ad": f"ad{n}"} for n in range(10)]


@pytest.fixture
def handler(bucket):
    return function("monitor")


class House:
    """The app around a registry in the bucket; what it logs goes there by day of its own clock."""

    def __init__(self, store, now):
        self.store, self.now, self.lines = store, now, defaultdict(list)
        registry = Registry(store, "ads", clock=lambda: now)
        parts = files(np.random.default_rng(3).normal(-0.5, 0.4, HASHED.buckets))
        schema = ComponentManifest.model_validate_json(parts["click"]["manifest.json"]).schema_hash
        components = {name: registry.register_component(name, content) for name, content in parts.items()}
        draft = registry.draft_release(rung="logistic", snapshot_id="s", schema_hash=schema, components=components)
        self.version = registry.register_release(draft, {"metrics.json": b"{}", "card.html": b"<p>"})
        registry.move_alias("champion", self.version, why="for the test", by="the test")
        self.start()

    def start(self):
        """Another process; its first request sees to the champion and to nothing else."""
        features = MemoryFeatureStore()
        self.app = make_app(ADS, self.store, features, self, features=features, now=lambda: self.now)

    def send(self, system, lines):
        self.lines[f"{self.now:%Y/%m/%d}"] += lines
        return set()

    def ask(self, user, page):
        body = {"user_id": user, "ads": ASKED, "explore": False, "context": {"page": page}}
        answer = self.app(Request("POST", "/v1/ads/predictions", {}, json.dumps(body).encode()))
        assert answer.status == 200
        return json.loads(answer.body)

    def flush(self):
        for day, lines in self.lines.items():
            self.store.write(f"predictions/ads/{day}/logged.jsonl", b"".join(lines) + b'{"broken\n')


def true(p, page):
    """What the chance of a click has become."""
    return 1 / (1 + math.exp(-math.log(p / (1 - p)) - SHIFT - OF_SEARCH * (page == "search")))


def test_what_is_said_follows_what_comes(bucket, handler):
    draw, now = np.random.default_rng(11), datetime.now(UTC)
    house, events = House(bucket, now - timedelta(hours=5)), []
    for n in range(600):
        house.now = now - timedelta(hours=5) + timedelta(seconds=20 * n)
        page = "search" if n % 3 == 0 else "home"
        told = house.ask(f"u{n}", page)
        for one in told["ads"]:
            row = {"user_id": f"u{n}", "item_id": one["ad"], "request_id": told["prediction_id"]}
            row |= {"event_id": f"{n}-{one['ad']}", "time": int(house.now.timestamp() * 1000), "type": "impression"}
            events.append(row)
            if draw.random() < true(one["p_click"], page):
                events.append(row | {"event_id": f"{n}-{one['ad']}-c", "type": "click", "time": row["time"] + 60_000})
    events.append({"event_id": "now", "type": "impression", "user_id": "u", "item_id": "x"})
    events[-1]["time"] = int(now.timestamp() * 1000)
    house.flush()
    body = b"\n".join(json.dumps(event).encode() for event in events)
    for name in ("a", "b"):  # delivered twice, under two names
        key = f"raw/ads/events/live/{name}.jsonl"
        ingest(RawObject(key, "1", now, len(body), BytesIO(body)), ADS, bucket)

    answer = json.loads(json.dumps(handler({"system": "ads"})))
    assert LiveCalibration.model_validate_json(bucket.read(live_key("ads")).body).versions.keys() == {house.version}
    [offsets] = answer["calibration"]["versions"].values()
    assert offsets["rows"] == 6000
    assert offsets["offset"] + offsets["by"]["page"]["home"] == pytest.approx(SHIFT, abs=0.1)
    assert offsets["offset"] + offsets["by"]["page"]["search"] == pytest.approx(SHIFT + OF_SEARCH, abs=0.15)
    assert answer["log"]["lines"] == 600
    assert answer["log"]["damaged"] in (1, 2)  # one a day

    house.now = now
    house.start()
    house.ask("u1", "home")
    for page in ("home", "search"):
        told = house.ask("u1", page)
        line = json.loads(house.lines[f"{now:%Y/%m/%d}"][-1])
        assert line["p_click"] == pytest.approx([one["p_click"] for one in told["ads"]], abs=1e-8)
        wanted = np.mean([true(p, page) for p in line["p_model"]])
        before, after = (abs(math.log(np.mean(line[name]) / wanted)) for name in ("p_model", "p_click"))
        assert after < 0.12, "a value of few rows is held back by its ridge"
        assert before > max(0.15, 2 * after), "and would have been off"


def test_a_system_that_has_no_offsets_is_refused(handler):
    with pytest.raises(BadInputError, match="video"):
        handler({"system": "video"})
