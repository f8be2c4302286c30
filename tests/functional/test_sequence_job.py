"""The sequence job as SageMaker runs it: the toolkit starts train.py out of its bundle, on another base folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import snapshot_folder
from snapshot_folder import Row

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.training.bundle import build_source_bundle
from twinloop.training.local import main as local

JOB = Path(__file__).parents[2] / "training_jobs" / "sequence"
START_MS = 1_700_000_000_000
ITEMS, SHORT = 24, ["--set", "epochs=3", "--set", "check_every=1"]


def walks(folder: Path, users: int = 60) -> Path:
    """Users who walk around the catalogue from where they happen to begin; the last two steps are validation."""
    train: list[Row] = []
    validation: list[Row] = []
    for user in range(users):
        rows = [(f"u{user}", f"i{(user + step) % ITEMS:02}", START_MS + 60_000 * step, 1.0) for step in range(12)]
        train += [*rows[:10], (f"u{user}", f"i{(user + 15) % ITEMS:02}", START_MS + 1, 0.0)]  # seen, not liked
        validation += rows[10:]
    titles = {f"i{item:02}": f"Title {item}" for item in range(ITEMS)} | {"never-liked": "Nobody's favourite"}
    return snapshot_folder.write(folder, train, validation, titles=titles)


def under_toolkit(base: Path, source: Path, **told: object) -> tuple[int, str]:
    """Stage a base folder and start the job with the toolkit's own `train`; returns its exit code and the reason."""
    config = base / "input" / "config"
    for folder in (config, base / "input" / "data", base / "model", base / "output", base / "code"):
        folder.mkdir(parents=True)
    shutil.copytree(source, base / "input" / "data" / "snapshot")
    bundle = base / "sourcedir.tar.gz"
    bundle.write_bytes(build_source_bundle(JOB))
    told |= {"sagemaker_program": "train.py", "sagemaker_submit_directory": str(bundle)}
    (config / "hyperparameters.json").write_text(json.dumps({name: json.dumps(value) for name, value in told.items()}))
    (config / "inputdataconfig.json").write_text(json.dumps({"snapshot": {"TrainingInputMode": "File"}}))
    here = {"current_host": "localhost", "hosts": ["localhost"], "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(here))
    own = {"SAGEMAKER_BASE_DIR": str(base), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    toolkit = Path(sys.executable).with_name("train")
    ended = subprocess.run(
        [toolkit], env={**os.environ, **own}, capture_output=True, text=True, timeout=240, check=False
    )
    print(ended.stdout, ended.stderr)
    failure = base / "output" / "failure"
    return ended.returncode, failure.read_text() if failure.exists() else ""


@pytest.mark.slow
def test_the_job_leaves_a_retrieval_model_that_knows_what_comes_next(tmp_path: Path) -> None:
    source = walks(tmp_path / "snapshot")
    ended = under_toolkit(tmp_path / "ml", source, epochs=120, check_every=40, learning_rate=0.01, window=1)
    assert ended == (0, "")
    (folder,) = (tmp_path / "ml" / "model").iterdir()
    manifest = ComponentManifest.model_validate_json((folder / "manifest.json").read_bytes())
    assert (manifest.component, manifest.rung, manifest.framework) == ("retrieval", "sequence", "torch")
    assert (manifest.inputs, manifest.outputs) == (("history", "times", "exclude"), ("items", "scores"))
    assert manifest.parity.max_abs_diff <= 1e-4
    assert manifest.parity.rows > 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["ndcg@10"] > 0.5
    assert metrics["validation_users"] == 60

    beside = json.loads(gzip.decompress((folder / "items.json.gz").read_bytes()))
    assert beside["item_ids"] == [f"i{item:02}" for item in range(ITEMS)]
    model = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    history, times = np.arange(4, 12), START_MS // 1000 + 60 * np.arange(8)
    items, scores = model.run(["items", "scores"], {"history": history, "times": times, "exclude": history})
    assert items[0] == 12
    assert set(items[np.isfinite(scores)].tolist()) == set(range(ITEMS)) - set(range(4, 12))


def test_an_unknown_hyperparameter_fails_at_once_and_names_the_known_ones(tmp_path: Path) -> None:
    code, reason = under_toolkit(tmp_path / "ml", walks(tmp_path / "snapshot", users=4), learning_rat=0.1)
    assert code != 0
    assert "unknown hyperparameter learning_rat" in reason
    assert "history_dropout" in reason
    assert not list((tmp_path / "ml" / "model").iterdir())


def test_heads_that_do_not_divide_the_dimensions_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = walks(tmp_path / "snapshot", users=4)
    told = ["--set", "dim=9", "--set", "heads=2"]
    assert local([str(JOB), "--snapshot", str(source), "--output", str(tmp_path / "out"), *told]) == 1
    assert "dim=9 is not a multiple of heads=2" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_same_snapshot_and_seed_give_the_same_model(tmp_path: Path) -> None:
    source = walks(tmp_path / "snapshot", users=20)
    hashes = []
    for place in ("first", "second"):
        assert local([str(JOB), "--snapshot", str(source), "--output", str(tmp_path / place), *SHORT]) == 0
        hashes.append(hashlib.sha256((tmp_path / place / "retrieval" / "model.onnx").read_bytes()).hexdigest())
    assert hashes[0] == hashes[1]


LITTLE: dict[str, tuple[list[Row], list[Row]]] = {
    "one user": ([("u", f"i{n}", n, 1.0) for n in range(8)], [("u", "i8", 9, 1.0)]),
    "one item": ([(f"u{n}", "a", n, 1.0) for n in range(8)], []),
    "one event": ([("u", "a", 1, 1.0)], []),
    "items only in validation": ([("u", "a", 1, 1.0), ("u", "b", 2, 1.0)], [("u", "c", 3, 1.0)]),
    "nothing liked": ([("u", "a", 1, 0.0)], []),
}
REASONS = ("no user liked one item and later another", "no positive event to train on")


@pytest.mark.slow
@pytest.mark.parametrize("case", LITTLE)
def test_little_data_gives_a_model_or_a_reason(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = snapshot_folder.write(tmp_path / "snapshot", *LITTLE[case], titles={"i0": "First", "a": "A"})
    code = local([str(JOB), "--snapshot", str(source), "--output", str(tmp_path / "out"), *SHORT])
    said = capfd.readouterr().err
    if code:
        assert any(reason in said for reason in REASONS)
        assert not (tmp_path / "out").exists()
        return
    model = ort.InferenceSession(tmp_path / "out" / "retrieval" / "model.onnx", providers=["CPUExecutionProvider"])
    one = np.zeros(1, dtype=np.int64)
    assert not np.isnan(model.run(["scores"], {"history": one, "times": one, "exclude": one})[0]).any()
