import json
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace

import pytest

from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.model import Contract
from twinloop.contracts.tally import unpack
from twinloop.errors import NotFoundError, UnavailableError
from twinloop.features.live import apply_events
from twinloop.features.stores import MemoryFeatureStore, MemoryOnlineStore
from twinloop.systems import load as video
from twinloop.systems.moderation import features as moderation
from twinloop.systems.video.features import COUNTING, strength


class Row(Contract):
    event_id: str
    type: str
    time: datetime
    user_id: str
    item_id: str
    rating: float | None = None


VIDEO = SimpleNamespace(
    spec=SimpleNamespace(name="video", history_length=3), tables={"events": Row}, strength=strength, counting=None
)


def load(name: str) -> object:
    if name != "video":
        raise NotFoundError(f"there is no system {name!r}")
    return VIDEO


class Stream:
    """Keeps what it is sent, and refuses lines that name a refused event."""

    def __init__(self, refuse: str = "nothing", system: str = "video") -> None:
        self.lines: list[dict[str, object]] = []
        self._refuse, self._system = refuse, system

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        assert system == self._system
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
        refused = {n for n, line in enumerate(lines) if self._refuse.encode() in line}
        self.lines += [json.loads(line) for n, line in enumerate(lines) if n not in refused]
        return refused


class DownStore(MemoryOnlineStore):
    """Does not answer for one user."""

    def merge(self, system, user_id, entries, *, length=200):
        if user_id == "down":
            raise UnavailableError("the store does not answer; try again")
        return super().merge(system, user_id, entries, length=length)


def body(event_id: str = "1", **changes: object) -> str:
    event = {"event_id": event_id, "type": "like", "time": "2026-01-01T00:00:00Z", "user_id": "u", "item_id": "a"}
    return json.dumps({"system": "video", "event": event | changes})


def test_an_event_reaches_the_history_and_the_stream():
    store, stream = MemoryOnlineStore(), Stream()
    assert apply_events({"m": body(context={"new": "field"})}, load, store, stream) == []
    assert store.history("video", "u") == (HistoryEntry("a", 1_767_225_600_000, 1.0),)
    assert stream.lines[0]["context"] == {"new": "field"}  # unknown columns go on to the lake


def test_epoch_milliseconds_and_offsets_are_times_too():
    store = MemoryOnlineStore()
    messages = {
        "1": body("1", time=1_767_225_600_123, item_id="ms"),
        "2": body("2", time="2026-01-01T01:00:00+01:00", item_id="offset"),
    }
    assert apply_events(messages, load, store, Stream()) == []
    assert [(entry.item_id, entry.time_ms % 1_767_225_600_000) for entry in store.history("video", "u")] == [
        ("offset", 0),
        ("ms", 123),
    ]


def test_delivered_twice_is_delivered_once():
    store = MemoryOnlineStore()
    for _ in range(2):
        apply_events({"1": body(), "2": body()}, load, store, Stream())
    assert len(store.history("video", "u")) == 1


def test_an_impression_says_nothing_but_is_kept():
    store, stream = MemoryOnlineStore(), Stream()
    assert apply_events({"m": body(type="impression")}, load, store, stream) == []
    assert store.history("video", "u") == ()
    assert len(stream.lines) == 1


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("", "this one is not"),
        ("[]", "this one is not"),
        ("null", "this one is not"),
        ('{"system": "video"}', "this one is not"),
        ('{"system": ["video"], "event": {}}', "there is no system"),
        ('{"system": "video", "event": "text"}', "this one is not"),
        ("[" * 100_000, "this one is not"),
        ('{"system": "nothing", "event": {}}', "there is no system 'nothing'"),
        (body(time="yesterday"), "time: "),
        (body(rating="many"), "rating: "),
        (json.dumps({"system": "video", "event": {"event_id": "1"}}), "type: Field required"),
    ],
)
def test_poison_fails_alone_and_says_why(poison, reason, caplog):
    store, stream = MemoryOnlineStore(), Stream()
    assert apply_events({"bad": poison, "good": body()}, load, store, stream) == ["bad"]
    assert len(store.history("video", "u")) == 1
    assert len(stream.lines) == 1
    assert reason in caplog.records[0].reason


def test_an_event_that_cannot_be_stored_fails_alone():
    store = MemoryOnlineStore()
    messages = {"bad": body(user_id="v", item_id="x" * 5000), "good": body()}
    assert apply_events(messages, load, store, Stream()) == ["bad"]
    assert len(store.history("video", "u")) == 1


def test_what_a_store_or_stream_does_not_take_is_delivered_again():
    stream = Stream(refuse='"event_id":"2"')
    messages = {"m1": body("1"), "m2": body("2", item_id="b"), "m3": body("3", user_id="down")}
    assert sorted(apply_events(messages, load, DownStore(), stream)) == ["m2", "m3"]
    assert [line["event_id"] for line in stream.lines] == ["1", "3"]


class BusyStore(MemoryFeatureStore):
    """Notes what happens, in one list with the stream, and has an item too many write to."""

    def __init__(self, busy: str, happened: list[str]) -> None:
        super().__init__()
        self._busy, self._happened = busy, happened

    def merge(self, system, user_id, entries, *, length=200):
        self._happened.append(f"history {user_id}")
        return super().merge(system, user_id, entries, length=length)

    def count(self, system, key, happenings, layout):
        self._happened.append(f"count {key[1]}")
        if key[1] == self._busy:
            raise UnavailableError("too many writers at once; try again")
        return super().count(system, key, happenings, layout)


class NotingStream(Stream):
    def __init__(self, happened: list[str], refuse: str = "nothing") -> None:
        super().__init__(refuse)
        self._happened = happened

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        self._happened.append("raw")
        return super().send(system, lines)


def test_what_cannot_be_counted_is_in_the_lake_all_the_same():
    happened: list[str] = []
    store, stream = BusyStore("hot", happened), NotingStream(happened)
    messages = {"1": body("1", item_id="hot"), "2": body("2", item_id="b")}
    for deliveries in (1, 2):
        assert apply_events(messages, video, store, stream, features=store) == ["1"]
        assert [line["event_id"] for line in stream.lines] == ["1", "2"] * deliveries
    assert happened[:2] == ["raw", "history u"]
    store._busy = ""
    assert apply_events(messages, video, store, stream, features=store) == []
    [user] = store.known("video", [("user", "u")])
    assert len(unpack(user.counters, COUNTING.layout("user")).recent) == 2


def test_a_restoration_dated_back_counts_once_however_many_events_are_younger():
    """Of the author and of the text, neither of whose counters remember it singly."""

    def said(name: str, kind: str, day: int) -> str:
        event = {"event_id": name, "type": kind, "time": f"2026-01-{day:02d}T00:00:00Z"}
        return json.dumps({"system": "moderation", "event": event | {"user_id": "a1", "item_id": "t1"}})

    counting = moderation.COUNTING
    store = MemoryFeatureStore()
    views = {f"v{n}": said(f"v{n}", "view", 20) for n in range(counting.layout("user").memory + 1)}
    assert apply_events(views, video, store, Stream("nothing", "moderation"), features=store) == []
    restored = {"r": said("r", "restoration", 2)}
    for _ in range(3):
        assert apply_events(restored, video, store, Stream("nothing", "moderation"), features=store) == []
    for entity, name in (("user", "a1"), ("item", "t1")):
        [known] = store.known("moderation", [(entity, name)])
        tally = unpack(known.counters, counting.layout(entity))
        spans = {length for length, _ in tally.buckets}
        place = moderation.MEASURES.index("restorations")
        sums = [sum(of[place] for (length, _), of in tally.buckets.items() if length == span) for span in spans]
        assert sums == [1] * len(spans)


def test_what_the_stream_does_not_take_is_counted_when_it_comes_again():
    happened: list[str] = []
    store, stream = BusyStore("", happened), NotingStream(happened, refuse='"event_id":"1"')
    messages = {"1": body("1", item_id="a"), "2": body("2", item_id="b")}
    assert apply_events(messages, video, store, stream, features=store) == ["1"]
    assert "count a" not in happened
    assert "count b" in happened
    assert [entry.item_id for entry in store.history("video", "u")] == ["b"]


def test_a_system_that_counts_nothing_needs_no_counters():
    happened: list[str] = []
    store, stream = BusyStore("a", happened), NotingStream(happened)
    assert apply_events({"1": body("1")}, load, store, stream, features=store) == []
    assert happened == ["raw", "history u"]


def test_what_no_history_takes_is_not_counted_before_it_comes_again():
    happened: list[str] = []

    class Down(BusyStore):
        def merge(self, system, user_id, entries, *, length=200):
            raise UnavailableError("the store does not answer; try again")

    stream = NotingStream(happened)
    store = Down("", happened)
    assert apply_events({"1": body("1")}, video, store, stream, features=store) == ["1"]
    assert happened == ["raw"]


def test_a_message_fails_once_whatever_went_wrong_with_it():
    happened: list[str] = []
    store = BusyStore("a", happened)
    messages = {str(n): body(str(n), item_id="a" if n % 2 else "b") for n in range(6)}
    failed = apply_events(messages, video, store, NotingStream(happened, refuse='"event_id":"1"'), features=store)
    assert sorted(failed) == ["1", "3", "5"]


def test_an_event_of_no_item_is_for_the_lake_alone():
    class Search(Row):
        item_id: str | None = None

    searches = SimpleNamespace(spec=VIDEO.spec, tables={"events": Search}, strength=strength, counting=COUNTING)
    store, stream = MemoryOnlineStore(), Stream()
    event = {"event_id": "e", "type": "rating", "time": "2025-06-01T00:00:00Z", "user_id": "u", "rating": 5}
    body = json.dumps({"system": "video", "event": event})
    assert apply_events({"m": body}, lambda name: searches, store, stream, features=MemoryFeatureStore()) == []
    assert stream.lines == [event]
    assert store.history("video", "u") == ()
