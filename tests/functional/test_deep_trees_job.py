"""The tree ranker with deep columns, run as its own documentation says, and asked as serving asks it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import snapshot_folder
from snapshot_folder import FEATURES, Row

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.training.local import main as local

JOB = Path(__file__).parents[2] / "training_jobs" / "deep_trees"
START_MS = 1_700_000_000_000
QUICK = ["--set", "sequence_epochs=3", "--set", "tower_epochs=3", "--set", "rounds=20"]


def tastes(folder: Path, users: int = 40, items: int = 30) -> Path:
    """Two groups of users, each liking its own half of the catalogue; the last two events are validation."""
    draw = np.random.default_rng(3)
    train: list[Row] = []
    validation: list[Row] = []
    for user in range(users):
        liked = draw.permutation(items // 2)[:12] + items // 2 * (user % 2)
        rows = [(f"u{user}", f"i{item:02}", START_MS + 1000 * step, 1.0) for step, item in enumerate(liked)]
        train += rows[:10]
        validation += rows[10:]
    return snapshot_folder.write(folder, train, validation, titles={f"i{item:02}": f"T{item}" for item in range(items)})


@pytest.mark.slow
def test_the_job_leaves_two_components_that_fit_together(tmp_path: Path) -> None:
    source, out = tastes(tmp_path / "snapshot"), tmp_path / "out"
    assert local([str(JOB), "--snapshot", str(source), "--output", str(out), *QUICK]) == 0
    manifests = {
        name: ComponentManifest.model_validate_json((out / name / "manifest.json").read_bytes())
        for name in ("retrieval", "ranking")
    }
    names = manifests["retrieval"].feature_names
    assert names == manifests["ranking"].feature_names
    assert {"sequence z", "towers log chance", "towers rank"} <= set(names)
    known = tuple(feature.name for feature in FEATURES if feature.entity == "user" and feature.kind != "last_n")
    assert manifests["retrieval"].context_names == names[-len(known) :] == known
    assert all(manifest.parity.max_abs_diff <= 1e-4 for manifest in manifests.values())

    ids = json.loads(gzip.decompress((out / "retrieval" / "items.json.gz").read_bytes()))["item_ids"]
    own = np.array([ids.index(f"i{item:02}") for item in range(6)])
    asked = {"history": own, "times": START_MS // 1000 + np.arange(6), "exclude": own}
    asked["context"] = np.zeros(len(known), np.float32)
    items, scores, features = ort.InferenceSession(out / "retrieval" / "model.onnx").run(
        ["items", "scores", "features"], asked
    )
    ranked = ort.InferenceSession(out / "ranking" / "model.onnx").run(["scores"], {"features": features})[0]
    order = np.argsort(-np.where(np.isfinite(scores), ranked, -np.inf), kind="stable")
    assert all(int(ids[place][1:]) < 15 for place in items[order][:5])


def test_what_it_cannot_be_told_or_learn_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = tastes(tmp_path / "snapshot", users=3), ["--output", str(tmp_path / "out")]
    assert local([str(JOB), "--snapshot", str(source), *out, "--set", "epochs=3"]) == 1
    assert "unknown hyperparameter epochs; this job knows: colsample_bytree" in capfd.readouterr().err
    alone = snapshot_folder.write(tmp_path / "one", [("u", "a", 1, 1.0)], titles={"a": "A"})
    assert local([str(JOB), "--snapshot", str(alone), *out, *QUICK]) == 1
    assert "no user has enough positive events to learn a ranking from" in capfd.readouterr().err
