"""Ads as the rails see them."""

import dataclasses
import subprocess
import sys

import pytest

from twinloop import systems
from twinloop.systems.ads.system import SYSTEM

LEAN = """
import sys
import twinloop.systems.ads.features
import twinloop.serving.collect
from twinloop import systems
systems.load("ads")
assert "twinloop.systems.ads.serve" not in sys.modules and "numpy" not in sys.modules
import twinloop.serving.service
heavy = {"pandas", "pyarrow", "duckdb", "torch", "xgboost", "sagemaker", "onnxruntime", "boto3"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_ads_are_found_by_their_name():
    system = systems.load("ads")
    assert system is SYSTEM
    assert (system.spec.name, system.spec.verb) == ("ads", "predictions")
    assert set(system.tables) == {"users", "items", "events"}
    assert system.strength({"type": "click"}) is None  # no histories are kept


def test_the_ladder_begins_at_the_trivial_baseline_and_climbs():
    rungs = systems.load("ads").spec.rungs
    assert [rung.name for rung in rungs] == ["base_rate", "logistic", "click_trees", "cross_network"]
    assert [rung.complexity for rung in rungs] == [0, 1, 2, 3]
    assert all(rung.needs == ("impressions",) for rung in rungs)


def test_ads_are_judged_by_impressions_in_slices_that_every_impression_is_in():
    system = systems.load("ads")
    assert system.outcomes.judged
    assert system.spec.split.strategy == "global"
    assert set(system.spec.gate.slices) == set(system.outcomes.slices_of({"known": {}}))
    assert system.predictions.guarded == ("click",)


def test_what_is_calibrated_live_is_a_chance_that_an_outcome_decides_by_facts_that_models_hear():
    system = systems.load("ads")
    live = system.predictions.live
    assert (live.label, live.facts) == ("click", system.outcomes.context)
    with pytest.raises(ValueError, match="like is calibrated live and not among the chances"):
        dataclasses.replace(system.predictions, live=dataclasses.replace(live, label="like"))
    predictions = dataclasses.replace(
        system.predictions, chances=("click", "like"), live=dataclasses.replace(live, label="like")
    )
    with pytest.raises(ValueError, match="no outcome says what came of it"):
        dataclasses.replace(system, predictions=predictions)


def test_nothing_heavy_is_imported_before_it_is_needed():
    subprocess.run([sys.executable, "-c", LEAN], check=True)
