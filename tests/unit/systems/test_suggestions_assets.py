"""What lies beside a model of suggestions: the events that come, and which topics go together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_suggestions import NOW_MS, event

from twinloop.errors import IntegrityError
from twinloop.systems.suggestions import catalogue, tastes

RECORDS = {"o": (4.0, 40.0, 1.0, 100.0, 20.0), "nobody": (0.0,) * 5}


def packed(*rows, since_ms=NOW_MS):
    return catalogue.unpack(catalogue.pack(rows, RECORDS, since_ms=since_ms))


def test_events_that_come_are_kept_in_the_order_of_their_start():
    found = packed(
        event("late", in_h=9, organizer_id="o"),
        event("gone", in_h=-1),
        event("off", cancelled=True),
        event("soon", in_h=1, place=None, price=None, topics=None),
    )
    assert found.ids == ("soon", "late")
    assert found.records == {"o": RECORDS["o"]}
    assert np.isnan(found.numbers["lat"]).tolist() == [True, False]
    assert np.isnan(found.numbers["offset_min"]).tolist() == [True, False]
    assert found.topics == ((), ("jazz",))
    assert np.isnan(found.points[0]).all()
    assert found.numbers["offset_min"][1] == 120


@given(st.lists(st.floats(-100, 100), max_size=20), st.floats(-100, 100), st.floats(0, 100))
def test_upcoming_are_those_that_start_later_and_not_too_late(starts, after, more):
    found = packed(*(event(f"e{n}", in_h=h) for n, h in enumerate(starts)), since_ms=0)
    at, until = NOW_MS + int(after * 3_600_000), NOW_MS + int((after + more) * 3_600_000)
    rows = np.arange(len(found))[found.upcoming(at, until)]
    times = found.numbers["starts_ms"]
    assert rows.tolist() == [n for n in range(len(found)) if at < times[n] <= until]


def test_the_same_events_are_the_same_bytes():
    rows = [event("a"), event("b")]
    assert catalogue.pack(rows, {}, since_ms=0) == catalogue.pack(rows[::-1], {}, since_ms=0)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x1f\x8b"])
def test_what_is_no_file_of_ours_is_refused(data):
    for module in (catalogue, tastes):
        with pytest.raises(IntegrityError, match="cannot be read"):
            module.unpack(data)


def answers(rows):
    liked, about, yes = zip(*rows, strict=True)
    return tastes.Answers(liked, about, np.array(yes, float), np.arange(len(rows)))


def test_who_likes_one_thing_says_yes_to_what_goes_with_it():
    rows = [(["hiking"], ["birds"], 0.5), (["hiking"], ["chess"], -0.5)] * 200
    fitted, told = tastes.fit(answers(rows))
    said = fitted.of(["hiking"], [["birds"], ["chess"], ["birds", "chess"], ["unheard"], []])
    assert said[0] == pytest.approx(0.5 * 200 / 250, rel=1e-3)
    assert said[:2] == pytest.approx(-said[1::-1])
    assert said[2:] == pytest.approx([0, 0, 0], abs=1e-9)
    assert fitted.of(["unheard"], [["birds"]]).tolist() == [0]
    assert told[0] == pytest.approx(0.5 * 160 / 210, rel=1e-3)  # what four fifths of the lists say


def test_no_row_finds_its_own_answer():
    rows = [(["a"], ["b"], 0.0)] * 20 + [(["rare"], ["once"], 1.0)]
    _, told = tastes.fit(answers(rows))
    assert told[-1] == 0


def test_tastes_come_back_as_they_were():
    fitted, _ = tastes.fit(answers([(["a", "ü"], ["b"], 0.25)] * 30))
    again = tastes.unpack(fitted.pack())
    assert again.names == fitted.names
    np.testing.assert_array_equal(again.lifts, fitted.lifts)


def test_nothing_to_learn_from_is_nothing_known():
    fitted, told = tastes.fit(tastes.Answers((), (), np.zeros(0), np.zeros(0, np.int64)))
    assert (fitted.names, len(told)) == ((), 0)
    assert fitted.of(["a"], [["b"]]).tolist() == [0]
