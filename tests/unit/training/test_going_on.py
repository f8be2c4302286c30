"""Going on: at a rate that users speak for whom the steps have not met, and no further than what is new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clicks_folder import HASHED, NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.evaluation.probability import log_loss
from twinloop.training.calibration import chances
from twinloop.training.clicks import Rows
from twinloop.training.ftrl import Ftrl, Rates
from twinloop.training.going_on import STAYS, Thinning, chosen_rate, gone_on

RATES = (0.01, 0.05, 0.2)
FIELDS = len(HASHED.fields)


def world(count: int, tastes: np.ndarray, *, seed: int, begin: int = 0, rate: float = -1.5) -> Rows:
    """Impressions in order of time whose click depends on which of a few ads is shown."""
    draw = np.random.default_rng(seed)
    ad, user = draw.integers(0, len(tastes), count), draw.integers(0, 300, count)
    ids = np.stack([user, 400 + ad, *(800 + 50 * n + ad % (n + 2) for n in range(FIELDS - 2))], axis=1)
    clicked = draw.random(count) < 1 / (1 + np.exp(-(rate + tastes[ad])))
    known = draw.normal(size=(count, len(NAMES))).astype(np.float32)
    return Rows(ids.astype(np.int64), known, clicked.astype(np.float32), begin + np.arange(count), user)


TASTES = np.random.default_rng(1).normal(0, 1.5, 30)


def solved(rows: Rows) -> Ftrl:
    return Ftrl.solved(Rates(alpha=RATES[0], l1=0.5), HASHED, NAMES, rows, ridge=10.0)


def loss(state: Ftrl, rows: Rows) -> float:
    return log_loss(rows.clicked, chances(state.log_odds(rows)))


def test_where_tastes_turn_it_goes_on_and_is_better_for_it():
    state = solved(world(12_000, TASTES, seed=2))
    new = world(6_000, -TASTES, seed=3, begin=12_000)
    learning, judging = new.halves()
    after = chosen_rate(state, RATES, learning, judging)
    assert after.taken in RATES
    tried = dict(after.tried)
    assert set(tried) == {STAYS, *RATES}
    assert tried[after.taken] < tried[STAYS] - 0.01
    later = world(6_000, -TASTES, seed=4, begin=18_000)
    assert loss(after, later) < loss(state, later) - 0.01
    assert after.rows == state.rows + len(learning)
    again = Ftrl.unpack(after.packed())
    assert (again.tried, again.taken, again.rates.alpha) == (after.tried, after.taken, after.taken)


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_turns_and_clicks_are_few_it_stays_or_hardly_moves(seed):
    state = solved(world(20_000, TASTES, seed=10 + seed, rate=-4.0))
    learning, judging = world(1_500, TASTES, seed=20 + seed, begin=20_000, rate=-4.0).halves()
    after = chosen_rate(state, RATES, learning, judging)
    assert after.taken in (STAYS, RATES[0])


def test_what_stays_has_learnt_nothing_and_learns_it_when_there_is_more_to_choose_by():
    state = solved(world(12_000, TASTES, seed=2))
    first = world(300, -TASTES, seed=3, begin=12_000)
    stayed = chosen_rate(state, (), first.halves()[0], first.halves()[1])
    assert stayed.taken == STAYS
    assert (stayed.z == state.z).all()
    assert (stayed.until_ms, stayed.rows) == (state.until_ms, state.rows)
    more = Rows.join(first, world(6_000, -TASTES, seed=4, begin=13_000))
    after = chosen_rate(stayed, RATES, *more.halves())
    assert after.taken in RATES
    assert after.rows == state.rows + len(more.halves()[0])
    # The same rows once more are nothing new.
    same = chosen_rate(after, RATES, *more.halves())
    assert (same.taken, same.tried) == (STAYS, ())
    assert (same.z == after.z).all()


def test_with_nobody_to_judge_or_nobody_else_to_learn_from_it_stays():
    rows = world(2_000, TASTES, seed=5)
    state, new = solved(rows), world(500, -TASTES, seed=6, begin=2_000)
    for learning, judging in ((new, new.take(np.arange(0))), (new.take(np.arange(0)), new), (new, new)):
        after = chosen_rate(state, RATES, learning, judging)
        assert (after.taken, after.tried, after.rows) == (STAYS, (), len(rows))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    turned=st.floats(-1, 1),
    count=st.integers(1, 800),
    rates=st.lists(st.floats(0.001, 10), min_size=1, max_size=3),
    negatives=st.sampled_from((1.0, 0.4)),
)
def test_whatever_is_chosen_is_held_out_no_worse_than_staying(seed, turned, count, rates, negatives):
    state = solved(world(1_000, TASTES, seed=seed))
    new = world(count, turned * TASTES, seed=seed + 1, begin=1_000)
    after = chosen_rate(state, rates, *new.halves(), Thinning(negatives, seed))
    tried = dict(after.tried)
    assert not tried or tried[after.taken] <= tried[STAYS]
    assert not tried or set(tried) == {STAYS, *rates}


def test_another_rate_leaves_what_is_said_and_the_same_rate_leaves_everything():
    rows = world(3_000, TASTES, seed=7)
    state = solved(rows)
    assert (state.at(RATES[0]).z == state.z).all()
    for rate in (0.001, 0.3, 5.0):
        np.testing.assert_allclose(state.at(rate).log_odds(rows), state.log_odds(rows), atol=1e-9)
    assert not np.allclose(gone_on(state, 0.3, world(9, TASTES, seed=1, begin=3_000)).weights, state.weights)
    assert state.rates.alpha == RATES[0]


def test_a_click_that_was_delivered_late_is_learnt_once_and_as_if_it_had_been_on_time():
    rows = world(2_000, TASTES, seed=8)
    place = int(np.flatnonzero(rows.clicked)[-1])
    clicked = rows.clicked.copy()
    clicked[place] = 0
    state = Ftrl.begin(Rates(l1=0.0, batch=1), HASHED, NAMES, rows)
    on_time, unaware = state.copy(), state.copy()
    on_time.learn(rows)
    unaware.learn(replace(rows, clicked=clicked))
    late = unaware.late(rows)
    assert late.times.tolist() == [rows.times[place]]
    mended = gone_on(Ftrl.unpack(unaware.packed()), unaware.rates.alpha, rows)
    apart = [float(np.abs(of.log_odds(rows) - on_time.log_odds(rows)).max()) for of in (unaware, mended)]
    assert apart[1] < 0.1 * apart[0]
    assert len(mended.late(rows)) == 0
    assert (gone_on(mended, mended.rates.alpha, rows).z == mended.z).all()
    assert mended.rows == len(rows)


def test_only_the_latest_are_remembered(monkeypatch):
    monkeypatch.setattr("twinloop.training.ftrl.REMEMBERED", 50)
    rows = world(1_000, TASTES, seed=9)
    state = solved(rows)
    np.testing.assert_array_equal(state.unclicked, rows.take(rows.clicked == 0).marks[-50:])
    assert len(np.unique(rows.marks)) == len(rows)
    every = state.late(replace(rows, clicked=np.ones_like(rows.clicked)))
    assert len(every) == 50
