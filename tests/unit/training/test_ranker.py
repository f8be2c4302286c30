"""The ranker's rows: of folds of users, by models that do not know them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import snapshot_folder

from twinloop.training.events import Events
from twinloop.training.ranker import training_rows
from twinloop.training.snapshot import Snapshot, read_snapshot
from twinloop.training.sources import fit_sources, retrieval_with_features
from twinloop.training.validate import metrics_of, validation_answers


@pytest.mark.parametrize("folds", [2, 3])
def test_every_user_is_asked_about_once_by_a_model_that_does_not_know_them(folds: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item:02}", 1_000 * step, 1.0)
        for user in range(12)
        for step, item in enumerate(draw.permutation(20)[:10])
    ]
    late = [row for row in rows if row[2] >= 8_000]
    titles = {f"i{item:02}": None for item in range(20)}
    early = [row for row in rows if row[2] < 8_000]
    snapshot = read_snapshot(snapshot_folder.write(tmp_path / "s", early, late, titles=titles))
    fitted: list[set[int]] = []
    asked: list[set[int]] = []
    answers = []

    def build(events: Events, fold: int) -> bytes:
        assert fold == len(fitted)
        fitted.append(set(events.users.tolist()))
        return retrieval_with_features(fit_sources(events, snapshot.items.tags), snapshot.moments.names)[0]

    def also(theirs: Snapshot, model: ort.InferenceSession) -> None:
        asked.append(set(theirs.train.users.tolist()))
        assert asked[-1] == set(theirs.validation.users.tolist())
        answers.extend(validation_answers(model, theirs))

    found = training_rows(snapshot, build, users=100, seed=0, folds=folds, also=also)
    assert len(fitted) == len(asked) == folds
    assert all(not one & other for one, other in zip(fitted, asked, strict=True))
    assert sorted(user for part in asked for user in part) == list(range(12))
    assert found.liked.any(axis=1).all()
    assert metrics_of(answers)["validation_users"] == 12
    assert metrics_of([]) == {"validation_users": 0.0}
