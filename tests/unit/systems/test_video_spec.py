"""Video as the rails see it."""

import subprocess
import sys

from twinloop import systems
from twinloop.systems import video

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
    assert system is video.SYSTEM
    assert system.spec.name == "video"
    assert system.spec.gate.primary == "ndcg@10"
    assert set(system.tables) == {"users", "items", "events"}
    assert system.strength({"type": "like"}) == 1.0


def test_the_ladder_begins_at_the_trivial_baseline_and_climbs():
    steps = [rung.complexity for rung in systems.load("video").spec.rungs]
    assert steps[0] == 0
    assert steps == sorted(set(steps))


def test_nothing_heavy_is_imported_before_it_is_needed():
    subprocess.run([sys.executable, "-c", LEAN], check=True)
