"""Off-policy estimators: exact on small cases, near the truth on simulated ones, equal to the Open Bandit package's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.errors import BadInputError
from twinloop.evaluation.off_policy import Rounds, direct, doubly_robust, inverse_propensity, self_normalised

ACTIONS = 4


@st.composite
def logs(draw):
    """Rounds of a random serving policy, another policy, and a model of the reward, per action."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(2, 60))
    serving = random.dirichlet(np.ones(ACTIONS), count)
    other = random.dirichlet(np.ones(ACTIONS), count)
    actions = np.array([random.choice(ACTIONS, p=row) for row in serving])
    rewards = random.normal(0.3, 1.0, count)
    return serving, other, actions, rewards, random.normal(0.3, 0.5, (count, ACTIONS))


def of_shown(values, actions):
    return values[np.arange(len(actions)), actions]


def rounds_of(serving, other, actions, rewards):
    return Rounds(rewards, of_shown(serving, actions), of_shown(other, actions))


@settings(max_examples=40)
@given(logs())
def test_estimates_are_those_of_the_open_bandit_package(log):
    from obp.ope import estimators  # importing it takes seconds, which the other tests need not wait for

    serving, other, actions, rewards, model = log
    rounds = rounds_of(serving, other, actions, rewards)
    theirs = {
        "reward": rewards, "action": actions, "pscore": of_shown(serving, actions),
        "action_dist": other[:, :, None], "estimated_rewards_by_reg_model": model[:, :, None],
    }  # fmt: skip
    expected = (other * model).sum(axis=1)
    ours = {
        "InverseProbabilityWeighting": inverse_propensity(rounds),
        "SelfNormalizedInverseProbabilityWeighting": self_normalised(rounds),
        "DirectMethod": direct(expected),
        "DoublyRobust": doubly_robust(rounds, expected, of_shown(model, actions)),
    }
    for name, interval in ours.items():
        assert interval.mean == pytest.approx(getattr(estimators, name)().estimate_policy_value(**theirs), abs=1e-9)
        assert interval.low <= interval.mean <= interval.high


@settings(max_examples=40)
@given(logs())
def test_a_policy_evaluated_on_its_own_rounds_earned_what_it_earned(log):
    serving, _, actions, rewards, model = log
    rounds = rounds_of(serving, serving, actions, rewards)
    assert inverse_propensity(rounds).mean == pytest.approx(rewards.mean())
    assert self_normalised(rounds).mean == pytest.approx(rewards.mean())
    assert rounds.effective == pytest.approx(len(rewards))
    shown = of_shown(model, actions)
    assert doubly_robust(rounds, shown, shown).mean == pytest.approx(rewards.mean())


def test_the_truth_of_a_simulated_policy_lies_in_the_intervals():
    random = np.random.default_rng(3)
    count, truth = 40_000, np.array([0.05, 0.1, 0.2, 0.4])
    serving, other = np.tile([0.4, 0.3, 0.2, 0.1], (count, 1)), np.tile([0.1, 0.2, 0.3, 0.4], (count, 1))
    actions = random.choice(ACTIONS, count, p=serving[0])
    rewards = (random.random(count) < truth[actions]).astype(float)
    rounds = rounds_of(serving, other, actions, rewards)
    wanted = float(other[0] @ truth)
    wrong = np.tile(truth * 0.5, (count, 1))  # a model of the reward that is off by half
    expected = (other * wrong).sum(axis=1)
    for interval in (
        inverse_propensity(rounds),
        self_normalised(rounds),
        doubly_robust(rounds, expected, wrong[0][actions]),
    ):
        assert interval.low < wanted < interval.high
        assert interval.high - interval.low < 0.03
    assert direct(expected).high < wanted
    assert rounds.effective < count


def test_clipped_weights_vary_less_and_lean_to_nothing():
    rounds = Rounds([1.0, 1.0, 1.0, 0.0], [0.01, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5])
    assert inverse_propensity(rounds).mean == pytest.approx(13.0)
    assert inverse_propensity(rounds, clip=2.0).mean == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rewards", "propensities", "probabilities", "told"),
    [
        ([], [], [], "at least one round"),
        ([1.0], [0.0], [0.5], "over 0 and at most 1"),
        ([1.0], [1.5], [0.5], "over 0 and at most 1"),
        ([1.0], [0.5], [1.5], "from 0 to 1"),
        ([1.0, 0.0], [0.5], [0.5, 0.5], "propensities has the shape"),
        ([float("nan")], [0.5], [0.5], "not finite"),
    ],
)
def test_rounds_that_cannot_be_are_refused(rewards, propensities, probabilities, told):
    with pytest.raises(BadInputError, match=told):
        Rounds(rewards, propensities, probabilities)


def test_a_policy_that_would_have_shown_none_of_it_cannot_be_evaluated():
    rounds = Rounds([1.0, 0.0], [0.5, 0.5], [0.0, 0.0])
    with pytest.raises(BadInputError, match="say nothing of it"):
        self_normalised(rounds)
    assert rounds.effective == 0.0
