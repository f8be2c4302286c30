"""The four jobs of clicks, run as their documentation says, and their models asked as serving asks them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import clicks_folder
import numpy as np
import onnxruntime as ort
import pytest

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.evaluation.probability import calibration_ratio, log_loss
from twinloop.features.schema import schema_hash
from twinloop.training.clicks import open_clicks
from twinloop.training.ftrl import Ftrl
from twinloop.training.local import main as local

JOBS = Path(__file__).parents[2] / "training_jobs"
QUICK = {
    "base_rate": [],
    "logistic": [],
    "click_trees": ["--set", "rounds=60", "--set", "eta=0.2"],
    "cross_network": ["--set", "epochs=4", "--set", "learning_rate=0.005", "--set", "batch=128"],
}
FRAMEWORKS = {"base_rate": "numpy", "logistic": "numpy", "click_trees": "xgboost", "cross_network": "torch"}


def run(job: str, source: Path, out: Path, *told: str) -> int:
    return local([str(JOBS / job), "--snapshot", str(source), "--output", str(out), *told])


def read(folder: Path) -> ComponentManifest:
    return ComponentManifest.model_validate_json((folder / "click" / "manifest.json").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("job", QUICK)
def test_a_job_leaves_one_component_that_can_be_asked(job: str, tmp_path: Path) -> None:
    source, out = clicks_folder.simple(tmp_path / "snapshot", 10_000), tmp_path / "out"
    (source / "test" / "impressions.parquet").rename(tmp_path / "test.parquet")
    assert run(job, source, out, *QUICK[job]) == 0
    assert [folder.name for folder in out.iterdir()] == ["click"]
    manifest = read(out)
    assert (manifest.rung, manifest.framework, manifest.outputs) == (job, FRAMEWORKS[job], ("click",))
    trivial = job == "base_rate"
    assert manifest.inputs == (("ids",) if trivial else ("ids", "known"))
    assert manifest.hashed == clicks_folder.HASHED
    assert manifest.known_names == (() if trivial else clicks_folder.NAMES)
    assert manifest.schema_hash == schema_hash(() if trivial else clicks_folder.KNOWN[:2], clicks_folder.HASHED)
    assert manifest.parity.max_abs_diff <= 1e-4
    metrics = json.loads((out / "click" / "metrics.json").read_text())
    assert {"log_loss", "ne", "auc", "ece", "calibration_ratio", "validation_impressions"} <= set(metrics)

    (source / "test" / "impressions.parquet").write_bytes((tmp_path / "test.parquet").read_bytes())
    test = open_clicks(source).read("test")
    prior = json.loads((out / "click" / "prior.json").read_text())["click"]
    assert prior == pytest.approx(test.clicked.mean(), rel=0.15)
    model = ort.InferenceSession(out / "click" / "model.onnx")
    given = {"ids": test.ids, "known": test.known}
    (said,) = model.run(["click"], {name: given[name] for name in manifest.inputs})
    assert said.dtype == np.float32
    assert calibration_ratio(test.clicked, said) == pytest.approx(1, abs=0.12)
    base = log_loss(test.clicked, np.full(len(test), prior))
    assert log_loss(test.clicked, said) < base * (1.01 if trivial else 0.9)
    assert metrics["log_loss"] == pytest.approx(log_loss(test.clicked, said), rel=0.1)


def test_equal_snapshots_and_seeds_give_equal_bytes(tmp_path: Path) -> None:
    source = clicks_folder.simple(tmp_path / "snapshot", 2_000)
    for out in ("a", "b"):
        assert run("logistic", source, tmp_path / out, "--set", "alpha=0.05", "--set", "l1=1") == 0
    files = sorted(path.name for path in (tmp_path / "a" / "click").iterdir())
    assert files == ["ftrl.npz", "manifest.json", "metrics.json", "model.onnx", "prior.json"]
    for name in set(files) - {"manifest.json"}:  # that says how long it took
        assert (tmp_path / "a" / "click" / name).read_bytes() == (tmp_path / "b" / "click" / name).read_bytes()


def go_on(base: Path, source: Path, state: Path) -> subprocess.CompletedProcess[str]:
    """Run the logistic job as SageMaker would, with what an earlier run left in a channel of its own."""
    (base / "input" / "data" / "champion").mkdir(parents=True)
    (base / "input" / "data" / "champion" / "ftrl.npz").write_bytes(state.read_bytes())
    (base / "input" / "data" / "snapshot").symlink_to(source, target_is_directory=True)
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(base)}
    command = [sys.executable, str(JOBS / "logistic" / "train.py")]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_logistic_goes_on_from_its_champion(tmp_path: Path) -> None:
    rows, _ = clicks_folder.draw(9_000)
    days = [{name: values[begin : begin + 4_500] for name, values in rows.items()} for begin in (0, 4_500)]
    first = clicks_folder.write(tmp_path / "first", clicks_folder.part_of(days[0]))
    assert run("logistic", first, tmp_path / "out", "--set", "alpha=0.05", "--set", "l1=1") == 0
    state = tmp_path / "out" / "click" / "ftrl.npz"
    before = Ftrl.unpack(state.read_bytes())

    # The second snapshot holds the first day too: what was learnt is not learnt again.
    both = clicks_folder.write(tmp_path / "both", clicks_folder.part_of(rows))
    ran = go_on(tmp_path / "base", both, state)
    assert ran.returncode == 0, ran.stderr
    assert f"goes on from {before.rows} impressions" in ran.stdout
    after = Ftrl.unpack((tmp_path / "base" / "model" / "click" / "ftrl.npz").read_bytes())
    assert after.rates == before.rates
    learnt = open_clicks(both)
    early, later = learnt.train(), learnt.read("validation")
    new = [int((early.halves()[half].times > before.until_ms[half]).sum()) for half in (0, 1)]
    assert before.until_ms[1] < before.until_ms[0], "of one half the latest were kept to calibrate by"
    assert after.rows == before.rows + sum(new) + len(later.halves()[0])
    assert all(0 < count < 5_400 / 2 for count in new)
    assert after.until_ms == (later.halves()[0].times.max(), early.halves()[1].times.max())

    # Of the same snapshot there is nothing new; one whose parts begin earlier would be judged by what is learnt.
    again = tmp_path / "same" / "click"
    assert run("logistic", both, again.parent, "--champion", str(tmp_path / "base" / "model" / "click")) == 0
    assert Ftrl.unpack((again / "ftrl.npz").read_bytes()).rows == after.rows
    ran = go_on(tmp_path / "earlier", first, tmp_path / "base" / "model" / "click" / "ftrl.npz")
    assert ran.returncode == 1
    assert "has learnt from impressions that this snapshot calibrates or judges by" in ran.stderr
    (tmp_path / "none").mkdir()
    assert run("logistic", both, tmp_path / "no", "--champion", str(tmp_path / "none")) == 1

    def other(manifest):
        return manifest.model_copy(update={"known_features": clicks_folder.KNOWN[:1]})

    changed = clicks_folder.write(tmp_path / "changed", clicks_folder.part_of(days[1]), other)
    ran = go_on(tmp_path / "again", changed, state)
    assert ran.returncode == 1
    assert "the champion's state is of other ids or features" in ran.stderr
    assert not (tmp_path / "again" / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("job", QUICK)
def test_what_cannot_be_is_said_before_any_work(job: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = clicks_folder.write(tmp_path / "snapshot", {})
    assert run(job, source, tmp_path / "out", "--set", "speed=9") == 1
    assert "unknown hyperparameter speed; this job knows: " in capfd.readouterr().err
    assert run(job, source, tmp_path / "out") == 1
    assert "this rung learns from impressions; snapshot 0123456789abcdef has none" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("job", QUICK)
def test_without_validation_and_with_a_share_of_what_was_not_clicked(job: str, tmp_path: Path) -> None:
    rows, _ = clicks_folder.draw(3_000)
    source, out = clicks_folder.write(tmp_path / "snapshot", {"train": rows}), tmp_path / "out"
    told = [] if job == "base_rate" else ["--set", "negatives=0.5"]
    assert run(job, source, out, *QUICK[job], *told) == 0
    shown = open_clicks(source).train()
    manifest, model = read(out), ort.InferenceSession(out / "click" / "model.onnx")
    given = {"ids": shown.ids, "known": shown.known}
    (said,) = model.run(["click"], {name: given[name] for name in manifest.inputs})
    assert calibration_ratio(shown.clicked, said) == pytest.approx(1, abs=0.15)
    assert json.loads((out / "click" / "metrics.json").read_text())["validation_impressions"] == 0
