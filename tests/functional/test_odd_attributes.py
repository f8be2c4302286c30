"""What people write where a number is meant: snapshot and online store tell it alike, and it is never in the way."""

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from twinloop import systems
from twinloop.features import values
from twinloop.features.materialise import materialise
from twinloop.features.snapshot import Resources, make_snapshot
from twinloop.features.splits import PARTS
from twinloop.features.stores import MemoryFeatureStore
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.training.impressions import FILE

START = datetime(2026, 1, 5, tzinfo=UTC)
END = START + timedelta(days=2)
NONE = -1.0

# What is written as JSON -> what is told.
BUDGETS = {
    "25": 25,
    '"25.5"': 25.5,
    '" 7 "': 7,
    "0": 0,
    "-0.0": 0,
    "1e-320": 0,
    "999999999": 999_999_999,
    "1e9": NONE,
    "1e39": NONE,
    "-1e39": NONE,
    "1e308": NONE,
    "1e400": NONE,
    "1" + "0" * 400: NONE,
    '"1e39"': NONE,
    '"inf"': NONE,
    '"-Infinity"': NONE,
    '"nan"': NONE,
    '"NaN"': NONE,
    '"a lot"': NONE,
    '""': NONE,
    "null": NONE,
    "true": NONE,
    "[5]": NONE,
    '{"a": 5}': NONE,
}
DURATIONS = {"30": 30, "1e37": 1e37, "1e39": NONE, "1e308": NONE}


def deliver(objects, system, table, lines, when=END):
    body = "\n".join(lines).encode()
    etag = hashlib.sha256(body).hexdigest()
    raw = RawObject(f"raw/{system}/{table}/x.jsonl", etag, when, len(body), io.BytesIO(body))
    return ingest(raw, systems.load(system), objects)


def lake(system, items):
    """Every item is shown every other hour; some are clicked."""
    objects, lines = MemoryObjectStore(), []
    assert not deliver(objects, system, "items", items).quarantined
    for n in range(24 * len(items)):
        for kind in ("impression", "click")[: 1 + (n % 7 == 0)]:
            when = START + n * (END - START) / (24 * len(items))
            row = {"event_id": f"{kind}{n}", "type": kind, "time": when.isoformat(), "user_id": f"u{n % 5}"}
            lines.append(json.dumps(row | {"item_id": f"i{n % len(items)}"}))
    assert not deliver(objects, system, "events", lines).quarantined
    return objects


def in_snapshot(system, objects, feature):
    """Item -> what all of its impressions say."""
    made = make_snapshot(systems.load(system), objects, now=END, minimum_cases=0)
    found = {}
    for part in PARTS:
        body = objects.read(f"snapshots/{system}/{made.snapshot_id}/{part}/{FILE}").body
        for row in pq.read_table(io.BytesIO(body)).to_pylist():
            assert found.setdefault(row["item_id"], row[feature]) == row[feature]
    return found


def online(system, objects, feature, items):
    store, counting = MemoryFeatureStore(), systems.load(system).counting
    materialise(systems.load(system), objects, store, features=store, resources=Resources(512))
    known = store.recall(system, "u0", [f"i{n}" for n in range(items)])
    told = values.compute(counting, int(END.timestamp() * 1000), known.user, known.items)[feature].values
    return {f"i{n}": float(np.float32(value)) for n, value in enumerate(told)}


def test_budgets_are_told_alike():
    items = [f'{{"item_id":"i{n}","attributes":{{"daily_budget":{told}}}}}' for n, told in enumerate(BUDGETS)]
    objects = lake("ads", items)
    expected = {f"i{n}": float(np.float32(value)) for n, value in enumerate(BUDGETS.values())}
    assert in_snapshot("ads", objects, "item_daily_budget") == expected
    assert online("ads", objects, "item_daily_budget", len(items)) == expected


@pytest.mark.parametrize("stored", [float("inf"), float("nan"), 1e39])
def test_what_was_stored_before_is_told_as_none(stored):
    counting = systems.load("ads").counting
    [feature] = [one for one in counting.features if one.name == "item_daily_budget"]
    assert values._of_attributes(feature, [values.Known(b"", {"daily_budget": stored})], 0).values.tolist() == [NONE]


def test_a_number_that_no_model_can_be_told_is_none_in_every_system():
    items = [f'{{"item_id":"i{n}","title":"t","duration_s":{told}}}' for n, told in enumerate(DURATIONS)]
    objects = lake("video", items)
    told = in_snapshot("video", objects, "item_duration_s")
    assert told == online("video", objects, "item_duration_s", len(items))
    assert all(np.isfinite(list(told.values())))
    assert told["i0"] == 30
    assert told["i2"] == told["i3"] < told["i0"]


def test_an_edited_budget_holds_once_it_is_materialised():
    """As docs/api.md says: delivering the ad is not enough, and the action needs no training."""
    objects, store, counting = lake("ads", [BUDGETED % 25]), MemoryFeatureStore(), systems.load("ads").counting
    bring = partial(materialise, systems.load("ads"), objects, store, features=store, resources=Resources(512))

    def budget():
        known = store.recall("ads", "u0", ["i0"])
        return values.compute(counting, int(END.timestamp() * 1000), known.user, known.items)[
            "item_daily_budget"
        ].values

    assert budget() == [NONE]
    bring()
    assert budget() == [25]
    assert not deliver(objects, "ads", "items", [BUDGETED % 40], END + timedelta(hours=1)).quarantined
    assert budget() == [25]
    bring()
    assert budget() == [40]


BUDGETED = '{"item_id":"i0","attributes":{"daily_budget":%d}}'
