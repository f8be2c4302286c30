"""The four jobs of clicks, run as their documentation says, and their models asked as serving asks them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import clicks_folder
import numpy as np
import onnxruntime as ort
import pytest

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.evaluation.probability import calibration_ratio, log_loss
from twinloop.features.schema import schema_hash
from twinloop.training.calibration import chances
from twinloop.training.click_graph import ask
from twinloop.training.clicks import Rows, open_clicks
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
    assert files == ["ftrl.npz", "ftrl_served.npz", "manifest.json", "metrics.json", "model.onnx", "prior.json"]
    for name in set(files) - {"manifest.json"}:  # that says how long it took
        assert (tmp_path / "a" / "click" / name).read_bytes() == (tmp_path / "b" / "click" / name).read_bytes()


STATES = ("ftrl.npz", "ftrl_served.npz")


def go_on(base: Path, source: Path, champion: Path) -> subprocess.CompletedProcess[str]:
    """Run the logistic job as SageMaker would, with what an earlier run left in a channel of its own."""
    (base / "input" / "data").mkdir(parents=True)
    for name, folder in (("champion", champion), ("snapshot", source)):
        (base / "input" / "data" / name).symlink_to(folder, target_is_directory=True)
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(base)}
    command = [sys.executable, str(JOBS / "logistic" / "train.py")]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def states(folder: Path) -> tuple[Ftrl, Ftrl]:
    """What has not met the rows that calibrate, and what serves."""
    first, second = (Ftrl.unpack((folder / name).read_bytes()) for name in STATES)
    return first, second


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A snapshot of one day, one of that day and the next, when all tastes have turned, and a champion of the first."""
    folder = tmp_path_factory.mktemp("days")
    rows, _ = clicks_folder.draw(9_000)
    rows["label_click"][4_500:] = 1 - rows["label_click"][4_500:]
    day = {name: values[:4_500] for name, values in rows.items()}
    first = clicks_folder.write(folder / "first", clicks_folder.part_of(day))
    both = clicks_folder.write(folder / "both", clicks_folder.part_of(rows))
    assert run("logistic", first, folder / "out", "--set", "l1=1") == 0
    return first, both, folder / "out" / "click"


@pytest.mark.slow
def test_logistic_goes_on_from_its_champion(two_days: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, both, champion = two_days
    before, served = states(champion)
    # The second snapshot holds the first day too: what was learnt is not learnt again.
    ran = go_on(tmp_path / "base", both, champion)
    assert ran.returncode == 0, ran.stderr
    assert f"goes on from {before.rows} impressions" in ran.stdout
    component = tmp_path / "base" / "model" / "click"
    after, serves = states(component)
    metrics = json.loads((component / "metrics.json").read_text())
    assert metrics["learning_rate"] == after.taken == serves.taken == after.rates.alpha > 0
    assert metrics[f"log_loss_at_{after.taken:g}"] < metrics["log_loss_at_0"] - 0.01
    assert after.tried == tuple((rate, metrics[f"log_loss_at_{rate:g}"]) for rate in (0, 0.01, 0.05, 0.2))
    manifest = read(component.parent)
    assert manifest.hyperparameters["going_on"] == f"went on at a learning rate of {after.taken:g}"
    assert replace(after.rates, alpha=1) == replace(before.rates, alpha=1)
    learnt = open_clicks(both)
    early, later = learnt.train(), learnt.read("validation")
    new = [int((early.halves()[half].times > before.until_ms[half]).sum()) for half in (0, 1)]
    assert before.until_ms[1] < before.until_ms[0], "of one half the latest were kept to calibrate by"
    assert after.rows == before.rows + sum(new) + len(later.halves()[0])
    assert all(0 < count < 5_400 / 2 for count in new)
    assert after.until_ms == (later.halves()[0].times.max(), early.halves()[1].times.max())
    # What serves has met every impression once.
    assert served.rows == len(open_clicks(first).train()) + len(open_clicks(first).read("validation"))
    assert serves.rows == served.rows + len(Rows.join(early, later).later(served.until_ms))
    assert serves.until_ms == tuple(half.times.max() for half in later.halves())
    # It is what serves that the release is made of.
    test = learnt.read("test")
    said = ask(ort.InferenceSession(component / "model.onnx"), test)
    assert log_loss(test.clicked, said) < log_loss(test.clicked, chances(served.log_odds(test))) - 0.01
    order = np.argsort(serves.log_odds(test), kind="stable")
    assert (np.diff(said[order]) >= -1e-6).all()


def test_logistic_stays_where_nothing_speaks_for_going_on(two_days: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Of the same snapshot there is nothing new: the release is another one, and says what its champion says."""
    first, _, champion = two_days
    ran = go_on(tmp_path / "base", first, champion)
    assert ran.returncode == 0, ran.stderr
    assert "stayed as it was" in ran.stdout
    component = tmp_path / "base" / "model" / "click"
    for before, after in zip(states(champion), states(component), strict=True):
        assert (after.z == before.z).all()
        assert (after.rows, after.until_ms, after.taken) == (before.rows, before.until_ms, 0)
    manifest = read(component.parent)
    assert manifest.hyperparameters["going_on"] == "stayed as it was: nothing came"
    assert manifest.parity.max_abs_diff <= 1e-4
    metrics = json.loads((component / "metrics.json").read_text())
    assert metrics["learning_rate"] == 0
    test = open_clicks(first).read("test")
    said = [ask(ort.InferenceSession(folder / "model.onnx"), test) for folder in (champion, component)]
    np.testing.assert_array_equal(*said)


@pytest.mark.slow
def test_logistic_refuses_to_go_on_from_what_does_not_fit(two_days: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, both, champion = two_days
    assert run("logistic", both, tmp_path / "later") == 0
    ran = go_on(tmp_path / "earlier", first, tmp_path / "later" / "click")
    assert ran.returncode == 1
    assert "has learnt from impressions that this snapshot calibrates or judges by" in ran.stderr
    (tmp_path / "none").mkdir()
    assert run("logistic", both, tmp_path / "no", "--champion", str(tmp_path / "none")) == 1

    def other(manifest):
        return manifest.model_copy(update={"known_features": clicks_folder.KNOWN[:1]})

    day = clicks_folder.part_of(clicks_folder.draw(4_500)[0])
    changed = clicks_folder.write(tmp_path / "changed", day, other)
    ran = go_on(tmp_path / "again", changed, champion)
    assert ran.returncode == 1
    assert "the champion's state is of other ids or features" in ran.stderr
    assert not (tmp_path / "again" / "model").exists()
    assert run("logistic", first, tmp_path / "fast", "--set", "alpha=0.1,0") == 1


def test_logistic_goes_on_with_the_share_of_what_was_not_clicked_that_it_began_with(
    two_days: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its log-odds are shifted by that share; learning rows of another one would mix two shifts."""
    first, both, whole = two_days
    assert run("logistic", first, tmp_path / "thin", "--set", "negatives=0.1") == 0
    thin = tmp_path / "thin" / "click"
    assert [state.negatives for state in states(thin)] == [0.1, 0.1]
    for champion, told, began in ((thin, (), "0.1"), (whole, ("--set", "negatives=0.1"), "1")):
        assert run("logistic", both, tmp_path / f"no{began}", "--champion", str(champion), *told) == 1
        assert f"the champion has learnt from {began} of what was not clicked" in capfd.readouterr().err
    same = ("--set", "negatives=0.1")
    assert run("logistic", both, tmp_path / "yes", "--champion", str(thin), *same) == 0
    assert [state.negatives for state in states(tmp_path / "yes" / "click")] == [0.1, 0.1]


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
