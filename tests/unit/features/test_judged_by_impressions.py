"""Snapshots of systems that are judged by impressions: parts by time, texts, and nothing of lists."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
import taps

from twinloop.contracts.artefacts import Case
from twinloop.contracts.outcomes import OutcomesTold
from twinloop.errors import BadInputError, IntegrityError, NotFoundError
from twinloop.evaluation.bundles import OTHER
from twinloop.evaluation.candidates import open_bench
from twinloop.features.judged import BUNDLE, SHOWN_FILE, KnownThen
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.features.snapshot import make_snapshot
from twinloop.features.splits import PARTS
from twinloop.features.stores import Known
from twinloop.ports import MemoryObjectStore
from twinloop.serving.loading import load_models

HOUR = 60 * 60 * 1000


def snapshot(tables, system=taps.SYSTEM, **more):
    objects = MemoryObjectStore()
    taps.deliver(objects, tables)
    return objects, make_snapshot(system, objects, now=taps.NOW, **more)


def rows_of(objects, manifest, part):
    body = objects.read(f"snapshots/taps/{manifest.snapshot_id}/{part}/impressions.parquet").body
    return pq.read_table(io.BytesIO(body)).to_pylist()


@pytest.fixture(scope="module")
def made():
    return snapshot(taps.world(3000))


def test_parts_are_by_time_for_everybody_and_no_window_reaches_the_next(made):
    train, validation, test = (rows_of(*made, part) for part in PARTS)
    times = [[row["time_ms"] for row in rows] for rows in (train, validation, test)]
    assert max(times[0]) + HOUR < min(times[1]) < max(times[1]) + HOUR < min(times[2])
    assert max(times[2]) - min(times[0]) < 3000 * 4 * 60_000 - HOUR  # what is not waited for is in none
    total = sum(map(len, times))
    assert [round(len(rows) / total, 1) for rows in times] == [0.6, 0.1, 0.3]
    shared = {row["user_id"] for row in train} & {row["user_id"] for row in test}
    assert len(shared) == 80


def test_texts_are_those_of_the_latest_row_and_null_where_nothing_is_known():
    tables = taps.world(800)
    tables["users"] = tables["users"][:40]
    tables["items"] = [item | ({"brand": None} if n == 3 else {}) for n, item in enumerate(tables["items"][:11])]
    objects, manifest = snapshot(tables)
    brands = {item["item_id"]: item["brand"] for item in tables["items"]}
    plans = {user["user_id"]: user["plan"] for user in tables["users"]}
    seen = set()
    for row in rows_of(objects, manifest, "train"):
        told = (row["text_items_brand"], row["text_users_plan"])
        assert told == (brands.get(row["item_id"]), plans.get(row["user_id"]))
        seen.add((told[0] is None, told[1] is None))
    assert len(seen) == 4
    for case in cases_of(objects, manifest):
        asked = case.request
        assert asked["texts"] == {
            "items.brand": brands.get(asked["item_id"]),
            "users.plan": plans.get(asked["user_id"]),
        }


def cases_of(objects, manifest):
    body = objects.read(f"snapshots/taps/{manifest.snapshot_id}/{SHOWN_FILE}").body
    return [Case.model_validate_json(line) for line in gzip.decompress(body).splitlines()]


def test_an_impression_that_says_itself_what_came_has_its_label(made):
    world = taps.world(3000)
    said = {event["event_id"]: event["tapped"] for event in world["events"] if "tapped" in event}
    start = int(taps.START.timestamp() * 1000)
    found = {row["time_ms"]: row["label_tap"] for part in PARTS for row in rows_of(*made, part)}
    labels = [
        (tapped, found[start + int(name[1:]) * 240_000])
        for name, tapped in said.items()
        if start + int(name[1:]) * 240_000 in found
    ]
    assert len(labels) > 200
    assert {tapped for tapped, _ in labels} == {0, 1}
    # An earlier or later showing of the same notice may have led to the tap that is told; one's own is never lost.
    assert all(label >= tapped for tapped, label in labels)


def test_the_gate_is_given_bundles_with_what_was_known(made):
    objects, manifest = made
    bench = open_bench(objects, taps.SYSTEM, load_models, f"snapshots/taps/{manifest.snapshot_id}/")
    assert len(bench.shown) == manifest.rows["test/impressions"]
    assert len(bench.cases) == len(bench.shown) // BUNDLE
    assert {"device": "tv", "activity": "known"} in [case.slices for case in bench.cases]
    asked = bench.cases[0].request["shown"][0]
    assert asked["known"].tensor(taps.KNOWN, [asked["item_id"]], 0).shape == (1, 2)
    assert asked["known"].texts(["users.plan"], ["a", "b"]) == [(asked["texts"]["users.plan"],)] * 2
    few = replace(taps.SYSTEM, outcomes=replace(taps.OUTCOMES, most_judged=205))
    objects, manifest = snapshot(taps.world(3000), few)
    assert manifest.outcomes.most_judged == 205
    assert manifest.rows["cases/impressions"] == 205
    assert len(open_bench(objects, few, load_models, f"snapshots/taps/{manifest.snapshot_id}/").cases) == 10


def test_a_slice_by_what_applications_write_freely_is_carried_all_the_same():
    """Hardly two showings are of one kind of device; a slice that no case carries would veto everybody."""
    tables = taps.world(3000)
    tables["events"] = [row | {"context": {"device": f"model {n}"}} for n, row in enumerate(tables["events"])]
    objects, manifest = snapshot(tables)
    bench = open_bench(objects, taps.SYSTEM, load_models, f"snapshots/taps/{manifest.snapshot_id}/")
    assert {case.slices["device"] for case in bench.cases} == {case.slices["device"] for case in bench.shown} == {OTHER}


def test_a_snapshot_of_lists_does_not_judge_impressions(made):
    objects, manifest = made
    key = f"snapshots/taps/{manifest.snapshot_id}/"
    lost = MemoryObjectStore()
    lost.write(f"{key}manifest.json", objects.read(f"{key}manifest.json").body)
    with pytest.raises(NotFoundError, match=SHOWN_FILE):
        open_bench(lost, taps.SYSTEM, load_models, key)
    without = manifest.model_copy(update={"files": ()})
    lost.write(f"{key}manifest.json", without.model_dump_json().encode())
    with pytest.raises(BadInputError, match="take a new snapshot"):
        open_bench(lost, taps.SYSTEM, load_models, key)


@pytest.mark.parametrize("events", [[], ["tap"], ["show"]])
def test_where_nothing_was_shown_long_enough_ago_it_is_told(events):
    tables = taps.world(300)
    rows = [event for event in tables["events"] if event["type"] in events and "tapped" not in event]
    with pytest.raises(BadInputError, match=r"no impression of 'taps' that was waited for 60 minutes|has no events"):
        snapshot(tables | {"events": rows[:10] if "show" in events else rows})


@pytest.mark.parametrize(("shows", "told"), [(400, "only 1.. impressions can be judged, at least 200 are needed")])
def test_too_few_impressions_are_refused(shows, told):
    with pytest.raises(BadInputError, match=told):
        snapshot(taps.world(shows))


def test_nothing_to_train_on_is_refused():
    events = [{**event, "time": taps.START.isoformat()} for event in taps.world(400)["events"]]
    late = {**events[0], "event_id": "late", "time": (taps.START + timedelta(hours=2)).isoformat()}
    with pytest.raises(BadInputError, match="no impression is left to train on"):
        snapshot({"events": [*events, late]}, minimum_cases=1)


def test_an_attribute_that_is_no_text_is_refused():
    system = replace(taps.SYSTEM, outcomes=replace(taps.OUTCOMES, texts=("users.age",)))
    with pytest.raises(BadInputError, match=r"users\.age is no text in the lake, but DOUBLE"):
        snapshot(taps.world(300), system)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"outcomes": replace(taps.OUTCOMES, texts=("items.colour",))}, r"items\.colour"),
        ({"outcomes": replace(taps.OUTCOMES, texts=("brand",))}, "brand"),
        ({"outcomes": replace(taps.OUTCOMES, texts=()), "counting": None}, "needs counting"),
        ({"spec": taps.SYSTEM.spec.model_copy(update={"split": taps.Split()})}, "global"),
    ],
)
def test_a_system_that_cannot_be_judged_so_is_no_system(changes, told):
    with pytest.raises(ValueError, match=told):
        replace(taps.SYSTEM, **changes)


def test_a_manifest_says_nothing_of_what_is_not_used():
    before = {"labels": ["click"], "window_minutes": 60.0, "item_facts": [], "context": []}
    told = OutcomesTold(labels=("click",), window_minutes=60)
    assert json.loads(told.model_dump_json()) == before
    now = taps.OUTCOMES.told()
    assert OutcomesTold.model_validate_json(now.model_dump_json()) == now


def test_texts_of_users_and_items_come_from_the_store_and_are_read_once():
    calls = []
    items = {"a": Known(b"", {"brand": "x", "length": 3.0}), "b": Known(b"", {"length": 1.0}), "n": Known()}
    items["n"] = Known(b"", {"brand": 7.0})

    def read(ids):
        calls.append(list(ids))
        return [items.get(item_id, Known()) for item_id in ids]

    cache = ItemCache(taps.COUNTING, read, now_ms=lambda: 10**12)
    known = UserKnowledge(taps.COUNTING, Known(b"", {"plan": "gold", "age": 3.0}), cache)
    known.tensor(taps.KNOWN, ["a", "b"], 10**12)
    names = ["users.plan", "items.brand", "users.age"]
    assert known.texts(names, ["b", "a", "a"]) == [("gold", None, None), ("gold", "x", None), ("gold", "x", None)]
    assert known.texts(["items.brand"], ["n", "nobody's"]) == [(None,), (None,)]
    assert known.texts([], ["a"]) == [()]
    assert calls == [["a", "b"], ["n", "nobody's"]]
    assert not known.degraded
    for name in ("items.colour", "users.brand", "brand", ""):
        with pytest.raises(IntegrityError, match="no attribute"):
            known.texts([name], ["a"])


def test_texts_are_missing_where_the_store_does_not_answer():
    nobody = UserKnowledge(taps.COUNTING, None, ItemCache(taps.COUNTING, lambda ids: [Known()] * len(ids)))
    assert nobody.texts(["items.brand"], ["a"]) == [(None,)]
    assert not nobody.degraded
    assert nobody.texts(["users.plan"], ["a"]) == [(None,)]
    assert nobody.degraded
    for items in (None, ItemCache(taps.COUNTING, lambda ids: None)):
        away = UserKnowledge(taps.COUNTING, Known(), items)
        assert away.texts(["items.brand"], ["a"]) == [(None,)]
        assert away.degraded


def test_a_text_that_no_impression_has_is_refused():
    with pytest.raises(IntegrityError, match=r"'items\.brand'"):
        KnownThen({}, known_texts={"users.plan": None}).texts(["items.brand"], ["i"])
