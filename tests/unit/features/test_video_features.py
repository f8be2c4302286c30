"""What video's events say, in Python and in SQL alike."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.systems.video.features import FEATURES, STRENGTH_SQL, strength

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


@settings(deadline=None)
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
