"""Hyperparameters arrive as strings, often as JSON in strings, among the toolkit's own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from twinloop.errors import BadInputError
from twinloop.training.config import Floats, JobConfig, parse_hyperparameters


class Config(JobConfig):
    rounds: int = Field(10, ge=1)
    name: str = "plain"
    l2: Floats = (1.0,)


@given(st.integers(1, 10**6), st.text(max_size=20), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_values_survive_the_way_through_the_sdk(rounds: int, name: str, l2: list[float]) -> None:
    listed = ",".join(map(repr, l2))
    sent = {"rounds": json.dumps(str(rounds)), "name": json.dumps(name), "l2": json.dumps(listed)}
    config = parse_hyperparameters(sent, Config)
    assert (config.rounds, config.name, config.l2) == (rounds, name, tuple(l2))


def test_the_toolkits_own_settings_are_none_of_the_jobs() -> None:
    config = parse_hyperparameters({"sagemaker_program": '"train.py"', "seed": "7"}, Config)
    assert config == Config(seed=7)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInputError, match=r"unknown hyperparameter epohs, rouns; .*: l2, name, rounds, seed"):
        parse_hyperparameters({"rouns": "3", "epohs": "1"}, Config)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rounds", "many"), ("rounds", "0"), ("rounds", "2.5"), ("l2", ""), ("l2", "1,x"), ("seed", "-1"), ("seed", "")],
)
def test_a_value_that_does_not_fit_is_named(name: str, value: str) -> None:
    with pytest.raises(BadInputError, match=f"hyperparameter {name}"):
        parse_hyperparameters({name: value}, Config)
