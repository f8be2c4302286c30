"""What video's events say, in Python and in SQL alike."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from twinloop.contracts.features import Feature
from twinloop.features.schema import schema_hash
from twinloop.systems.video.features import (
    AMOUNTS_SQL,
    COUNTING,
    FEATURES,
    MEASURES,
    STORED,
    STRENGTH_SQL,
    amounts,
    strength,
)

numbers = st.none() | st.sampled_from([0.0, 3.999, 4.0, 5.0, 15.0, 29.9, 30.0, 60.0, float("nan")]) | st.floats()
rows = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["impression", "click", "watch", "like", "rating", "hide", "unheard of"]),
        "rating": numbers,
        "watch_s": numbers,
        "duration_s": numbers,
    }
)
SCHEMA = pa.schema({"type": pa.string(), "rating": pa.float64(), "watch_s": pa.float64(), "duration_s": pa.float64()})


@given(st.lists(rows, min_size=1, max_size=40))
def test_sql_and_python_agree(events):
    table = pa.Table.from_pylist(
        [{"n": n} | row for n, row in enumerate(events)], SCHEMA.insert(0, pa.field("n", pa.int64()))
    )
    with duckdb.connect() as connection:
        connection.register("events", table)
        found = connection.sql(f"SELECT ({STRENGTH_SQL})::DOUBLE FROM events ORDER BY n").fetchall()  # noqa: S608
    assert [value for (value,) in found] == [strength(event) for event in events]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "rating", "rating": 4}, 1.0),
        ({"type": "rating", "rating": 3.5}, 0.0),
        ({"type": "rating"}, None),
        ({"type": "like"}, 1.0),
        ({"type": "click"}, 1.0),
        ({"type": "hide"}, 0.0),
        ({"type": "impression"}, None),
        ({"type": "watch", "watch_s": 10, "duration_s": 20}, 1.0),
        ({"type": "watch", "watch_s": 9, "duration_s": 20}, 0.0),
        ({"type": "watch", "watch_s": 29, "duration_s": None}, 0.0),
        ({"type": "watch", "watch_s": 30, "duration_s": 0}, 1.0),
        ({"type": "watch"}, None),
    ],
)
def test_what_events_say(event, expected):
    assert strength(event) == expected


def test_a_model_can_be_asked_with_every_feature():
    """What no model is asked with would cost snapshots and say nothing."""
    assert all(feature.entity == "user" and feature.kind != "last_n" for feature in FEATURES)
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


plausible = st.none() | st.sampled_from([0.0, 0.0004, 0.0005, 2.0005, 15.0, 30.0, float("nan")]) | st.floats(0, 1e6)
counted_rows = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["impression", "click", "watch", "like", "rating", "hide", "unheard of"]),
        "rating": numbers,
        "watch_s": plausible,
        "duration_s": plausible,
    }
)


@given(st.lists(counted_rows, min_size=1, max_size=40))
def test_what_is_counted_is_the_same_in_sql_and_python(events):
    table = pa.Table.from_pylist(
        [{"n": n} | row for n, row in enumerate(events)], SCHEMA.insert(0, pa.field("n", pa.int64()))
    )
    listed = ", ".join(f"({sql})::BIGINT" for sql in AMOUNTS_SQL)
    with duckdb.connect() as connection:
        connection.register("events", table)
        found = connection.sql(f"SELECT {listed} FROM events ORDER BY n").fetchall()  # noqa: S608
    assert found == [amounts(event) for event in events]


def said(**event):
    return {name: amount for name, amount in zip(MEASURES, amounts(event), strict=True) if amount}


def test_what_events_add_to():
    assert said(type="impression") == {"impressions": 1}
    assert said(type="click") == {"clicks": 1}
    assert said(type="hide") == {"hides": 1}
    assert said(type="like") == said(type="rating", rating=4) == {"likes": 1}
    assert said(type="rating", rating=3) == said(type="rating") == said(type="watch") == {}
    assert said(type="watch", watch_s=31) == {"watches": 1, "long_watches": 1, "watch_ms": 31_000}
    half = {"watches": 1, "watch_ms": 4000, "seen_ms": 4000, "duration_ms": 10_000}
    assert said(type="watch", watch_s=4, duration_s=10) == half
    twice = {"watches": 1, "long_watches": 1, "watch_ms": 20_000, "seen_ms": 10_000, "duration_ms": 10_000}
    assert said(type="watch", watch_s=20, duration_s=10) == twice


def test_the_definitions_are_whole():
    assert len({feature.name for feature in (*FEATURES, *STORED)}) == len(FEATURES) + len(STORED)
    assert {feature.entity for feature in STORED} == {"user", "item", "user_item"}
    assert len(AMOUNTS_SQL) == len(MEASURES)
    for feature in STORED:
        assert feature.description
        assert feature.owner
        assert {name for name in (feature.of, feature.per) if name} <= set(MEASURES)
        if feature.entity == "user_item":
            assert feature.attribute in COUNTING.marks
        if feature.window_days is not None:  # a value lives as long as something can be in its window
            assert feature.time_to_live_days > feature.window_days


def test_releases_from_before_counters_keep_their_schema():
    """What was registered once must be served on: the hash of these definitions as it has always been."""
    assert schema_hash(FEATURES) == "cf39c4744a5385adee24132d7f9c362cd0a6b14be6d271d3108035be93a05f4d"
    changed = STORED[1].model_copy(update={"of": "clicks"})
    assert schema_hash([changed]) != schema_hash([STORED[1]])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "total"}, "needs of"),
        ({"kind": "rate", "of": "clicks"}, "needs per"),
        ({"kind": "share", "of": "clicks", "attribute": "tag"}, "a share is of a user_item"),
        ({"kind": "total", "of": "clicks", "entity": "user_item"}, "needs attribute"),
        ({"kind": "recency", "entity": "user_item", "attribute": "tag"}, "comes from counters"),
        ({"kind": "age"}, "needs attribute"),
        ({"kind": "rate", "of": "a", "per": "b", "weight": -1}, "weight"),
    ],
)
def test_a_definition_that_leaves_something_out_is_refused(fields, reason):
    with pytest.raises(ValidationError, match=reason):
        Feature.model_validate({"name": "x", "entity": "user", "description": ""} | fields)
