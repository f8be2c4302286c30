import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts import history as history_module
from twinloop.contracts.history import MAX_PACKED_BYTES, HistoryEntry, fitting, merge_histories, pack, unpack
from twinloop.errors import BadInputError, IntegrityError, TooLargeError

entries = st.builds(
    HistoryEntry,
    item_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=5),
    time_ms=st.integers(-10, 10) | st.integers(-(2**63), 2**63 - 1),
    strength=st.floats(-2, 2, width=32),
)
histories = st.lists(entries, max_size=12)
lengths = st.integers(0, 8)


@given(histories, histories, lengths)
def test_merge_is_commutative(a, b, length):
    assert merge_histories(a, b, length) == merge_histories(b, a, length)


@given(histories, histories, histories, lengths)
def test_merge_is_associative(a, b, c, length):
    left = merge_histories(merge_histories(a, b, length), c, length)
    assert left == merge_histories(a, merge_histories(b, c, length), length)


@given(histories, st.integers(5, 200))
def test_what_fits_is_the_longest_end_that_can_be_packed(entries, limit):
    whole = merge_histories(entries, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_module, "MAX_PACKED_BYTES", limit)
        kept = fitting(whole)
        assert kept == whole[len(whole) - len(kept) :]
        assert len(pack(kept)) <= limit
        assert fitting(kept) == kept
    if len(kept) < len(whole):
        assert len(pack(whole[len(whole) - len(kept) - 1 :])) > limit


def test_a_user_with_long_ids_keeps_the_latest_of_what_fits():
    long = [HistoryEntry("ü" * 255 + str(place), place, 1.0) for place in range(1000)]
    kept = fitting(merge_histories(long, [], 1000))
    assert 0 < len(kept) < 1000
    assert kept[-1] == long[-1]
    assert MAX_PACKED_BYTES - 600 < len(pack(kept)) <= MAX_PACKED_BYTES


@given(histories, histories, lengths)
def test_merge_is_idempotent(a, b, length):
    once = merge_histories(a, b, length)
    assert merge_histories(once, b, length) == once
    assert merge_histories(once, once, length) == once


@given(histories, histories, lengths)
def test_merge_keeps_the_latest_once_each_in_order(a, b, length):
    merged = merge_histories(a, b, length)
    places = [(entry.time_ms, entry.item_id) for entry in merged]
    everything = sorted({(entry.time_ms, entry.item_id) for entry in [*a, *b]})
    assert places == everything[max(len(everything) - length, 0) :]


@given(histories)
def test_bytes_come_back_as_they_went(history):
    assert unpack(pack(history)) == tuple(history)


@given(st.binary(max_size=80))
def test_any_other_bytes_are_refused_or_read_but_never_crash(data):
    with contextlib.suppress(IntegrityError):
        unpack(data)


@given(histories.filter(bool), st.data())
def test_cut_bytes_are_refused(history, data):
    packed = pack(history)
    with pytest.raises(IntegrityError):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


def test_an_unknown_version_names_itself():
    with pytest.raises(IntegrityError, match="format version 2, this code reads version 1"):
        unpack(b"\x02" + pack([])[1:])


def test_the_first_version_stays_readable():
    kept = bytes.fromhex("01020000000a0000000000000014000000000000000000803f000000000100020061c3a9")
    assert unpack(kept) == (HistoryEntry("a", 10, 1.0), HistoryEntry("é", 20, 0.0))
    assert pack(unpack(kept)) == kept


def test_a_full_history_of_long_ids_fits_and_more_is_refused():
    full = [HistoryEntry("x" * 1024, n, 1.0) for n in range(200)]
    assert len(pack(full)) < MAX_PACKED_BYTES
    with pytest.raises(TooLargeError, match="keep fewer"):
        pack([HistoryEntry("x" * 1024, n, 1.0) for n in range(400)])


@pytest.mark.parametrize(
    "entry",
    [
        HistoryEntry("", 0, 1.0),
        HistoryEntry("x" * 1025, 0, 1.0),
        HistoryEntry("\ud800", 0, 1.0),
        HistoryEntry("a", 2**63, 1.0),
        HistoryEntry("a", 0, float("nan")),
        HistoryEntry("a", 0, float("inf")),
        HistoryEntry("a", 0, 1e300),
    ],
)
def test_an_entry_without_a_place_in_the_format_is_refused(entry):
    with pytest.raises(BadInputError):
        pack([entry])
