"""Video as the rails see it."""

import bisect
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest
from pydantic import ValidationError

from twinloop import systems
from twinloop.contracts.spec import SystemSpec
from twinloop.errors import BadInputError, NotFoundError
from twinloop.evaluation.messages import JudgeRequest
from twinloop.ingest.names import parse_raw_key
from twinloop.registry.names import check_system
from twinloop.systems.video.system import SYSTEM
from twinloop.training import linear, sources
from twinloop.training.two_tower_graph import check_size

ROOT = Path(__file__).resolve().parents[3]

LEAN = """
import sys
import twinloop.systems.video.features
assert "twinloop.systems.video.serve" not in sys.modules and "numpy" not in sys.modules
import twinloop.serving.service, twinloop.serving.collect
from twinloop import systems
systems.load("video")
heavy = {"pandas", "pyarrow", "duckdb", "torch", "xgboost", "sagemaker", "onnxruntime", "boto3"} & set(sys.modules)
assert not heavy, heavy
"""


def test_video_is_found_by_its_name():
    system = systems.load("video")
    assert system is SYSTEM
    assert system.spec.name == "video"
    assert system.spec.gate.primary == "ndcg@10"
    assert set(system.tables) == {"users", "items", "events"}
    assert system.strength({"type": "like"}) == 1.0


def test_the_ladder_begins_at_the_trivial_baseline_and_climbs():
    steps = [rung.complexity for rung in systems.load("video").spec.rungs]
    assert steps[0] == 0
    assert steps == sorted(set(steps))


def largest(fits):
    """The greatest number of thousands of items that fit."""
    sizes = range(1000, 1_000_000, 1000)
    return sizes[bisect.bisect_left(sizes, True, key=lambda items: not fits(items)) - 1]


def test_the_sizes_that_the_card_promises_are_those_of_the_code():
    told = systems.load("video").spec.requirements
    module = runpy.run_path(str(ROOT / "training_jobs" / "two_tower" / "train.py"))
    job, many = module["Config"](), module["MANY_ITEMS"]

    def fits(items):
        try:
            check_size(items, job.dim, job.pairs(items))
        except BadInputError:
            return False
        return True

    assert f"the trees {sources.MAX_ITEMS:,} and EASE {linear.MAX_ITEMS:,}" in told
    assert f"two towers {largest(fits):,}, in three pairs up to {many:,} and one beyond" in told
    assert [job.pairs(many), job.pairs(many + 1)] == [3, 1]


@pytest.mark.parametrize("name", ["Video", "1video", "video_two", "", "a" * 32, "../video", "video/../ads", "vidéo"])
def test_a_name_that_no_system_can_have_is_refused_everywhere_alike(name):
    with pytest.raises(NotFoundError, match="is no system's name"):
        systems.load(name)
    with pytest.raises(BadInputError):
        check_system(name)
    with pytest.raises(BadInputError):
        parse_raw_key(f"raw/{name}/events/a.jsonl")
    with pytest.raises(ValidationError):
        SystemSpec.model_validate(systems.load("video").spec.model_dump() | {"name": name})
    with pytest.raises(ValidationError):
        JudgeRequest(system="video", snapshot_key=f"snapshots/{name}/abc/", results=())


@pytest.mark.parametrize("name", ["video", "short-clips", "a1", "a" * 31])
def test_a_name_that_a_system_can_have_is_taken_everywhere_alike(name):
    assert check_system(name) == name
    assert parse_raw_key(f"raw/{name}/events/a.jsonl").system == name
    assert SystemSpec.model_validate(systems.load("video").spec.model_dump() | {"name": name}).name == name
    assert JudgeRequest(system=name, snapshot_key=f"snapshots/{name}/abc/", results=()).system == name


def test_a_hyphen_in_a_systems_name_is_an_underscore_in_its_packages(monkeypatch):
    package = types.ModuleType("twinloop.systems.short_clips.system")
    package.SYSTEM = object()
    monkeypatch.setitem(sys.modules, "twinloop.systems.short_clips", types.ModuleType("twinloop.systems.short_clips"))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    assert systems.load("short-clips") is package.SYSTEM
    with pytest.raises(NotFoundError, match="there is no system 'long-clips'"):
        systems.load("long-clips")


def test_nothing_heavy_is_imported_before_it_is_needed():
    subprocess.run([sys.executable, "-c", LEAN], check=True)
