"""The policy of ads: caps, budgets, order, and what is left to chance."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.systems.ads.policy import held_back, participation, ranking, values, within_caps
from twinloop.systems.ads.presets import DEFAULT, PRESETS, Preset

PLAIN = Preset("for tests")


def test_an_ad_or_a_campaign_that_was_seen_often_enough_is_left_out():
    shown, of_campaign = np.array([0, 4, 5, 2, 9]), np.array([0, 14, 5, 15, 99])
    assert within_caps(shown, of_campaign, PLAIN).all()
    assert within_caps(shown, of_campaign, Preset("", per_ad=5)).tolist() == [True, True, False, True, False]
    assert within_caps(shown, of_campaign, Preset("", per_campaign=15)).tolist() == [True, True, True, False, False]
    both = within_caps(shown, of_campaign, Preset("", per_ad=5, per_campaign=15))
    assert both.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("spent", "budget", "rate"),
    [
        (0.0, 10.0, 1.0),
        (8.0, 10.0, 1.0),
        (9.0, 10.0, 0.5),
        (9.5, 10.0, 0.25),
        (10.0, 10.0, 0.0),
        (12.0, 10.0, 0.0),
        (0.0, 0.0, 0.0),  # no money is spent money
        (99.0, -1.0, 1.0),  # no budget is no limit
    ],
)
def test_an_ad_takes_part_less_as_its_budget_runs_out(spent, budget, rate):
    found = participation(np.array([spent], np.float32), np.array([budget], np.float32), PLAIN)
    assert found.tolist() == pytest.approx([rate], abs=1e-6)


def test_without_a_brake_a_budget_is_spent_to_its_end():
    rates = participation(np.array([9.9, 10.0]), np.array([10.0, 10.0]), Preset("", slow_from=1.0))
    assert rates.tolist() == [1.0, 0.0]


def test_as_many_are_held_back_as_the_rates_say():
    rates = np.repeat([0.0, 0.25, 1.0], 20_000)
    held = held_back(rates, np.random.default_rng(1)).reshape(3, -1).mean(axis=1)
    assert held.tolist() == pytest.approx([1.0, 0.75, 0.0], abs=0.015)


def best(click, bids, **more):
    click, bids = np.array(click, np.float32), np.array([np.nan if b is None else b for b in bids])
    open_ = np.array(more.pop("open_", [True] * len(click)))
    return ranking(click, values(click, bids), open_, limit=more.pop("limit", 99), **more)


def test_the_order_is_that_of_expected_values():
    assert best([0.1, 0.2, 0.3], [5.0, 1.0, 1.0]).places.tolist() == [0, 2, 1]
    assert best([0.1, 0.2, 0.3], [5.0, 1.0, 1.0], limit=2).places.tolist() == [0, 2]
    assert best([0.1, 0.2, 0.3], [5.0, 1.0, 1.0], open_=[False, True, True]).places.tolist() == [2, 1]


def test_without_bids_the_order_is_that_of_clicks_and_after_those_with_bids():
    assert best([0.1, 0.3, 0.2], [None] * 3).places.tolist() == [1, 2, 0]
    assert best([0.1, 0.9, 0.2, 0.8], [0.0, None, 1.0, None]).places.tolist() == [2, 0, 1, 3]


def test_equal_ads_keep_their_order():
    assert best([0.1] * 4, [1.0] * 4).places.tolist() == [0, 1, 2, 3]


def test_nothing_may_be_shown_where_nothing_is_open():
    found = best([0.5], [1.0], open_=[False], explore=0.5, random=np.random.default_rng(0))
    assert (found.places.tolist(), found.propensities) == ([], None)


def test_nothing_is_left_to_chance_unless_it_is_asked_for():
    assert best([0.1, 0.2], [None, None], explore=0.5).propensities is None
    assert best([0.1, 0.2], [None, None], random=np.random.default_rng(0)).propensities is None


def test_propensities_are_how_often_an_ad_has_its_place():
    """Counted over many draws: of each pair of ad and place, its frequency is the propensity that is told with it."""
    click, draws = [0.1, 0.4, 0.3, 0.2], 20_000
    counts, said = Counter(), {}
    for seed in range(draws):
        found = best(click, [None] * 4, limit=3, explore=0.4, random=np.random.default_rng(seed))
        for place, (ad, propensity) in enumerate(zip(found.places.tolist(), found.propensities.tolist(), strict=True)):
            counts[ad, place] += 1
            assert said.setdefault((ad, place), propensity) == propensity
    assert len(counts) == 12
    for pair, count in counts.items():
        assert count / draws == pytest.approx(said[pair], abs=0.015)
    assert sum(said.values()) == pytest.approx(3)  # of each place, one ad has it
    assert said[1, 0] == pytest.approx(0.6 + 0.1)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(0, 100), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 40),
    st.floats(0, 1),
    st.integers(0, 5) | st.none(),
)
def test_an_answer_holds_open_ads_once_and_no_more_than_asked_for(ads, limit, explore, seed):
    click, bids, open_ = zip(*ads, strict=True)
    random = None if seed is None else np.random.default_rng(seed)
    found = best(click, bids, open_=list(open_), limit=limit, explore=explore, random=random)
    places = found.places.tolist()
    assert len(places) == len(set(places)) == min(limit, sum(open_))
    assert all(open_[place] for place in places)
    if found.propensities is not None:
        assert len(found.propensities) == len(places)
        assert ((found.propensities > 0) & (found.propensities <= 1 + 1e-12)).all()


def test_presets_say_what_they_are_for_and_the_default_leaves_nothing_to_chance():
    assert next(iter(PRESETS)) == DEFAULT == "balanced"
    assert all(preset.purpose.endswith(".") for preset in PRESETS.values())
    assert PRESETS["balanced"].explore == 0 < PRESETS["explore"].explore
    assert PRESETS["no_cap"].per_ad == PRESETS["no_cap"].per_campaign == 0
