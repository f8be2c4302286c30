"""Suggestions as the rails see them."""

import subprocess
import sys

import pytest

from twinloop import systems
from twinloop.systems.suggestions.features import STRENGTH_SQL, TYPES, amounts, strength, turned
from twinloop.systems.suggestions.system import SYSTEM

LEAN = """
import sys
import twinloop.systems.suggestions.features
import twinloop.serving.collect
from twinloop import systems
systems.load("suggestions")
assert "twinloop.systems.suggestions.serve" not in sys.modules and "numpy" not in sys.modules
import twinloop.serving.service, twinloop.systems.suggestions.serve
heavy = {"pandas", "pyarrow", "duckdb", "torch", "xgboost", "sagemaker", "onnxruntime", "boto3"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_suggestions_are_found_by_their_name():
    system = systems.load("suggestions")
    assert system is SYSTEM
    assert (system.spec.name, system.spec.verb) == ("suggestions", "recommendations")
    assert next(iter(system.presets)) == "balanced"
    assert system.examples is not None


def test_the_ladder_begins_at_the_trivial_baseline_and_climbs():
    rungs = systems.load("suggestions").spec.rungs
    assert [rung.name for rung in rungs] == ["distance_popularity", "event_logistic", "event_trees", "event_network"]
    assert [rung.complexity for rung in rungs] == [0, 1, 2, 3]


def test_nothing_heavy_is_imported_before_it_is_needed():
    subprocess.run([sys.executable, "-c", LEAN], check=True)


@pytest.mark.parametrize("kind", [*TYPES, "view"])
def test_rules_are_the_same_in_the_lake_and_online(kind):
    duckdb = pytest.importorskip("duckdb")
    system = systems.load("suggestions")
    columns = ", ".join((*system.counting.amounts_sql, STRENGTH_SQL))
    row = f"SELECT '{kind}' AS type, 'u' AS user_id, 'i' AS item_id, 'e' AS event_id, 1 AS time_ms"
    query = f"SELECT {columns} FROM ({row})"  # noqa: S608 - our own rules
    ((*counted, said),) = duckdb.sql(query).fetchall()
    assert tuple(counted) == turned(amounts({"type": kind}), ())
    assert said == strength({"type": kind})
