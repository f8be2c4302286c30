"""The offline and the online execution of a feature give the same value, and both agree with a naive oracle."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.features import Feature
from twinloop.contracts.history import HistoryEntry, merge_histories
from twinloop.features import offline, online

DAY = 86_400_000
LENGTH = 5


def feature(kind: str, **changes: object) -> Feature:
    fields = {
        "name": kind,
        "entity": "user",
        "kind": kind,
        "description": kind,
        "time_to_live_days": 1000,
        "default": 7.0,
    }
    return Feature.model_validate(fields | changes)


FEATURES = (
    feature("last_n", length=3),
    feature("last_n", name="last_2d", length=2, window_days=2),
    feature("last_n", name="last_none", length=0),
    feature("count"),
    feature("count", name="count_2d", window_days=2),
    feature("count", name="count_live_1d", time_to_live_days=1),
    feature("mean"),
    feature("mean", name="mean_3d", window_days=3),
    feature("mean", name="mean_3d_live_2d", window_days=3, time_to_live_days=2),
    feature("recency"),
    feature("recency", name="recency_2d", window_days=2),
)

times = st.integers(0, 16).map(lambda half_day: half_day * DAY // 2)
strengths = st.sampled_from([0.0, 0.25, 0.5, 1.0, -0.5])
event_rows = st.lists(st.tuples(st.sampled_from("uv"), st.sampled_from("abcd"), times, strengths), max_size=25)
label_rows = st.lists(st.tuples(st.sampled_from("uvw"), times), min_size=1, max_size=6)


def oracle(events: list[tuple[str, str, int, float]], user: str, at: int, feature: Feature) -> object:
    """The definition, by the letter and without any cleverness."""
    best: dict[tuple[int, str], float] = {}
    for who, item, time, strength in events:
        if who == user and time < at:
            best[time, item] = max(strength, best.get((time, item), strength))
    known = [(time, item, best[time, item]) for time, item in sorted(best)][-LENGTH:]
    default: object = [] if feature.kind == "last_n" else feature.default
    if not known or known[-1][0] < at - feature.time_to_live_days * DAY:
        return default
    inside = [row for row in known if feature.window_days is None or row[0] >= at - feature.window_days * DAY]
    if not inside:
        return default
    liked = [item for _, item, strength in inside if strength >= 0.5]
    return {
        "last_n": liked[max(len(liked) - feature.length, 0) :],
        "count": float(len(liked)),
        "mean": sum(strength for _, _, strength in inside) / len(inside),
        "recency": (at - inside[-1][0]) / DAY,
    }[feature.kind]


def offline_values(events: list[tuple[str, str, int, float]], labels: list[tuple[str, int]], features) -> list[dict]:
    event_schema = pa.schema(
        {"user_id": pa.string(), "item_id": pa.string(), "time_ms": pa.int64(), "strength": pa.float64()}
    )
    event_table = pa.Table.from_pylist(
        [dict(zip(event_schema.names, row, strict=True)) for row in events], event_schema
    )
    label_schema = pa.schema({"user_id": pa.string(), "time_ms": pa.int64(), "position": pa.int64()})
    label_table = pa.Table.from_pylist(
        [{"user_id": user, "time_ms": at, "position": n} for n, (user, at) in enumerate(labels)], label_schema
    )
    rows = offline.compute(event_table, label_table, features, length=LENGTH).to_pylist()
    return sorted(rows, key=lambda row: row["position"])


@settings(max_examples=150)
@given(event_rows, label_rows)
def test_offline_is_the_definition(events, labels):
    rows = offline_values(events, labels, FEATURES)
    assert len(rows) == len(labels)
    for (user, at), row in zip(labels, rows, strict=True):
        for definition in FEATURES:
            assert row[definition.name] == oracle(events, user, at, definition), definition.name


@settings(max_examples=300)
@given(event_rows, label_rows)
def test_online_is_the_definition(events, labels):
    for user, at in labels:
        history = [HistoryEntry(item, time, strength) for who, item, time, strength in events if who == user]
        values = online.compute(history, FEATURES, at, length=LENGTH)
        for definition in FEATURES:
            got = values[definition.name].value
            expected = oracle(events, user, at, definition)
            assert (list(got) if isinstance(got, tuple) else got) == expected, definition.name


@settings(max_examples=60)
@given(event_rows)
def test_a_replay_sees_online_what_the_lake_gives_offline(events):
    """Events arrive one by one in time order; before each arrival the stored history answers as the as-of join does."""
    arrivals = sorted(events, key=lambda row: row[2])
    labels = [(user, time) for user, _, time, _ in arrivals]
    rows = offline_values(events, labels, FEATURES) if labels else []
    stored: dict[str, tuple[HistoryEntry, ...]] = {}
    for (user, item, time, strength), row in zip(arrivals, rows, strict=True):
        for name, value in online.compute(stored.get(user, ()), FEATURES, time, length=LENGTH).items():
            # A tie may have pushed an older entry out of the bounded history already: nothing to compare then.
            if any(entry.time_ms == time for entry in stored.get(user, ())):
                break
            assert row[name] == (list(value.value) if isinstance(value.value, tuple) else value.value), name
        entry = HistoryEntry(item, time, strength)
        stored[user] = merge_histories(stored.get(user, ()), [entry], LENGTH)


def test_an_item_is_an_entity_too():
    definitions = (feature("count", entity="item", name="item_count"), feature("count"))
    rows = offline_values([("u", "a", 0, 1.0), ("v", "a", DAY, 1.0)], [("u", 2 * DAY)], definitions[1:])
    assert rows[0]["count"] == 1
    events = pa.table({"user_id": ["u", "v"], "item_id": ["a", "a"], "time_ms": [0, DAY], "strength": [1.0, 1.0]})
    labels = pa.table({"user_id": ["u"], "item_id": ["a"], "time_ms": [2 * DAY]})
    assert offline.compute(events, labels, definitions).to_pylist()[0]["item_count"] == 2


def test_an_expired_value_is_the_default_and_says_so():
    values = online.compute([HistoryEntry("a", 0, 1.0)], [feature("count", time_to_live_days=1)], 2 * DAY)
    assert values["count"] == online.FeatureValue(7.0, expired=True)
    assert online.compute([], [feature("count")], 0)["count"] == online.FeatureValue(7.0)
