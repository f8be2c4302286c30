"""What ads' events say, in Python and in SQL alike."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.features.outcomes import known_features
from twinloop.systems.ads.features import (
    AMOUNTS_SQL,
    COUNTING,
    FIELDS,
    MEASURES,
    OUTCOMES,
    SHOWN_SQL,
    STORED,
    amounts,
    slices_of,
)

rows = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["impression", "click"]),
        "clicked": st.sampled_from([None, 0, 1]),
        "bid": st.none() | st.sampled_from([0.0, 0.0004, 0.0005, 0.42, 1e6]) | st.floats(0, 1e6),
    }
)
SCHEMA = pa.schema({"n": pa.int64(), "type": pa.string(), "clicked": pa.int64(), "bid": pa.float64()})


@given(st.lists(rows, min_size=1, max_size=40))
def test_sql_and_python_agree(events):
    table = pa.Table.from_pylist([{"n": n} | row for n, row in enumerate(events)], SCHEMA)
    counted = ", ".join(f"({sql})::BIGINT" for sql in AMOUNTS_SQL)
    columns = f"{SHOWN_SQL}, ({OUTCOMES.labels['click']})::DOUBLE, {counted}"
    with duckdb.connect() as connection:
        connection.register("events", table)
        found = connection.sql(f"SELECT {columns} FROM events ORDER BY n").fetchall()  # noqa: S608
    for (shown, label, *added), event in zip(found, events, strict=True):
        assert tuple(added) == amounts(event)
        assert shown is bool(amounts(event)[0])
        assert (label or 0) == amounts(event)[1]


def said(**event):
    return {name: amount for name, amount in zip(MEASURES, amounts(event), strict=True) if amount}


def test_what_events_add_to():
    assert said(type="impression") == said(type="impression", bid=2.0) == {"impressions": 1}
    assert said(type="impression", clicked=0, bid=2.0) == {"impressions": 1}
    assert said(type="impression", clicked=1, bid=0.25) == {"impressions": 1, "clicks": 1, "spend_milli": 250}
    assert said(type="click", bid=0.42) == {"clicks": 1, "spend_milli": 420}
    assert said(type="click") == {"clicks": 1}
    assert said(type="click", clicked=1) == said(type="click", clicked=0) == {"clicks": 1}  # no second showing
    assert max(amounts({"type": "click", "bid": 1e6})) < 2**32


def test_the_definitions_are_whole():
    assert len({feature.name for feature in STORED}) == len(STORED)
    assert {feature.entity for feature in STORED} == {"user", "item", "user_item"}
    for feature in STORED:
        assert feature.description.endswith((".", "bids."))
        assert {name for name in (feature.of, feature.per) if name} <= set(MEASURES)
        if feature.entity == "user_item":
            assert feature.attribute in COUNTING.marks
        if feature.window_days is not None:  # a value lives as long as something can be in its window
            assert feature.time_to_live_days > feature.window_days
    assert known_features(COUNTING) == STORED  # impressions have all of them


def test_what_is_hashed_is_known_of_every_impression():
    attributes = {f"{table}.{name}" for table, names in COUNTING.attributes.items() for name in names}
    assert set(OUTCOMES.texts) <= attributes
    told = {"user_id", "item_id", *OUTCOMES.texts, *(f"context.{name}" for name in OUTCOMES.context)}
    assert {part for field in FIELDS for part in field.parts} == told


@pytest.mark.parametrize(
    ("shown", "activity"), [(None, "new"), (0, "new"), (1, "light"), (20, "light"), (21, "medium"), (201, "heavy")]
)
def test_slices_are_by_what_the_user_has_seen(shown, activity):
    assert slices_of({"known": {"user_impressions_30d": shown}})["activity"] == activity


def test_slices_are_by_device_and_there_is_always_one():
    assert slices_of({"known": {}, "context": {"device": " Phone "}})["device"] == "phone"
    assert slices_of({"known": {}, "context": {"device": None}})["device"] == "unknown"
    assert slices_of({"known": {}, "context": None})["device"] == "unknown"
