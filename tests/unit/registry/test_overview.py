"""The registry as a table."""

import json
from datetime import UTC, datetime, timedelta

from twinloop.ports import MemoryObjectStore
from twinloop.registry.overview import release_rows
from twinloop.registry.registry import Registry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
METRICS = {
    "metrics": {"ndcg@10": {"mean": 0.183, "low": 0.17, "high": 0.195}, "odd": {"mean": "x"}},
    "latency_p99_ms": 4.2,
    "size_mb": 12.5,
}


def add(store, number, metrics):
    registry = Registry(store, "video", clock=lambda: NOW + timedelta(hours=number))
    component = registry.register_component("retrieval", {"model.onnx": b"%d" % number})
    draft = registry.draft_release(
        rung=f"rung{number}", snapshot_id="s", schema_hash="h", components={"retrieval": component}
    )
    draft = draft.model_copy(update={"verdict": f"verdict {number}", "metrics": {"ndcg@10": 0.1}})
    return registry.register_release(draft, {"metrics.json": metrics})


def test_rows_tell_who_serves_and_why():
    store = MemoryObjectStore()
    first = add(store, 1, json.dumps(METRICS).encode())
    second = add(store, 2, b"not json")
    third = add(store, 3, b"{}")
    registry = Registry(store, "video")
    registry.promote(first, why="the first", by="gate")
    registry.promote(second, why="a better one", by="gate")
    rows = {row.version: row for row in release_rows(registry)}
    assert list(rows) == [third, second, first]
    assert rows[second].aliases == ("champion",)
    assert rows[second].why == "a better one"
    assert str(rows[second].metrics["ndcg@10"]) == "0.100 [0.100, 0.100]"
    assert rows[first].aliases == ("previous",)
    assert str(rows[first].metrics["ndcg@10"]) == "0.183 [0.170, 0.195]"
    assert (rows[first].latency_p99_ms, rows[first].size_mb) == (4.2, 12.5)
    assert "odd" not in rows[first].metrics
    assert rows[third].why == "verdict 3"


def test_why_a_champion_serves_is_told_though_previous_moved_since():
    store = MemoryObjectStore()
    first, second, third = (add(store, number, b"{}") for number in (1, 2, 3))
    registry = Registry(store, "video")
    registry.promote(first, why="the first", by="gate")
    registry.promote(second, why="a better one", by="gate")
    registry.move_previous(third, why="other items", by="refresh", expected=first)
    rows = {row.version: row for row in release_rows(registry)}
    assert (rows[second].aliases, rows[second].why) == (("champion",), "a better one")
    assert (rows[third].aliases, rows[third].why) == (("previous",), "verdict 3")


def test_a_spoilt_release_is_a_row_that_says_so():
    store = MemoryObjectStore()
    version = add(store, 1, b"{}")
    store.write(f"registry/video/release/versions/{version}/manifest.json", b"spoilt")
    (row,) = release_rows(Registry(store, "video"))
    assert not row.usable
    assert "checksum differs" in row.why


def test_an_empty_registry_has_no_rows():
    assert release_rows(Registry(MemoryObjectStore(), "video")) == []
