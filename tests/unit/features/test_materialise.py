"""What the lake knows reaches the store as if every event had come live, and live events are never lost."""

from __future__ import annotations

import dataclasses
import io
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from both_ways import SYSTEM, happened

from twinloop.contracts.tally import pack, unpack
from twinloop.features import values
from twinloop.features.counting import count
from twinloop.features.materialise import materialise
from twinloop.features.stores import MemoryFeatureStore, MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.systems.video.features import COUNTING
from twinloop.systems.video.system import SYSTEM as VIDEO

START, HOUR, DAY = 1_767_225_600_000, 3_600_000, 86_400_000
FORGETFUL = dataclasses.replace(COUNTING, memory={"user": 3, "item": 2})


def events(count: int) -> list[dict[str, object]]:
    """One every five hours, of two users and three items; some of them watches."""
    return [
        {
            "event_id": f"e{n}",
            "type": ("impression", "watch", "click")[n % 3],
            "time_ms": START + n * 5 * HOUR,
            "user_id": "uv"[n % 2],
            "item_id": "abc"[n % 4 % 3],
            "watch_s": 10.5 if n % 3 == 1 else None,
            "duration_s": 20.0 if n % 3 == 1 else None,
        }
        for n in range(count)
    ]


def lake(rows: list[dict[str, object]]) -> MemoryObjectStore:
    store = MemoryObjectStore()

    def put(table: str, rows: list[dict[str, object]]) -> None:
        body = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), body)
        store.write(f"lake/video/{table}/dt=2026-01-01/0.parquet", body.getvalue())

    moments = [
        {name: value for name, value in row.items() if name != "time_ms"}
        | {"time": datetime.fromtimestamp(row["time_ms"] / 1000, UTC)}
        for row in rows
    ]
    put("events", [*moments, *moments[:5]])
    published = datetime.fromtimestamp(START / 1000 - 86_400, UTC)
    put(
        "items", [{"item_id": i, "title": i, "tags": ["t"], "author_id": "x", "published_at": published} for i in "abd"]
    )
    put("users", [{"user_id": "u", "extra": f'{{"registered_ms": {START - DAY}}}'}, {"user_id": "w", "extra": None}])
    return store


def asked(store: MemoryFeatureStore, counting: object, user: str, at_ms: int) -> dict[str, list[float]]:
    known = store.recall(SYSTEM, user, ["a", "b", "c", "d"])
    found = values.compute(counting, at_ms, known.user, known.items)
    return {name: value.values.tolist() for name, value in found.items()}


@pytest.mark.parametrize("at_once", [300_000, 40], ids=["at once", "in slices"])
@pytest.mark.parametrize("counting", [COUNTING, FORGETFUL], ids=["as deployed", "forgetful"])
def test_the_lake_gives_what_live_events_give(counting, at_once, monkeypatch):
    monkeypatch.setattr("twinloop.features.materialise._SLICE_EVENTS", at_once)
    system, rows = dataclasses.replace(VIDEO, counting=counting), events(200)
    from_lake, live = MemoryFeatureStore(), MemoryFeatureStore()
    answer = materialise(system, lake(rows), from_lake, features=from_lake)
    assert answer == {"system": "video", "users": 2, "counted": {"items": 4, "users": 3}}
    materialise(system, lake(rows[:1]), live, features=live)  # attributes first, then events
    for row in rows[1:]:
        assert count(SYSTEM, counting, live, [happened(counting, row)]) == {}
    at_ms = rows[-1]["time_ms"] + HOUR
    for user in "uvw":
        assert asked(from_lake, counting, user, at_ms) == asked(live, counting, user, at_ms)
    for key in (("user", "u"), ("user", "v"), ("item", "a")):
        layout = counting.layout(key[0])
        [one], [other] = from_lake.known(SYSTEM, [key]), live.known(SYSTEM, [key])
        assert unpack(one.counters, layout) == unpack(other.counters, layout)
        assert pack(unpack(one.counters, layout), layout) == one.counters


def test_events_that_have_not_reached_the_lake_survive_and_doubles_are_mended():
    system, rows = dataclasses.replace(VIDEO, counting=FORGETFUL), events(60)
    store, whole = MemoryFeatureStore(), MemoryFeatureStore()
    for row in (*rows[:40], *rows[:20], *rows[58:]):  # counted doubly: nobody remembers them any more
        assert count(SYSTEM, FORGETFUL, store, [happened(FORGETFUL, row)]) == {}
    for _ in range(2):
        materialise(system, lake(rows[:58]), store, features=store)
    materialise(system, lake(rows), whole, features=whole)
    at_ms = rows[-1]["time_ms"] + HOUR
    for user in "uv":
        found, expected = asked(store, FORGETFUL, user, at_ms), asked(whole, FORGETFUL, user, at_ms)
        # Events that came before their items were known are not told by author or tag.
        crossed = {feature.name for feature in FORGETFUL.features if feature.entity == "user_item"}
        assert {n: v for n, v in found.items() if n not in crossed} == {
            n: v for n, v in expected.items() if n not in crossed
        }


def test_histories_alone_where_nothing_is_counted():
    store = MemoryOnlineStore()
    assert materialise(dataclasses.replace(VIDEO, counting=None), lake(events(9)), store) == {
        "system": "video",
        "users": 2,
    }
    features = MemoryFeatureStore()
    system = dataclasses.replace(VIDEO, counting=None)
    assert "counted" not in materialise(system, lake(events(9)), features, features=features)


def test_attributes_are_known_without_any_event():
    objects, store = lake(events(1)), MemoryFeatureStore()
    objects.delete("lake/video/events/dt=2026-01-01/0.parquet")
    done = materialise(VIDEO, objects, store, features=store)
    assert done == {"system": "video", "users": 0, "counted": {"items": 3, "users": 2}}
    assert store.recall(SYSTEM, "u", ["a"]).items["a"].attributes
    assert materialise(VIDEO, objects, store) == {"system": "video", "users": 0}
