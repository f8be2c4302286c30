"""Every FeatureStore keeps the same promises, beside those of an OnlineStore."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from twinloop import systems
from twinloop.aws import serving
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.records import PATIENT
from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.tally import HOUR_MS, Happening, Layout, Tally, add, identity, unpack
from twinloop.errors import BadInputError, IntegrityError, UnavailableError
from twinloop.features.stores import FeatureStore, Known, MemoryFeatureStore

LAYOUT = Layout(1, 0, 4, ((HOUR_MS, 24),), identity(["clicks"]))
USER = ("user", "u")


def click(number: int) -> Happening:
    return Happening(number * 1000, number, (1,))


def counted(store: FeatureStore, key: tuple[str, str] = USER) -> int:
    """How many events the store's counters hold."""
    [known] = store.known("video", [key])
    if not known.counters:
        return 0
    tally = unpack(known.counters, LAYOUT)
    return len(tally.recent) + sum(sums[0] for sums in tally.buckets.values())


@pytest.fixture(params=["memory", "dynamodb"])
def store(request: pytest.FixtureRequest) -> FeatureStore:
    if request.param == "memory":
        return MemoryFeatureStore()
    return DynamoFeatureStore("twinloop", request.getfixturevalue("dynamodb"))


def test_nothing_is_known_of_strangers(store: FeatureStore):
    assert store.known("video", [USER, ("item", "a")]) == [Known(), Known()]
    assert store.recall("video", "u", ["a"]) == ((), Known(), {"a": Known()})


def test_events_are_counted_once(store: FeatureStore):
    for batch in ([click(1), click(2)], [click(2), click(3)], [click(1)]):
        store.count("video", USER, batch, LAYOUT)
    assert counted(store) == 3
    for _ in range(2):
        store.count("video", USER, [click(n) for n in range(4, 8)], LAYOUT)
    assert counted(store) == 7


def test_an_event_that_comes_late_is_counted_once(store: FeatureStore):
    """Older than all that counters remember, as a restoration that is dated back to its violation."""
    store.count("video", USER, [click(n) for n in range(100, 108)], LAYOUT)
    for batch in ([click(3)], [click(3), click(4)], [click(4), click(109)], [click(3), click(3)]):
        store.count("video", USER, batch, LAYOUT)
    assert counted(store) == 11
    lake = add(Tally(), [click(n) for n in (3, 4, *range(100, 108))], LAYOUT)
    store.settle("video", USER, lake, {}, LAYOUT)
    store.count("video", USER, [click(4)], LAYOUT)
    assert counted(store) == 11
    [known] = store.known("video", [USER])
    assert known.late == (3, 4)


def test_of_those_that_came_late_the_last_are_known(store: FeatureStore):
    store.count("video", USER, [click(n) for n in range(100, 104)], LAYOUT)
    store.count("video", USER, [click(n) for n in range(80)], LAYOUT)
    for again in (click(79), click(16)):
        store.count("video", USER, [again], LAYOUT)
    assert counted(store) == 84
    store.count("video", USER, [click(15)], LAYOUT)
    assert counted(store) == 85  # nobody knows of it any more
    other = LAYOUT._replace(identity=identity(["watches"]))
    known = store.count("video", USER, [click(79)], other)
    assert (len(unpack(known.counters, other).recent), known.late) == (1, ())


def test_systems_kinds_and_ids_are_apart(store: FeatureStore):
    for system, key in (("video", USER), ("ads", USER), ("video", ("item", "u")), ("video", ("user", "u#2"))):
        store.count(system, key, [click(1)], LAYOUT)
    assert counted(store) == counted(store, ("item", "u")) == counted(store, ("user", "u#2")) == 1


def test_a_request_is_told_everything_at_once(store: FeatureStore):
    store.merge("video", "u", [HistoryEntry("a", 1, 1.0)])
    user = store.count("video", USER, [click(1)], LAYOUT)
    store.settle("video", ("item", "a"), Tally(), {"author_id": "x", "duration_s": 2.5}, LAYOUT)
    recalled = store.recall("video", "u", ["a", "b", "a"])
    assert recalled.history == (HistoryEntry("a", 1, 1.0),)
    assert recalled.user == user
    assert recalled.items == {"a": Known(b"", {"author_id": "x", "duration_s": 2.5}), "b": Known()}


def test_more_items_than_one_call_may_name(store: FeatureStore):
    for n in range(0, 250, 50):
        store.count("video", ("item", f"i{n}"), [click(n)], LAYOUT)
    recalled = store.recall("video", "u", [f"i{n}" for n in range(250)])
    assert [name for name, known in recalled.items.items() if known.counters] == [f"i{n}" for n in range(0, 250, 50)]


def test_counting_leaves_attributes_and_history_alone(store: FeatureStore):
    store.merge("video", "u", [HistoryEntry("a", 1, 1.0)])
    store.settle("video", USER, Tally(), {"registered_ms": 5}, LAYOUT)
    assert store.count("video", USER, [click(1)], LAYOUT).attributes == {"registered_ms": 5}
    assert store.history("video", "u") == (HistoryEntry("a", 1, 1.0),)


def test_the_lake_settles_what_live_events_began(store: FeatureStore):
    store.count("video", USER, [click(9), click(2)], LAYOUT)  # 9 has not reached the lake yet
    lake = add(Tally(), [click(n) for n in range(1, 7)], LAYOUT)
    for _ in range(2):
        store.settle("video", USER, lake, {"registered_ms": 5}, LAYOUT)
        assert counted(store) == 7
    assert store.known("video", [USER])[0].attributes == {"registered_ms": 5}


def test_counters_of_other_measures_are_begun_anew(store: FeatureStore):
    store.count("video", USER, [click(1)], LAYOUT)
    other = LAYOUT._replace(identity=identity(["watches"]))
    known = store.count("video", USER, [click(1)], other)
    assert len(unpack(known.counters, other).recent) == 1


def test_an_impossible_event_is_refused_and_nothing_is_lost(store: FeatureStore):
    store.count("video", USER, [click(1)], LAYOUT)
    with pytest.raises(BadInputError):
        store.count("video", USER, [Happening(2, 2, (2**40,))], LAYOUT)
    assert counted(store) == 1


def test_writers_at_once_lose_and_double_nothing(store: FeatureStore):
    start, errors = threading.Barrier(5), []

    def writer(number: int) -> None:
        start.wait()
        try:
            for step in range(4):
                store.count("video", USER, [click(step), click(100 + 10 * number + step)], LAYOUT._replace(memory=64))
        except Exception as error:  # noqa: BLE001  handed to the main thread
            errors.append(error)

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert counted(store) == 24


@pytest.mark.parametrize("user_id", ["", "x" * 3000, "\ud800"])
def test_an_impossible_id_is_refused(store: FeatureStore, user_id: str):
    with pytest.raises(BadInputError):
        store.recall("video", user_id)
    with pytest.raises(BadInputError):
        store.known("video", [USER, ("item", user_id)])


class Counted:
    """A DynamoDB client that counts calls, and leaves keys of the first batches undone."""

    def __init__(self, client: object, undone: int = 0) -> None:
        self._client, self._undone, self.calls = client, undone, []

    def batch_get_item(self, RequestItems):
        self.calls.append("batch_get_item")
        answer = self._client.batch_get_item(RequestItems=RequestItems)
        if self._undone:
            self._undone -= 1
            [(table, asked)] = RequestItems.items()
            last = asked["Keys"][-1]
            answer["UnprocessedKeys"] = {table: {"Keys": [last]}}
            answer["Responses"][table] = [
                item for item in answer["Responses"][table] if {name: item[name] for name in last} != last
            ]
        return answer

    def __getattr__(self, name: str) -> Callable[..., object]:
        self.calls.append(name)
        return getattr(self._client, name)


def test_a_request_reads_in_one_call(dynamodb):
    store = DynamoFeatureStore("twinloop", dynamodb)
    store.count("video", USER, [click(1)], LAYOUT)
    client = Counted(dynamodb)
    recalled = DynamoFeatureStore("twinloop", client).recall("video", "u", [f"i{n}" for n in range(98)])
    assert client.calls == ["batch_get_item"]
    assert recalled.user.counters


def test_what_dynamodb_was_too_busy_for_is_asked_again(dynamodb, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("twinloop.aws.records.time.sleep", lambda _: None)
    store = DynamoFeatureStore("twinloop", dynamodb)
    for n in range(3):
        store.count("video", ("item", f"i{n}"), [click(n)], LAYOUT)
    client = Counted(dynamodb, undone=2)
    recalled = DynamoFeatureStore("twinloop", client).recall("video", "u", ["i0", "i1", "i2"])
    assert all(known.counters for known in recalled.items.values())
    with pytest.raises(UnavailableError, match="too busy"):
        DynamoFeatureStore("twinloop", Counted(dynamodb, undone=100)).recall("video", "u", ["i0"])


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_who_has_no_time_asks_only_so_often(dynamodb, monkeypatch: pytest.MonkeyPatch, attempts: int):
    waited: list[float] = []
    monkeypatch.setattr("twinloop.aws.records.time.sleep", waited.append)
    client = Counted(dynamodb, undone=100)
    with pytest.raises(UnavailableError, match="too busy"):
        DynamoFeatureStore("twinloop", client, attempts=attempts).recall("video", "u", ["i0"])
    assert client.calls == ["batch_get_item"] * attempts
    assert len(waited) == attempts - 1
    answered = Counted(dynamodb, undone=attempts - 1)
    assert DynamoFeatureStore("twinloop", answered, attempts=attempts).known("video", [USER]) == [Known()]


def test_serving_has_no_time_and_others_have(dynamodb, monkeypatch: pytest.MonkeyPatch):
    made: dict[str, Any] = {}
    client = Counted(dynamodb, undone=100)
    monkeypatch.setattr("twinloop.aws.records.time.sleep", lambda _: None)
    monkeypatch.setattr(serving, "quick_client", lambda _: client)
    monkeypatch.setattr(serving, "make_app", lambda *_, **more: made.update(more))
    serving.serving_app(serving.ServeSettings("video", "data", "twinloop"), systems.load, logging.getLogger())
    for store, attempts in ((made["features"], 2), (DynamoFeatureStore("twinloop", client), PATIENT)):
        client.calls.clear()
        with pytest.raises(UnavailableError, match="too busy"):
            store.known("video", [USER])
        assert len(client.calls) == attempts


def test_an_item_that_does_not_say_when_it_expires_never_does(dynamodb):
    store = DynamoFeatureStore("twinloop", dynamodb)
    store.count("video", USER, [click(1)], LAYOUT)
    key = {"pk": {"S": "video#user#u"}, "sk": {"S": "features"}}
    item = dynamodb.get_item(TableName="twinloop", Key=key)["Item"]
    del item["expires_at"]
    dynamodb.put_item(TableName="twinloop", Item=item)
    assert counted(store) == 1


DAMAGES = {
    "no data": {"data": None},
    "data of another type": {"data": {"S": "text"}},
    "no attributes": {"attributes": None},
    "attributes of another type": {"attributes": {"N": "1"}},
    "attributes cut off": {"attributes": {"S": '{"author_id": "x'}},
    "attributes that are no object": {"attributes": {"S": "[1]"}},
    "attributes in attributes": {"attributes": {"S": '{"author_id": {"a": 1}}'}},
    "late events of another type": {"late": {"S": "text"}},
    "late events cut off": {"late": {"B": b"1234567"}},
    "attributes too deep": {"attributes": {"S": "[" * 100_000}},
}


def damage(dynamodb: Any, partition: str, sort: str, changes: dict[str, Any]) -> None:
    key = {"pk": {"S": partition}, "sk": {"S": sort}}
    item = dynamodb.get_item(TableName="twinloop", Key=key)["Item"] | changes
    whole = {name: value for name, value in item.items() if value is not None}
    dynamodb.put_item(TableName="twinloop", Item=whole)


@pytest.mark.parametrize("changes", DAMAGES.values(), ids=DAMAGES)
def test_a_record_that_cannot_be_read_costs_that_record(dynamodb, changes: dict[str, Any]):
    store = DynamoFeatureStore("twinloop", dynamodb)
    store.merge("video", "u", [HistoryEntry("a", 1, 1.0)])
    for key in (USER, ("item", "a"), ("item", "b")):
        store.count("video", key, [click(1)], LAYOUT)
    damage(dynamodb, "video#item#a", "features", changes)
    recalled = store.recall("video", "u", ["a", "b"])
    bad, good = store.known("video", [("item", "a"), ("item", "b")])
    assert (recalled.items["a"], recalled.items["b"]) == (bad, good)
    assert len(recalled.history) == len(unpack(good.counters, LAYOUT).recent) == 1
    with pytest.raises(IntegrityError):
        unpack(bad.counters, LAYOUT)
    for write in (
        lambda: store.count("video", ("item", "a"), [click(2)], LAYOUT),
        lambda: store.settle("video", ("item", "a"), Tally(), {}, LAYOUT),
    ):
        with pytest.raises(IntegrityError, match=r"video#item#a.*delete it"):
            write()


@pytest.mark.parametrize("changes", [{"data": None}, {"data": {"S": "text"}}, {"data": {"B": b""}}])
def test_a_history_that_cannot_be_read_is_an_error_of_ours(dynamodb, changes: dict[str, Any]):
    store = DynamoFeatureStore("twinloop", dynamodb)
    store.merge("video", "u", [HistoryEntry("a", 1, 1.0)])
    damage(dynamodb, "video#user#u", "history", changes)
    for read in (
        lambda: store.history("video", "u"),
        lambda: store.recall("video", "u"),
        lambda: store.merge("video", "u", [HistoryEntry("b", 2, 1.0)]),
    ):
        with pytest.raises(IntegrityError):
            read()


@pytest.mark.parametrize("revision", [None, {"S": "one"}])
def test_a_record_without_a_revision_is_an_error_of_ours(dynamodb, revision: object):
    store = DynamoFeatureStore("twinloop", dynamodb)
    store.merge("video", "u", [HistoryEntry("a", 1, 1.0)])
    damage(dynamodb, "video#user#u", "history", {"revision": revision})
    with pytest.raises(IntegrityError, match="revision"):
        store.history("video", "u")


def test_an_expired_item_reads_as_nothing(dynamodb):
    DynamoFeatureStore("twinloop", dynamodb, clock=lambda: 1000.0).count("video", USER, [click(1)], LAYOUT)
    late = DynamoFeatureStore("twinloop", dynamodb, clock=lambda: 1000.0 + 401 * 86_400)
    assert late.known("video", [USER]) == [Known()]
    late.count("video", USER, [click(2)], LAYOUT)
    assert counted(late) == 1


def test_bytes_of_another_version_are_an_error_with_a_way_out(dynamodb):
    store = DynamoFeatureStore("twinloop", dynamodb)
    store.count("video", USER, [click(1)], LAYOUT)
    key = {"pk": {"S": "video#user#u"}, "sk": {"S": "features"}}
    item = dynamodb.get_item(TableName="twinloop", Key=key)["Item"]
    dynamodb.put_item(TableName="twinloop", Item=item | {"data": {"B": b"\x09" + item["data"]["B"][1:]}})
    with pytest.raises(IntegrityError, match="version 9"):
        store.count("video", USER, [click(2)], LAYOUT)


def test_a_missing_table_is_unavailable(dynamodb):
    with pytest.raises(UnavailableError):
        DynamoFeatureStore("nowhere", dynamodb).recall("video", "u")
