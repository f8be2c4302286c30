"""Releases that ask what is known read it once, from the store or from memory, and answer without it; others do not."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import tiny_system
from engaged import DAY, NOW_MS, files, item, schema_of, shown
from tiny_models import video_files

from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.contracts.history import HistoryEntry, pack
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

    def __init__(self, parts: Any = None, *, features: bool = True, alias: str = "champion", store: Any = None) -> None:
        self.objects, self.store, self.lines = MemoryObjectStore(), Store(), Lines()
        self.store.merge("video", "u", [HistoryEntry("i2", 1000, 1.0)])
        for n in range(6):
            known = item(10 * n, duration_s=100.0 - 10 * n, key=n)
            self.store._known["video", "item", f"i{n}"] = known
        self.store.count("video", ("user", "u"), shown(3, clicks=1, key=9, author="x"), COUNTING.layout("user"))
        self.add(parts or files(), alias)
        self.app = make_app(
            VIDEO,
            self.objects,
            store or self.store,
            self.lines,
            features=(store or self.store) if features else None,
            look_every_s=0,
            now=lambda: datetime.fromtimestamp(NOW_MS / 1000, UTC),
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
    found = [(said["item_id"], said["watch_s"], said["p_click"]) for said in answer["items"]]
    if isinstance(error, UnavailableError):  # a store that is away is not asked for items either
        assert found == [(f"i{n}", 0, 0.5) for n in range(6)]
    else:
        clicks = [1 / (1 + math.exp(-n)) for n in range(6)]  # of 10 n impressions, see engaged.py
        assert found == [(f"i{n}", 100 - 10 * n, pytest.approx(click)) for n, click in enumerate(clicks)]


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
    answers = [house.ask() for _ in range(3)]  # what is kept between them must not pass for known
    assert [answer["degraded"] for answer in answers] == [True] * 3
    assert [answer["cold"] for answer in answers] == [False] * 3
    seconds = [{said["item_id"]: said["watch_s"] for said in answer["items"]} for answer in answers]
    assert seconds == [{f"i{n}": 100 - 10 * n for n in (0, 1, 3, 4, 5)}] * 3  # attributes are there, as of the others
    if damage == "items":
        assert house.store.calls[1::2] == [("known", 5), ("known", 1), ("known", 1)]  # the others are kept


class Table:
    """DynamoDB's answers to a request, from items as they lie there."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}

    def put(self, partition: str, sort: str, **attributes: Any) -> None:
        place = {"pk": {"S": partition}, "sk": {"S": sort}}
        self.items[partition, sort] = {**place, "revision": {"N": "1"}, **attributes}

    def batch_get_item(self, RequestItems: Any) -> Any:
        [(table, asked)] = RequestItems.items()
        places = [(key["pk"]["S"], key["sk"]["S"]) for key in asked["Keys"]]
        return {"Responses": {table: [self.items[place] for place in places if place in self.items]}}


def dynamo_house() -> tuple[House, Table]:
    """The same house on a table."""
    table = Table()
    house = House(store=DynamoFeatureStore("t", table))
    for (system, entity, name), known in house.store._known.items():
        attributes = {"S": json.dumps(known.attributes)}
        table.put(f"{system}#{entity}#{name}", "features", data={"B": known.counters}, attributes=attributes)
    history = pack(MemoryFeatureStore.history(house.store, "video", "u"))
    table.put("video#user#u", "history", data={"B": history})
    return house, table


@pytest.mark.parametrize("gone", ["data", "attributes", "wrong attributes"])
@pytest.mark.parametrize("place", [("video#item#i3", "features"), ("video#user#u", "features")])
def test_a_record_in_the_table_that_cannot_be_read_degrades_and_no_more(place, gone):
    house, table = dynamo_house()
    assert not house.ask()["degraded"]
    house, table = dynamo_house()
    if gone == "wrong attributes":
        table.items[place]["attributes"] = {"S": "{no json"}
    else:
        del table.items[place][gone]
    for answer in (house.ask(), house.ask()):  # `ask` holds that it is a 200
        assert answer["degraded"]
        assert not answer["cold"]
        seconds = {said["item_id"]: said["watch_s"] for said in answer["items"]}
        lost = {"i3": 0} if "item" in place[0] else {}
        assert seconds == {f"i{n}": 100 - 10 * n for n in (0, 1, 3, 4, 5)} | lost


def test_a_history_in_the_table_that_cannot_be_read_degrades_and_no_more():
    house, table = dynamo_house()
    del table.items["video#user#u", "history"]["data"]
    answer = house.ask()
    assert answer["degraded"]
    assert answer["cold"]


def test_a_request_about_the_past_neither_sees_the_present_nor_is_kept_for_it():
    house = House()
    present = house.ask()
    past = house.ask(time_ms=NOW_MS - 30 * DAY)
    assert all(said["p_click"] == 0.5 for said in past["items"])  # nothing had been shown yet
    assert [house.ask()["items"], house.ask(time_ms=None)["items"]] == [present["items"]] * 2
    assert [what for what, _ in house.store.calls] == ["recall", "known", "recall", "known", "recall", "recall"]


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
