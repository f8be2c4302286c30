"""Who chooses a preset, and how likely it was."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.serving.presets import Chosen, choose
from twinloop.serving.problems import InvalidRequestError

NAMES = ("balanced", "watch_time", "fresh", "diverse")


@given(st.sampled_from(NAMES), st.text(), st.floats(0, 1))
def test_whoever_asks_for_a_preset_gets_it(name, seed, mix):
    assert choose(NAMES, name, seed, mix) == Chosen(name, 1.0, drawn=False)


@given(st.floats(0, 1))
def test_without_a_seed_it_is_the_first(mix):
    assert choose(NAMES, None, "", mix) == Chosen("balanced", 1.0, drawn=False)


@given(st.text(min_size=1))
def test_without_a_mix_the_policy_always_chooses_the_first(seed):
    assert choose(NAMES, None, seed, 0.0) == Chosen("balanced", 1.0, drawn=True)


def test_a_system_without_presets_has_none():
    assert choose((), None, "seed", 0.5) == Chosen(None, 1.0, drawn=False)
    with pytest.raises(InvalidRequestError, match="preset: is not known: this system has no presets"):
        choose((), "fresh", "seed", 0.5)


def test_an_unknown_preset_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidRequestError, match="preset: is not one of balanced, watch_time, fresh, diverse"):
        choose(NAMES, "loud", "seed", 0.5)


@pytest.mark.parametrize("mix", [0.04, 0.5, 1.0])
def test_propensities_are_frequencies(mix):
    rounds = 20_000
    drawn = [choose(NAMES, None, f"u\0{number}", mix) for number in range(rounds)]
    counts, said = Counter(chosen.name for chosen in drawn), {chosen.name: chosen.propensity for chosen in drawn}
    assert sum(said.values()) == pytest.approx(1.0)
    for name, propensity in said.items():
        assert abs(counts[name] / rounds - propensity) < 4.5 * np.sqrt(propensity * (1 - propensity) / rounds)
