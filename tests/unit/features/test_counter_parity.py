"""Features of counters: offline as of a moment and online just before it are the same numbers, and the definition's."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import duckdb
import kuairand
import pytest
from both_ways import SYSTEM, Row, ask, know_attributes, offline, replay, send
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.tally import key_of
from twinloop.features.stores import MemoryFeatureStore
from twinloop.systems.video.features import COUNTING

HOUR, DAY = 3_600_000, 86_400_000
START = 1_650_844_800_000  # a midnight
NAMES = [feature.name for feature in COUNTING.features if feature.source != "history"]
# So few are remembered that most windows reach past them.
FORGETFUL = dataclasses.replace(COUNTING, memory={"user": 4, "item": 2})

ITEMS = [
    {"item_id": "a", "author_id": "x", "tags": ["t", "s"], "duration_s": 10.0, "published_ms": START - 5 * DAY},
    {"item_id": "b", "author_id": "x", "tags": ["s"], "duration_s": None, "published_ms": START + DAY},
    {"item_id": "c", "author_id": "y", "tags": [], "duration_s": 3.5, "published_ms": None},
    {"item_id": "d", "author_id": None, "tags": None, "duration_s": 7.0, "published_ms": START},
]
USERS = [{"user_id": "u", "extra": f'{{"registered_ms": {START - 40 * DAY}}}'}, {"user_id": "v", "extra": '{"x": 1}'}]

times = st.one_of(
    st.integers(0, 20).map(lambda n: START + n * HOUR),  # ties, and edges of buckets
    st.integers(0, 45 * DAY).map(lambda n: START + n),
)
users, items = st.sampled_from(["u", "v"]), st.sampled_from(["a", "b", "c", "d", "nobody's"])
seconds = st.none() | st.sampled_from([0.0, 0.0005, 2.5, 29.9995, 30.0]) | st.floats(0, 5000, allow_nan=False)
kinds = st.sampled_from(["impression", "impression", "click", "watch", "watch", "like", "hide", "rating"])
ratings = st.none() | st.sampled_from([1.0, 4.0])
event_rows = st.lists(st.tuples(kinds, times, users, items, seconds, seconds, ratings), max_size=30)
label_rows = st.lists(st.tuples(users, items, times), min_size=1, max_size=6)


def events_of(rows: Sequence[tuple[Any, ...]]) -> list[Row]:
    names = ("type", "time_ms", "user_id", "item_id", "watch_s", "duration_s", "rating")
    return [{"event_id": f"e{n}"} | dict(zip(names, row, strict=True)) for n, row in enumerate(rows)]


def labels_of(rows: Sequence[tuple[str, str, int]]) -> list[Row]:
    return [dict(zip(("user_id", "item_id", "time_ms"), row, strict=True)) for row in rows]


def facts(table: Sequence[dict[str, Any]], key: str, entity_id: str) -> dict[str, Any]:
    return next((dict(row) for row in table if row[key] == entity_id), {})


def shared(attribute: str, item_id: str) -> str | None:
    """What an item has of what two items can have in common."""
    item = facts(ITEMS, "item_id", item_id)
    return {"item_id": item_id, "author_id": item.get("author_id"), "tag": (item.get("tags") or [None])[0]}[attribute]


def attribute(label: Row, feature: Feature) -> float:
    known = {"registered_ms": START - 40 * DAY} if label["user_id"] == "u" else {}
    value = (facts(ITEMS, "item_id", label["item_id"]) if feature.entity == "item" else known).get(feature.attribute)
    if value is None:
        return feature.default
    return max(label["time_ms"] - value, 0) / DAY if feature.kind == "age" else value


def oracle(counting: Counting, events: Sequence[Row], label: Row, feature: Feature) -> float:
    """The definition, by the letter and without any cleverness."""
    if feature.source == "attributes":
        return attribute(label, feature)
    at = label["time_ms"]
    entity = "item_id" if feature.entity == "item" else "user_id"
    mine = [e for e in events if e[entity] == label[entity] and e["time_ms"] < at and any(counting.amounts(e))]
    mine.sort(key=lambda e: (e["time_ms"], key_of(e["event_id"])))
    if not mine or mine[-1]["time_ms"] < at - feature.time_to_live_days * DAY:
        return feature.default

    def sum_of(measure: str, rows: Sequence[Row]) -> int:
        return sum(counting.amounts(row)[counting.measures.index(measure)] for row in rows)

    if feature.entity == "user_item":
        mine = mine[-counting.memory["user"] :]
    inside = mine
    if feature.window_days is not None:
        length = HOUR if feature.window_days <= 2 else DAY
        start = (at // length - feature.window_days * DAY // length) * length
        inside = [e for e in mine if e["time_ms"] >= start]
    same = inside
    if feature.entity == "user_item":
        wanted = shared(feature.attribute, label["item_id"])
        same = [e for e in inside if wanted is not None and shared(feature.attribute, e["item_id"]) == wanted]
    if feature.kind == "recency":
        rows = [e["time_ms"] for e in same if sum_of(feature.of, [e])]
        return (at - max(rows)) / DAY if rows else feature.default
    above = sum_of(feature.of, same)
    if feature.kind == "total":
        return above * feature.scale
    below = sum_of(feature.of, inside) if feature.kind == "share" else sum_of(feature.per, same)
    if below + feature.weight == 0:
        return feature.default
    return (above + feature.prior * feature.weight) / (below + feature.weight)


@settings(max_examples=40)
@given(event_rows, label_rows, st.booleans())
def test_both_are_the_definition_just_before_every_moment(rows, asked, forgetful):
    counting = FORGETFUL if forgetful else COUNTING
    events, labels = events_of(rows), labels_of(asked)
    found = offline(counting, events, ITEMS, USERS, labels)
    online = replay(counting, events, ITEMS, USERS, labels)
    for label, row, answer in zip(labels, found, online, strict=True):
        for feature in counting.features:
            if feature.source != "history":
                expected = oracle(counting, events, label, feature)
                assert row[feature.name] == expected, f"offline: {feature.name}"
                assert answer[feature.name] == expected, f"online: {feature.name}"


@settings(max_examples=40)
@given(event_rows, st.integers(0, 3), st.randoms(use_true_random=False), st.sampled_from([1, 3, 50]))
def test_late_doubled_and_disordered_events_end_in_the_same_values(rows, again, draw, batch):
    """Within what is remembered: every event comes one time or more, in any order, in batches of any size."""
    events = events_of(rows)
    delivered = events * (again + 1)
    draw.shuffle(delivered)
    end = START + 46 * DAY
    labels = [{"user_id": user, "item_id": item["item_id"], "time_ms": end} for user in "uv" for item in ITEMS]
    labels += [label | {"time_ms": START + 2 * HOUR} for label in labels] if len(events) <= 30 else []
    store = MemoryFeatureStore()
    know_attributes(store, COUNTING, ITEMS, USERS)
    for first in range(0, len(delivered), batch):
        send(store, COUNTING, delivered[first : first + batch])
    found = offline(COUNTING, events, ITEMS, USERS, labels)
    for label, row in zip(labels, found, strict=True):
        assert ask(store, COUNTING, label) == {name: row[name] for name in NAMES}


@settings(max_examples=40)
@given(event_rows, st.randoms(use_true_random=False))
def test_late_events_past_what_is_remembered_end_in_the_same_values(rows, draw):
    events = events_of(rows)
    delivered = list(events)
    draw.shuffle(delivered)
    store = MemoryFeatureStore()
    know_attributes(store, FORGETFUL, ITEMS, USERS)
    for event in delivered:
        send(store, FORGETFUL, [event])
    end = max((event["time_ms"] for event in events), default=START) + 1
    labels = [{"user_id": user, "item_id": item["item_id"], "time_ms": end} for user in "uv" for item in ITEMS]
    found = offline(FORGETFUL, events, ITEMS, USERS, labels)
    for label, row in zip(labels, found, strict=True):
        assert ask(store, FORGETFUL, label) == {name: row[name] for name in NAMES}


def real(impressions: int) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """All events of the most active users and of the most shown videos, items, users, and impressions as labels."""
    with duckdb.connect() as connection:
        source = kuairand.EVENTS.format(folder=kuairand.FOLDER)
        connection.execute(
            f"CREATE TABLE events AS SELECT * RENAME (time AS time_ms), NULL AS rating FROM ({source})"  # noqa: S608
        )
        connection.execute(f"CREATE TABLE items AS {kuairand.ITEMS.format(folder=kuairand.FOLDER)}")
        connection.execute(f"CREATE TABLE users AS {kuairand.USERS.format(folder=kuairand.FOLDER)}")
        most = "SELECT {0} FROM events WHERE type = 'impression' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {1}"
        connection.execute(f"CREATE TABLE hot AS {most.format('item_id', 8)}")
        connection.execute(f"CREATE TABLE busy AS {most.format('user_id', 150)}")

        def rows(query: str) -> list[Row]:
            return list(connection.sql(query).to_arrow_table().to_pylist())

        events = rows("FROM events WHERE item_id IN (FROM hot) OR user_id IN (FROM busy) ORDER BY time_ms, event_id")
        items = rows("SELECT * RENAME (published_at AS published_ms) FROM items")
        users = rows("SELECT user_id, json_object('registered_ms', registered_ms)::VARCHAR AS extra FROM users")
    asked = [event for event in events if event["type"] == "impression"]
    step = max(len(asked) // impressions, 1)
    labels = [{name: row[name] for name in ("user_id", "item_id", "time_ms")} for row in asked[::step]]
    return events, items, users, labels


@pytest.mark.slow
@pytest.mark.skipif(not kuairand.FOLDER.exists(), reason=kuairand.MISSING)
@pytest.mark.parametrize("counting", [COUNTING, FORGETFUL], ids=["as deployed", "forgetful"])
def test_real_events_replayed_give_online_what_the_lake_gives_offline(counting):
    events, items, people, labels = real(impressions=1500)
    assert len(labels) > 1000
    found = offline(counting, events, items, people, labels)
    online = replay(counting, events, items, people, labels)
    for n, (row, answer) in enumerate(zip(found, online, strict=True)):
        assert answer == {name: row[name] for name in NAMES}, labels[n]
    # The comparison is of values that differ.
    assert sum(len({answer[name] for answer in online}) > 1 for name in NAMES) >= len(NAMES) - 1


@pytest.mark.slow
@pytest.mark.skipif(not kuairand.FOLDER.exists(), reason=kuairand.MISSING)
def test_real_events_late_and_doubled_end_as_the_lake_has_them():
    events, items, people, labels = real(impressions=300)
    draw, end = random.Random(3), max(event["time_ms"] for event in events) + 1
    # Anything comes up to a minute late; one in ten comes twice, one in fifty much later than the rest.
    arrivals = [(event["time_ms"] + draw.random() * 60_000, event) for event in events]
    arrivals += [(event["time_ms"] + draw.random() * 60_000, event) for event in events if draw.random() < 0.1]
    arrivals += [(end + draw.random(), event) for event in events if draw.random() < 0.02]
    arrivals.sort(key=lambda arrival: arrival[0])
    store = MemoryFeatureStore()
    know_attributes(store, COUNTING, items, people)
    for first in range(0, len(arrivals), 50):
        send(store, COUNTING, [event for _, event in arrivals[first : first + 50]])
    asked = [label | {"time_ms": end} for label in labels]
    for label, row in zip(asked, offline(COUNTING, events, items, people, asked), strict=True):
        assert ask(store, COUNTING, label) == {name: row[name] for name in NAMES}


def test_expired_values_are_the_default_and_say_so():
    from twinloop.features import values

    store = MemoryFeatureStore()
    know_attributes(store, COUNTING, ITEMS, USERS)
    send(store, COUNTING, events_of([("click", START, "u", "a", None, None, None)]))
    known = store.recall(SYSTEM, "u", ["a", "b"])
    fresh = values.compute(COUNTING, START + HOUR, known.user, known.items)
    assert (fresh["user_clicks_1d"].values[0], bool(fresh["user_clicks_1d"].expired[0])) == (1.0, False)
    assert fresh["user_clicks_1d"].ages_ms[0] == HOUR
    assert fresh["item_click_rate_1d"].values.shape == (2,)
    late = values.compute(COUNTING, START + 3 * DAY, known.user, known.items)
    assert (late["user_clicks_1d"].values[0], bool(late["user_clicks_1d"].expired[0])) == (0.0, True)
    assert (late["user_clicks_7d"].values[0], bool(late["user_clicks_7d"].expired[0])) == (1.0, False)
    assert not late["item_click_rate_1d"].expired[1]  # nothing was ever known of it: a default, but not an old one
