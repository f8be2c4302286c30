"""Intervals: right by theory, the same every time, and refusing what is no number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.errors import BadInputError
from twinloop.evaluation.intervals import mean_interval, paired_gain, ratio_interval


def test_the_interval_is_that_of_the_normal_approximation_where_that_holds():
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    found = mean_interval(values, resamples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=half * 0.1)
    assert found.high == pytest.approx(values.mean() + half, abs=half * 0.1)


def test_it_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(2)
    inside = 0
    for _ in range(300):
        found = mean_interval(random.exponential(1.0, 200), confidence=0.9, resamples=400)
        inside += found.low <= 1.0 <= found.high
    assert 0.84 <= inside / 300 <= 0.96


def test_the_same_seed_gives_the_same_interval_and_another_another():
    values = np.arange(50.0)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_chunks_bound_memory_without_changing_what_is_drawn_for_few_cases():
    many = np.random.default_rng(3).random(100_000)
    found = mean_interval(many, resamples=250)
    assert found.low < many.mean() < found.high


def test_pairing_sees_what_two_intervals_cannot():
    random = np.random.default_rng(4)
    hard = random.random(400)
    ours, theirs = hard + 0.01 + random.normal(0, 0.02, 400), hard
    assert mean_interval(ours).low < mean_interval(theirs).high
    assert paired_gain(ours, theirs).low > 0


def test_a_ratio_and_its_interval():
    found = ratio_interval([1.0, 2.0, 3.0] * 50, [1.0, 1.0, 2.0] * 50)
    assert found.mean == pytest.approx(1.5)
    assert found.low < 1.5 < found.high
    for above, below in (([1.0], [0.0]), ([1.0], [1.0, 2.0])):
        with pytest.raises(BadInputError):
            ratio_interval(above, below)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0.5, 0.99))
def test_an_interval_lies_among_the_values_and_mirrors(values, confidence):
    found = mean_interval(values, confidence=confidence, resamples=200)
    slack = 1e-6 * max(1.0, *map(abs, values))
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack
    mirrored = mean_interval([-v for v in values], confidence=confidence, resamples=200)
    assert mirrored.low == pytest.approx(-found.high, abs=slack)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_nobody_gains_over_himself(values):
    found = paired_gain(values, values, resamples=200)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")], [[1.0], [2.0]], 3.0])
def test_what_is_no_row_of_numbers_is_refused(values):
    with pytest.raises(BadInputError):
        mean_interval(values)


def test_a_pair_needs_the_same_cases():
    with pytest.raises(BadInputError, match="same cases"):
        paired_gain([1.0], [1.0, 2.0])
