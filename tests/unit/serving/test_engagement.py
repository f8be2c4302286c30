"""Releases that ask what is known read it once, from the store or from memory, and answer without it; others do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import tiny_system
from engaged import NOW_MS, files, item, schema_of, shown
from tiny_models import video_files

from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError, IntegrityError, UnavailableError
from twinloop.features.stores import MemoryFeatureStore, Recalled
from twinloop.ports import MemoryObjectStore
from twinloop.serving.http import Request
from twinloop.serving.openapi import document
from twinloop.serving.service import make_app
from twinloop.systems import load
from twinloop.systems.video.features import COUNTING

VIDEO = load("video")


class Store(MemoryFeatureStore):
    """Notes what it is asked, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []
        self.fails: dict[str, Exception] = {}

    def history(self, system: str, user_id: str) -> Any:
        return self._noted("history", 1) or super().history(system, user_id)

    def known(self, system: str, keys: Sequence[Any]) -> Any:
        return self._noted("known", len(keys)) or super().known(system, keys)

    def recall(self, system: str, user_id: str, item_ids: Sequence[str] = ()) -> Recalled:
        self._noted("recall", 1 + len(item_ids))
        user = MemoryFeatureStore.known(self, system, [("user", user_id)])[0]
        return Recalled(MemoryFeatureStore.history(self, system, user_id), user, {})

    def _noted(self, what: str, count: int) -> None:
        self.calls.append((what, count))
        if what in self.fails:
            raise self.fails[what]


class Lines:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        self.records += [json.loads(line) for line in lines]
        return set()


class House:
    """The app around a registry and a store in memory."""

    def __init__(self, parts: Any = None, *, features: bool = True, alias: str = "champion") -> None:
        self.objects, self.store, self.lines = MemoryObjectStore(), Store(), Lines()
        self.store.merge("video", "u", [HistoryEntry("i2", 1000, 1.0)])
        for n in range(6):
            known = item(10 * n, duration_s=100.0 - 10 * n, key=n)
            self.store._known["video", "item", f"i{n}"] = known
        self.store.count("video", ("user", "u"), shown(3, clicks=1, key=9, author="x"), COUNTING.layout("user"))
        self.add(parts or files(), alias)
        self.app = make_app(
            VIDEO, self.objects, self.store, self.lines, features=self.store if features else None, look_every_s=0
        )
        self.store.calls.clear()

    def add(self, parts: Any, alias: str) -> str:
        version = tiny_system.register(self.objects, parts, schema=schema_of(parts))
        tiny_system.promote(self.objects, version, alias)
        return version

    def ask(self, user: str = "u", **more: Any) -> dict[str, Any]:
        body = {"user_id": user, "time_ms": NOW_MS, "explore": False, **more}
        answer = self.app(Request("POST", "/v1/video/recommendations", {}, json.dumps(body).encode()))
        assert answer.status == 200
        found: dict[str, Any] = json.loads(answer.body)
        return found


def plain() -> Any:
    return video_files(schema_hash=tiny_system.SCHEMA)


def test_one_read_for_the_user_and_one_for_all_items_that_are_not_known_yet():
    house = House()
    first = house.ask()
    assert house.store.calls == [("recall", 1), ("known", 5)]
    again = house.ask()
    assert house.store.calls[2:] == [("recall", 1)]
    assert first["items"] == again["items"]
    assert not first["degraded"]
    assert {i["item_id"]: i["watch_s"] for i in first["items"]} == {"i3": 70, "i4": 60, "i5": 50, "i0": 100, "i1": 90}
    assert all(0 < found["p_click"] < 1 for found in first["items"])
    house.ask("somebody else", exclude=["i0"])
    assert house.store.calls[3:] == [("recall", 1), ("known", 1)]  # i2, which the first user has seen


def test_a_release_that_asks_for_nothing_keeps_its_one_read():
    house = House(plain())
    answer = house.ask()
    assert house.store.calls == [("history", 1)]
    assert not any({"p_click", "watch_s"} & found.keys() for found in answer["items"])


def test_a_shadow_or_challenger_that_asks_is_enough():
    house = House(plain())
    house.add(files(), "shadow")
    house.ask()  # the champion is there first
    house.store.calls.clear()
    house.ask()
    assert house.store.calls[0] == ("recall", 1)
    assert house.lines.records[-1]["shadow"]["items"]


def test_predictions_are_logged():
    house = House()
    answer = house.ask(limit=2)
    record = house.lines.records[-1]
    assert record["watch_s"] == [found["watch_s"] for found in answer["items"]]
    assert record["p_click"] == pytest.approx([found["p_click"] for found in answer["items"]], abs=1e-6)


@pytest.mark.parametrize("error", [UnavailableError("away"), IntegrityError("damaged")])
def test_a_store_that_does_not_give_the_user_degrades_and_no_more(error):
    house = House()
    house.store.fails["recall"] = error
    answer = house.ask()
    assert answer["degraded"]
    assert answer["cold"]
    assert len(answer["items"]) == 6
    assert all(found["p_click"] == 0.5 or found["watch_s"] for found in answer["items"])


@pytest.mark.parametrize("error", [UnavailableError("away"), IntegrityError("damaged"), BadInputError("an id of ours")])
def test_a_store_that_does_not_give_items_degrades_and_no_more(error):
    house = House()
    house.store.fails["known"] = error
    answer = house.ask()
    assert answer["degraded"]
    assert not answer["cold"]
    assert [found["watch_s"] for found in answer["items"]] == [0.0] * 5
    house.store.fails.clear()
    if not isinstance(error, UnavailableError):  # after that the store is left alone for a while
        assert not house.ask()["degraded"]


@pytest.mark.parametrize("damage", ["items", "user"])
def test_bytes_that_cannot_be_read_never_make_an_error(damage):
    house = House()
    key = ("video", "item", "i3") if damage == "items" else ("video", "user", "u")
    house.store._known[key] = house.store._known[key]._replace(counters=b"\x01damaged")
    assert house.ask()["degraded"]


def test_without_a_feature_store_features_are_defaults():
    answer = House(features=False).ask()
    assert answer["degraded"]
    assert [found["p_click"] for found in answer["items"]] == [0.5] * 5


def test_what_a_user_did_changes_the_next_answer():
    house = House()
    before = house.ask()
    events = shown(40, key=77)
    house.store.count("video", ("item", "i3"), events, COUNTING.layout("item"))
    assert house.ask()["items"] == before["items"]  # items are known for half a minute
    later = house.ask(time_ms=NOW_MS + 31_000)
    clicks = [{found["item_id"]: found["p_click"] for found in answer["items"]} for answer in (before, later)]
    assert clicks[1]["i3"] > clicks[0]["i3"]


def test_the_document_names_predictions():
    properties = document(VIDEO)["components"]["schemas"]["RecommendedItem"]["properties"]
    assert {"p_click", "watch_s"} <= properties.keys()
