"""Counters end the same whatever order events come in, and know what they have counted."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.tally import (
    HOUR_MS,
    NEVER,
    Happening,
    Layout,
    Tally,
    add,
    columns,
    identity,
    key_of,
    mark_of,
    pack,
    settle,
    unpack,
)
from twinloop.errors import BadInputError, IntegrityError

FIRST = (
    "01cc2a8e6d0300000002000100030004000000780163b89bcb00020da7978069865db7c1343384c7c002a559a13413901601"
    "6290bc1c1083e4358018240e1203f11bde9901494c1a2c884d3c460d663c4c09986644e13130c0f85c68e2302eba3c3a1f00"
    "07e40e24"
)
LAYOUT = Layout(2, 1, 3, ((0, 0), (HOUR_MS, 5), (24 * HOUR_MS, 2)), identity(["a", "b", "", "m"]))

happenings = st.builds(
    Happening,
    time_ms=st.integers(0, 40 * HOUR_MS) | st.sampled_from([0, HOUR_MS, 2 * HOUR_MS]),
    key=st.integers(0, 2**64 - 1),
    amounts=st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1)),
    marks=st.tuples(st.integers(0, 2**32 - 1)),
)
distinct = st.lists(happenings, max_size=12, unique_by=lambda happening: happening.key)


def one_by_one(events, layout=LAYOUT):
    tally = Tally()
    for event in events:
        tally = add(tally, [event], layout)
    return tally


@given(distinct, st.data())
def test_any_order_and_any_batches_end_the_same(events, data):
    shuffled = data.draw(st.permutations(events))
    cut = data.draw(st.integers(0, len(events)))
    assert one_by_one(shuffled) == one_by_one(events)
    assert add(add(Tally(), shuffled[:cut], LAYOUT), shuffled[cut:], LAYOUT) == one_by_one(events)


@given(distinct)
def test_what_is_remembered_changes_nothing_again(events):
    tally = add(Tally(), events, LAYOUT)
    assert add(tally, tally.recent, LAYOUT) is tally
    assert add(tally, [*tally.recent, *tally.recent], LAYOUT) is tally
    assert add(tally, [], LAYOUT) is tally


@given(distinct)
def test_the_latest_are_remembered_and_all_time_knows_the_rest(events):
    tally = one_by_one(events)
    ordered = sorted(events)
    assert list(tally.recent) == ordered[-LAYOUT.memory :]
    earlier = ordered[: -LAYOUT.memory]
    if earlier:
        assert tally.buckets[0, 0] == tuple(sum(column) for column in zip(*(e.amounts for e in earlier), strict=True))
        assert tally.latest == earlier[-1].time_ms
        newest = ordered[-1].time_ms // HOUR_MS
        assert all(number >= newest - 5 for length, number in tally.buckets if length == HOUR_MS)


def test_past_the_memory_a_second_delivery_counts_again():
    """The limit that is promised, and no more than that."""
    events = [Happening(n, n, (1, 0), (0,)) for n in range(5)]
    tally = one_by_one(events)
    assert [happening.key for happening in tally.recent] == [2, 3, 4]
    assert add(tally, [events[2]], LAYOUT) is tally
    assert tally.buckets[0, 0] == (2, 0)
    assert add(tally, [events[0]], LAYOUT).buckets[0, 0] == (3, 0)


@given(distinct)
def test_bytes_come_back_as_they_went(events):
    tally = add(Tally(), events, LAYOUT)
    assert unpack(pack(tally, LAYOUT), LAYOUT) == (tally if events else Tally(last=(NEVER, NEVER)))


@given(st.binary(max_size=120))
def test_any_other_bytes_are_refused_or_read_but_never_crash(data):
    with contextlib.suppress(IntegrityError):
        unpack(data, LAYOUT)


@given(distinct.filter(bool), st.data())
def test_damaged_bytes_are_refused(events, data):
    packed = pack(add(Tally(), events, LAYOUT), LAYOUT)
    with pytest.raises(IntegrityError):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))], LAYOUT)
    with pytest.raises(IntegrityError, match="damaged"):
        unpack(packed + b"x", LAYOUT)


def test_another_version_names_itself_and_other_measures_read_as_nothing():
    packed = pack(one_by_one([Happening(1, 2, (3, 4), (5,))]), LAYOUT)
    with pytest.raises(IntegrityError, match="format version 2, this code reads version 1"):
        unpack(b"\x02" + packed[1:], LAYOUT)
    other = LAYOUT._replace(identity=identity(["b", "a"]))
    assert columns(packed, other) is None
    assert unpack(packed, other) == Tally()


def test_the_first_version_stays_readable():
    kept = bytes.fromhex(FIRST)
    tally = one_by_one([Happening(HOUR_MS * n, n + 1, (n, 10 * n), (n,)) for n in range(5)])
    assert unpack(kept, LAYOUT) == tally


@pytest.mark.parametrize(
    "happening",
    [
        Happening(0, 1, (0, 2**32), (0,)),
        Happening(0, 1, (-1, 0), (0,)),
        Happening(2**63, 1, (0, 0), (0,)),
        Happening(0, 1, (0, 0), ()),
        Happening(0, 2**64, (0, 0), (0,)),
    ],
)
def test_what_has_no_place_in_the_format_is_refused(happening):
    with pytest.raises(BadInputError):
        pack(Tally((happening,), {}, (0, 0)), LAYOUT)


@given(distinct, st.data())
def test_the_lake_mends_what_was_lost_and_keeps_what_it_does_not_know_yet(events, data):
    """Live knows some of the lake's events and some newer ones; some of them it counted twice."""
    ordered = sorted(events)
    cut = data.draw(st.integers(0, len(ordered)))
    lake, newer = add(Tally(), ordered[:cut], LAYOUT), ordered[cut:][: LAYOUT.memory]
    some = data.draw(st.lists(st.sampled_from(ordered[:cut]), max_size=5)) if cut else []
    live = one_by_one([*some, *some, *newer])
    whole = add(Tally(), [*ordered[:cut], *newer], LAYOUT)
    assert settle(lake, live, LAYOUT) == whole
    assert settle(lake, settle(lake, live, LAYOUT), LAYOUT) == whole


def test_ids_are_hashed_as_duckdb_does():
    import duckdb

    for text in ("", "e1", "ünï", "x" * 300):
        [(key,)] = duckdb.execute("SELECT md5_number_upper(?)", [text]).fetchall()
        assert key_of(text) == key
        assert mark_of(text) == key & 0xFFFFFFFF
    assert mark_of(None) == 0
