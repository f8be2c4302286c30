"""The multi-task job, run as its own documentation says, and its three models asked as serving asks them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import shown_folder
import snapshot_folder

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.features.schema import schema_hash
from twinloop.training.local import main as local

JOBS = Path(__file__).parents[2] / "training_jobs"
JOB = JOBS / "multitask_ranker"
QUICK = ["--set", "epochs=2", "--set", "lesson_epochs=1", "--set", "rounds=20"]


def run(source: Path, out: Path, *told: str, job: Path = JOB) -> int:
    return local([str(job), "--snapshot", str(source), "--output", str(out), *told])


@pytest.mark.slow
def test_the_job_leaves_three_components_that_fit_together(tmp_path: Path) -> None:
    rows = shown_folder.draw()
    source, out = shown_folder.write(tmp_path / "snapshot", shown_folder.halves(rows)), tmp_path / "out"
    assert run(source, out, *QUICK) == 0
    manifests = {
        folder.name: ComponentManifest.model_validate_json((folder / "manifest.json").read_bytes())
        for folder in out.iterdir()
    }
    assert set(manifests) == {"retrieval", "ranking", "engagement"}
    assert {manifest.rung for manifest in manifests.values()} == {"multitask_ranker"}
    engagement = manifests["engagement"]
    assert engagement.framework == "torch"
    assert engagement.inputs == ("known", "items", "history", "times", "at")
    assert engagement.outputs == ("click", "long_watch", "watch_s")
    # Only features that are single numbers, and their definitions are what the hash is of.
    assert engagement.known_names == shown_folder.NAMES
    assert engagement.schema_hash == schema_hash(shown_folder.KNOWN[:2])
    assert set(engagement.feature_versions) == set(shown_folder.NAMES)
    assert engagement.parity.max_abs_diff <= 1e-4
    assert engagement.parity.rows > 0
    metrics = json.loads((out / "engagement" / "metrics.json").read_text())
    wanted = {"click_auc", "long_watch_auc", "watch_mae_s", "watch_xauc", "click_calibration", "epochs"}
    assert wanted <= set(metrics)
    assert metrics["validation_impressions"] == 240

    # What retrieval returns is what engagement is asked about.
    own, times = np.arange(0, 12, 2), shown_folder.START_MS // 1000 + np.arange(6)
    context = np.zeros(len(manifests["retrieval"].context_names), np.float32)
    asked = {"history": own, "times": times, "exclude": own, "context": context}
    items, features = ort.InferenceSession(out / "retrieval" / "model.onnx").run(["items", "features"], asked)
    (scores,) = ort.InferenceSession(out / "ranking" / "model.onnx").run(["scores"], {"features": features})
    known = np.stack([rows["item_rate"][:1].repeat(len(items)), np.full(len(items), 10.0)], axis=1)
    asked = {"known": known.astype(np.float32), "items": items, "history": own, "times": times}
    model = ort.InferenceSession(out / "engagement" / "model.onnx")
    said = model.run(None, asked | {"at": times[-1:] + 60})
    assert all(np.isfinite(tensor).all() and tensor.shape == scores.shape for tensor in said)

    # Retrieval and ranking are those of xgboost_trees.
    assert run(source, tmp_path / "trees", "--set", "rounds=20", job=JOBS / "xgboost_trees") == 0
    for name in ("retrieval", "ranking"):
        files = [folder / name / "model.onnx" for folder in (out, tmp_path / "trees")]
        assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1


@pytest.mark.slow
def test_nothing_shown_ends_with_what_to_do(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [("u", f"i{n}", n, 1.0) for n in range(8)]
    source = snapshot_folder.write(tmp_path / "snapshot", rows, titles={"i0": "First"})
    assert run(source, tmp_path / "out") == 1
    assert "this rung learns from impressions; snapshot 0123456789abcdef has none to train on" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_too_few_likes_for_trees_end_as_in_xgboost_trees(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = shown_folder.write(tmp_path / "snapshot", {"train": shown_folder.draw(users=2, each=4)}, users=2)
    few = [("u0", "i00", shown_folder.START_MS, 1.0)]
    snapshot_folder.write(tmp_path / "few", few, titles={"i00": "First"})
    for split in ("train", "validation"):
        kept = (tmp_path / "few" / split / "interactions.parquet").read_bytes()
        (source / split / "interactions.parquet").write_bytes(kept)
    reasons = []
    for job in (JOB, JOBS / "xgboost_trees"):
        told = QUICK if job == JOB else []
        assert run(source, tmp_path / "out", *told, job=job) == 1
        reasons.append(capfd.readouterr().err.strip().rpartition(": no user")[2])
    assert reasons[0] == reasons[1] != ""


def test_a_width_that_heads_do_not_divide_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = shown_folder.write(tmp_path / "snapshot", {"train": shown_folder.draw(users=2, each=4)}, users=2)
    assert run(source, tmp_path / "out", "--set", "dim=10") == 1
    assert "dim='10': Input should be a multiple of 4" in capfd.readouterr().err
