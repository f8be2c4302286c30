"""Every OnlineStore keeps the same promises."""

import threading
from collections.abc import Callable

import pytest

from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError, IntegrityError, UnavailableError
from twinloop.features.stores import MemoryOnlineStore, OnlineStore

A, B, C = HistoryEntry("a", 1, 1.0), HistoryEntry("b", 2, 0.0), HistoryEntry("c", 3, 1.0)


@pytest.fixture(params=["memory", "dynamodb"])
def store(request: pytest.FixtureRequest) -> OnlineStore:
    if request.param == "memory":
        return MemoryOnlineStore()
    return DynamoOnlineStore("twinloop", request.getfixturevalue("dynamodb"))


def test_nothing_is_known_of_an_unknown_user(store: OnlineStore):
    assert store.history("video", "nobody") == ()


def test_merged_entries_come_back_oldest_first(store: OnlineStore):
    assert store.merge("video", "u", [C, A]) == (A, C)
    assert store.merge("video", "u", [B]) == (A, B, C)
    assert store.history("video", "u") == (A, B, C)


def test_the_same_again_changes_nothing(store: OnlineStore):
    for _ in range(3):
        store.merge("video", "u", [B, A, A])
    assert store.history("video", "u") == (A, B)


def test_only_the_latest_are_kept(store: OnlineStore):
    assert store.merge("video", "u", [A, B, C], length=2) == (B, C)
    assert store.merge("video", "u", [A], length=2) == (B, C)


def test_of_a_history_too_big_for_an_item_the_latest_are_kept_and_others_are_not_held_up(store: OnlineStore):
    long = [HistoryEntry("ü" * 400 + str(place), place, 1.0) for place in range(1000)]
    store.merge_many("video", {"a": long, "b": long[:1]}, length=1000)
    kept = store.history("video", "a")
    assert 0 < len(kept) < 1000
    assert kept == tuple(long[-len(kept) :])
    assert store.history("video", "b") == tuple(long[:1])


def test_systems_and_users_are_apart(store: OnlineStore):
    store.merge("video", "u", [A])
    store.merge("ads", "u", [B])
    store.merge("video", "u#2", [C])
    assert store.history("video", "u") == (A,)
    assert store.history("ads", "u") == (B,)
    assert store.history("video", "u#2") == (C,)


def test_many_users_are_merged_not_overwritten(store: OnlineStore):
    store.merge("video", "u0", [C])
    store.merge_many("video", {f"u{n}": [A, B] for n in range(40)})
    assert store.history("video", "u0") == (A, B, C)
    assert store.history("video", "u39") == (A, B)


@pytest.mark.parametrize("user_id", ["", "x" * 3000, "\ud800"])
def test_an_impossible_user_is_refused_by_dynamodb(dynamodb, user_id: str):
    with pytest.raises(BadInputError):
        DynamoOnlineStore("twinloop", dynamodb).merge("video", user_id, [A])


@pytest.mark.parametrize(
    "entry", [HistoryEntry("", 1, 1.0), HistoryEntry("x" * 2000, 1, 1.0), HistoryEntry("a", 2**63, 1.0)]
)
def test_an_impossible_entry_is_refused_and_nothing_is_lost(store: OnlineStore, entry: HistoryEntry):
    store.merge("video", "u", [A])
    with pytest.raises(BadInputError):
        store.merge("video", "u", [entry])
    assert store.history("video", "u") == (A,)


def test_writers_at_once_lose_nothing(store: OnlineStore):
    start = threading.Barrier(6)
    errors: list[Exception] = []

    def writer(number: int) -> None:
        start.wait()
        try:
            for step in range(4):
                store.merge("video", "u", [HistoryEntry(f"w{number}", step, 1.0)])
        except Exception as error:  # noqa: BLE001  handed to the main thread
            errors.append(error)

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(store.history("video", "u")) == 24


class Interrupted:
    """A DynamoDB client on which somebody else writes between a read and the write that follows it."""

    def __init__(self, client: object, meddle: Callable[[], None], times: int) -> None:
        self._client, self._meddle, self._times = client, meddle, times

    def get_item(self, **request: object) -> object:
        answer = self._client.get_item(**request)
        if self._times:
            self._times -= 1
            self._meddle()
        return answer

    def put_item(self, **request: object) -> object:
        return self._client.put_item(**request)


def test_a_lost_race_is_run_again(dynamodb):
    other = DynamoOnlineStore("twinloop", dynamodb)
    entries = iter([B, C])
    interrupted = Interrupted(dynamodb, lambda: other.merge("video", "u", [next(entries)]), times=2)
    assert DynamoOnlineStore("twinloop", interrupted).merge("video", "u", [A]) == (A, B, C)


def test_a_race_lost_for_ever_says_try_again(dynamodb, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("twinloop.aws.online_store.time.sleep", lambda _: None)
    other = DynamoOnlineStore("twinloop", dynamodb)
    numbers = iter(range(100))
    interrupted = Interrupted(
        dynamodb, lambda: other.merge("video", "u", [HistoryEntry("x", next(numbers), 0.0)]), times=100
    )
    with pytest.raises(UnavailableError, match="try again"):
        DynamoOnlineStore("twinloop", interrupted).merge("video", "u", [HistoryEntry("mine", 1000, 1.0)])


def test_an_expired_item_reads_as_nothing_and_can_be_written_over(dynamodb):
    DynamoOnlineStore("twinloop", dynamodb, clock=lambda: 1000.0).merge("video", "u", [A])
    late = DynamoOnlineStore("twinloop", dynamodb, clock=lambda: 1000.0 + 401 * 86_400)
    assert late.history("video", "u") == ()
    assert late.merge("video", "u", [B]) == (B,)


def test_bytes_of_another_version_are_an_error_with_a_way_out(dynamodb):
    store = DynamoOnlineStore("twinloop", dynamodb)
    store.merge("video", "u", [A])
    item = dynamodb.get_item(TableName="twinloop", Key={"pk": {"S": "video#user#u"}, "sk": {"S": "history"}})["Item"]
    item["data"] = {"B": b"\x09" + item["data"]["B"][1:]}
    dynamodb.put_item(TableName="twinloop", Item=item)
    with pytest.raises(IntegrityError, match="version 9"):
        store.history("video", "u")


def test_a_missing_table_is_unavailable(dynamodb):
    with pytest.raises(UnavailableError):
        DynamoOnlineStore("nowhere", dynamodb).history("video", "u")
