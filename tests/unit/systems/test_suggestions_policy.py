"""Suggestions' policy: what may be suggested, how presets lean, whose turn it is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.systems.suggestions import policy
from twinloop.systems.suggestions.presets import DEFAULT, PRESETS, Preset

PLAIN = Preset("as the model says")
SCORES = st.lists(st.floats(-5, 5), max_size=20)


def may(until=5.0, travel=math.nan, going=0.0, capacity=math.nan, off=False, *, known=True, preset=PLAIN):
    columns = (np.array([value]) for value in (until, travel, going, capacity))
    found = policy.allowed(*columns, np.array([off]), known=known, preset=preset)
    return [bool(part[0]) for part in found]


def test_what_is_coming_has_room_and_is_on_may_be_suggested():
    assert may() == [True, False, False, False]
    assert may(until=0) == [False, True, False, False]
    assert may(until=math.nan) == [False, True, False, False]
    assert may(going=5, capacity=5) == [False, False, True, False]
    assert may(going=4, capacity=5) == [True, False, False, False]
    assert may(off=True) == [False, False, False, True]


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), max_size=20), st.integers(1, 25))
def test_the_best_are_those_that_a_whole_order_begins_with(scores, most):
    whole = np.argsort(-np.array(scores), kind="stable")
    assert policy.best(np.array(scores), most).tolist() == whole[:most].tolist()


def test_what_is_limited_is_full_where_nobody_knows():
    assert may(capacity=5, known=False)[2]
    assert may(known=False)[0]


def test_what_cannot_be_reached_in_time_is_past_unless_a_preset_says_otherwise():
    assert may(until=1, travel=61)[1]
    assert may(until=1, travel=61, preset=Preset("", reachable=False))[0]


@given(SCORES, st.integers(1, 10), st.integers(0, 3), st.data())
def test_an_order_has_everything_once_the_best_first_within_turns(scores, limit, most, data):
    names = st.sampled_from(["a", "b", None])
    organizers = data.draw(st.lists(names, min_size=len(scores), max_size=len(scores)))
    preset = Preset("", per_organizer=most)
    everything = policy.ranked(np.array(scores), organizers, limit=len(scores), preset=preset).places
    assert sorted(everything.tolist()) == list(range(len(scores)))
    best = policy.ranked(np.array(scores), organizers, limit=limit, preset=preset)
    assert best.propensities is None
    assert best.places.tolist() == everything.tolist()[:limit]
    if not most:
        assert [scores[n] for n in everything] == sorted(scores, reverse=True)
    for name in ("a", "b"):
        mine = [n for n in everything.tolist() if organizers[n] == name]
        assert [scores[n] for n in mine] == sorted((scores[n] for n in mine), reverse=True)


def test_propensities_are_those_of_what_was_drawn():
    preset, scores = Preset("", explore=0.5), np.array([3.0, 2.0, 1.0])
    counts, chances = np.zeros((3, 3)), np.zeros((3, 3))
    for seed in range(4000):
        random = np.random.default_rng(seed)
        found = policy.ranked(scores, [None] * 3, limit=3, preset=preset, random=random)
        for place, row in enumerate(found.places):
            counts[place, row] += 1 / 4000
            chances[place, row] = found.propensities[place]
    np.testing.assert_allclose(counts, chances, atol=0.03)


def test_presets_lean_as_they_say():
    scores, km, until = np.array([1.0, 1.2, 0.9]), np.array([1.0, 50.0, math.nan]), np.array([100.0, 1.0, 50.0])
    assert policy.adjusted(scores, km, until, PRESETS[DEFAULT]) is scores
    assert np.argmax(policy.adjusted(scores, km, until, PRESETS["nearby"])) == 0
    assert np.argmax(policy.adjusted(scores, km, until, PRESETS["soon"])) == 1
    assert np.isfinite(policy.adjusted(scores, km, until, PRESETS["nearby"])).all()


def test_the_baseline_weighs_how_many_come_against_how_far_it_is():
    found = policy.distance_popularity(np.array([0.0, 9.0, 9.0]), np.array([0.0, 0.0, math.nan]), 2.0)
    assert found == pytest.approx([0, math.log(10), math.log(10) - 2 * math.log(11)])
