"""What lies beside a model of suggestions: the events that come, and which topics go together."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_suggestions import NOW_MS, TASTES, event

from twinloop.errors import IntegrityError, TooLargeError
from twinloop.systems.suggestions import catalogue, tastes
from twinloop.systems.suggestions.columns import shared
from twinloop.systems.suggestions.tastes_fit import Answers, _Problem, fit

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


NAMES = st.sampled_from(["jazz", "hiking", "chess", "film"])


@given(st.lists(st.lists(NAMES, max_size=5), max_size=12), st.sets(NAMES | st.just("unheard")))
def test_shared_topics_are_those_of_each_event_by_itself(topics, liked):
    found = packed(*(event(f"e{n}", topics=of) for n, of in enumerate(topics)))
    assert found.shared(frozenset(liked)).tolist() == [shared(of, frozenset(liked)) for of in found.topics]


def test_a_file_that_names_a_topic_twice_counts_it_once():
    body = json.loads(gzip.decompress(catalogue.pack([event("e", topics=["jazz", "film"])], {}, since_ms=NOW_MS)))
    body |= {"topic_names": ["jazz", "jazz"], "topics": [[0, 1, 0]]}
    found = catalogue.unpack(gzip.compress(json.dumps(body).encode()))
    assert found.shared(frozenset({"jazz"})).tolist() == [1]


@given(st.sets(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcxyz")))
def test_events_among_some(known, asked):
    found = packed(*(event(name) for name in sorted(known)))
    assert found.among(asked).tolist() == [name in asked for name in found.ids]


def test_the_same_events_are_the_same_bytes():
    rows = [event("a"), event("b")]
    assert catalogue.pack(rows, {}, since_ms=0) == catalogue.pack(rows[::-1], {}, since_ms=0)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x1f\x8b"])
def test_what_is_no_file_of_ours_is_refused(data):
    for module in (catalogue, tastes):
        with pytest.raises(IntegrityError, match="cannot be read"):
            module.unpack(data)


def answers(rows, lists=None):
    """Rows of (what is liked, what the event is about, its organiser, how often of ten they say yes)."""
    liked, about, organizers, tenths = zip(*[row for row in rows for _ in range(10)], strict=True)
    yes = np.array([n % 10 < of for n, of in enumerate(tenths)], float)
    numbers = np.repeat(range(len(rows)) if lists is None else lists, 10)
    return Answers(liked, about, organizers, yes, np.zeros(len(yes)), np.zeros(len(yes)), numbers)


def test_who_likes_one_thing_says_yes_to_what_goes_with_it():
    rows = [(["hiking"], ["birds"], None, 8), (["hiking"], ["chess"], None, 2)] * 40
    fitted, told = fit(answers(rows))
    said = fitted.of(["hiking"], [["birds"], ["chess"], ["unheard"], [], ["birds", "unheard"]])
    assert said[0] - said[1] == pytest.approx(np.log(16), rel=0.1)
    assert said[2:4] == pytest.approx([0, 0], abs=1e-9)
    assert said[4] == said[0]
    assert fitted.of(["unheard"], [["birds"]]).tolist() == [0]
    assert told.taste[:10] == pytest.approx(said[0], abs=0.3)  # what four fifths of the lists say


def test_topics_of_one_kind_need_not_have_met():
    """Who likes a says yes to b and c, and who likes b to c: so a, b and c lie together, and c goes with b's people."""
    near, far = ("a", "b", "c"), ("x", "y")
    rows = [([m], [t], None, 8 if (m in near) == (t in near) else 1) for m in (*near, *far) for t in (*near, *far)]
    fitted, _ = fit(answers([row for row in rows if (row[0], row[1]) not in [(["b"], ["c"]), (["c"], ["b"])]] * 12))
    assert fitted.of(["b"], [["c"]])[0] > fitted.of(["b"], [["x"]])[0] + 1


def test_the_first_topic_counts_most():
    rows = [
        (["a"], ["a", "b"], None, 7),
        (["a"], ["b", "a"], None, 4),
        (["a"], ["b"], None, 2),
        (["a"], ["a"], None, 8),
    ]
    fitted, _ = fit(answers(rows * 40))
    assert 0 < fitted.later < 1
    one, other = fitted.of(["a"], [["a", "b"], ["b", "a", "b"]])
    assert one > other


def test_an_organisers_effect_is_beside_what_else_is_known():
    rows = [([], [], "good", 6), ([], [], "bad", 2), ([], [], None, 4)] * 30
    told_before = answers(rows)
    fitted, told = fit(told_before)
    assert fitted.effects(["good", "bad", "unheard", None]) == pytest.approx([0.8, -0.9, 0, 0], abs=0.25)
    assert told.effect[:10] == pytest.approx(fitted.organizers["good"], abs=0.2)
    yes = np.repeat([{"good": 0.6, "bad": 0.2, None: 0.4}[row[2]] for row in rows], 10)
    known, _ = fit(replace(told_before, offset=np.log(yes / (1 - yes))))
    assert known.effects(["good", "bad"]) == pytest.approx([0, 0], abs=0.02)


def test_the_gradient_is_that_of_the_loss():
    draw = np.random.default_rng(3)
    words = ("a", "b", "c", "d")
    rows = [
        (
            draw.choice(words, 2).tolist(),
            draw.choice(words, 2).tolist(),
            draw.choice(["o", "p"]),
            int(draw.integers(11)),
        )
        for _ in range(30)
    ]
    problem, rows_of = _Problem(answers(rows)), np.arange(300)
    rows_of = rows_of[np.argsort(problem._person, kind="stable")]
    at = np.concatenate([[0.1, -0.2, 1.3, 0.4], problem._start.ravel() + 0.3 * draw.standard_normal(16), [0.2, -0.4]])

    def value(numbers):
        return problem._objective(rows_of, numbers)

    steps = 1e-3 * np.eye(len(at))
    numeric = [(value(at + step)[0] - value(at - step)[0]) / 2e-3 for step in steps]
    np.testing.assert_allclose(value(at)[1], numeric, atol=2e-5)


def test_no_row_finds_its_own_answer():
    rows = [(["a"], ["b"], "o", 3)] * 20 + [(["rare"], ["once"], "new", 10)]
    _, told = fit(answers(rows, lists=range(21)))
    assert told.effect[-10:].tolist() == [0] * 10
    _, other = fit(answers([*rows[:-1], (["rare"], ["once"], "new", 0)], lists=range(21)))
    np.testing.assert_array_equal(told.taste[-10:], other.taste[-10:])


def test_more_topics_than_a_vector_has_room_for_are_told_apart():
    names = [f"t{n}" for n in range(40)]
    fitted, _ = fit(
        answers([([name], [other], None, 8 if name == other else 2) for name in names for other in names[:9]])
    )
    own = fitted.of(["t3"], [[name] for name in names[:9]])
    assert own.argmax() == 3
    assert fitted.vectors.shape == (40, 32)


def test_tastes_come_back_as_they_were():
    fitted, _ = fit(answers([(["a", "ü"], ["b"], "o", 3), (["b"], ["a"], "ü", 6)] * 30))
    again = tastes.unpack(fitted.pack())
    assert (again.names, again.strength, again.later) == (fitted.names, fitted.strength, fitted.later)
    assert again.organizers == fitted.organizers
    np.testing.assert_array_equal(again.vectors, fitted.vectors)
    assert tastes.unpack(tastes.Tastes().pack()).of(["a"], [["b"]]).tolist() == [0]


@pytest.mark.parametrize("change", [{"strength": None}, {"vectors": [[1]]}, {"organizers": []}, {"later": "NaN"}])
def test_tastes_of_another_shape_are_refused(change):
    body = json.loads(gzip.decompress(TASTES.pack())) | change
    with pytest.raises(IntegrityError, match="cannot be read"):
        tastes.unpack(gzip.compress(json.dumps(body).encode()))


def test_tastes_that_unfold_to_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(tastes, "_MOST_BYTES", 10)
    with pytest.raises(TooLargeError, match="unfolds"):
        tastes.unpack(TASTES.pack())


@pytest.mark.parametrize("tenths", [0, 10])
def test_nothing_to_learn_from_is_nothing_known(tenths):
    fitted, told = fit(answers([(["a"], ["b"], "o", tenths)]))
    assert (fitted.names, told.taste.tolist(), told.effect.tolist()) == ((), [0] * 10, [0] * 10)
    nobody = Answers((), (), (), *(np.zeros(0) for _ in range(3)), np.zeros(0, np.int64))
    assert fit(nobody)[0].of(["a"], [["b"]]).tolist() == [0]
