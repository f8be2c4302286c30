"""What is known of a user: the snapshot's columns, the ranker's rows, and what the served model is asked with."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.system import Model
from twinloop.errors import IntegrityError
from twinloop.evaluation.cases import read_cases
from twinloop.features.snapshot import Resources, build_snapshot
from twinloop.ports import MemoryObjectStore
from twinloop.serving.loading import load_models
from twinloop.systems.video.features import FEATURES
from twinloop.systems.video.serve import VideoPredictor
from twinloop.systems.video.system import SYSTEM
from twinloop.training.local import run
from twinloop.training.snapshot import read_snapshot

JOB = Path(__file__).parents[2] / "training_jobs" / "xgboost_trees"
START = datetime(2025, 1, 1, tzinfo=UTC)
NAMES = tuple(feature.name for feature in FEATURES)

pytestmark = pytest.mark.slow


def lake(users: int = 60, items: int = 40) -> MemoryObjectStore:
    """Users of two tastes who rate in bursts, days and months apart, and dislike some of what they see."""
    draw, rows = np.random.default_rng(5), []
    for user in range(users):
        moment, half = START + timedelta(days=float(draw.integers(0, 30))), items // 2
        for item in draw.permutation(half)[:18] + half * (user % 2):
            moment += timedelta(seconds=float(draw.choice([0, 30, 86_400, 86_400 * 45], p=[0.3, 0.4, 0.2, 0.1])))
            stars = 5.0 if draw.random() < 0.8 else 1.0
            rows.append(
                {"event_id": f"{user}-{item}", "type": "rating", "time": moment, "user_id": f"u{user}"}
                | {"item_id": f"i{item}", "rating": stars}
            )
    body, store = io.BytesIO(), MemoryObjectStore()
    pq.write_table(pa.Table.from_pylist(rows), body)
    store.write("lake/video/events/dt=2025-01-01/0.parquet", body.getvalue())
    return store


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshot")
    resources, work = Resources(), tmp_path_factory.mktemp("work")
    build_snapshot(SYSTEM, lake(), folder, now=START, work=work, resources=resources)
    return folder


@pytest.fixture(scope="module")
def release(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The release that the job makes of the snapshot."""
    output = tmp_path_factory.mktemp("model")
    assert run(JOB, snapshot, output, {"rounds": "20"}) == 0
    return {
        folder.name: {file.name: file.read_bytes() for file in folder.iterdir()} for folder in sorted(output.iterdir())
    }


def columns(snapshot: Path, part: str) -> dict[tuple[str, int], list[float]]:
    """(user, moment) -> the features that the snapshot holds, in single precision, as models see them."""
    rows = pq.read_table(snapshot / part / "interactions.parquet").to_pylist()
    return {
        (row["user_id"], row["time_ms"]): np.array([row[name] for name in NAMES], np.float32).tolist() for row in rows
    }


class Listening:
    """A model that notes what it is asked with."""

    def __init__(self, model: Model) -> None:
        self._model, self.asked = model, dict[str, NDArray[Any]]()
        self.manifest, self.asset = model.manifest, model.asset

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.asked = dict(inputs)
        return self._model.run(inputs)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_served_model_is_asked_with_what_the_snapshot_holds(
    part: str, snapshot: Path, release: dict[str, dict[str, bytes]]
) -> None:
    models = dict(load_models(release, features=FEATURES))
    retrieval, ranking = Listening(models["retrieval"]), Listening(models["ranking"])
    predictor = SYSTEM.predictor({"retrieval": retrieval, "ranking": ranking})
    held, cases = columns(snapshot, part), read_cases((snapshot / "cases" / f"{part}.jsonl.gz").read_bytes())
    seen = set()
    for case in cases:
        SYSTEM.judge(predictor, case)
        expected = held[case.request["user_id"], case.request["time_ms"]]
        assert retrieval.asked["context"].tolist() == expected
        rows = ranking.asked["features"][:, -len(NAMES) :]
        assert (rows == np.array(expected, np.float32)).all()
        seen.add(tuple(expected))
    assert len(cases) > 30
    assert len(seen) > 20  # the comparison is of values that differ
    assert models["ranking"].manifest.feature_names[-len(NAMES) :] == NAMES


def test_jobs_learn_from_what_the_snapshot_holds(snapshot: Path) -> None:
    read = read_snapshot(snapshot)
    users = {name: place for place, name in enumerate(sorted({user for user, _ in columns(snapshot, "train")}))}
    assert read.moments.names == NAMES
    for part in ("train", "validation"):
        rows = pq.read_table(snapshot / part / "interactions.parquet").to_pylist()
        held = columns(snapshot, part)
        for row in rows:
            if row["strength"] >= 0.5:
                key = row["user_id"], row["time_ms"]
                assert read.moments.at(users[key[0]], key[1]).tolist() == held[key]


def test_a_definition_in_use_cannot_change_under_a_release(
    snapshot: Path, release: dict[str, dict[str, bytes]]
) -> None:
    first, *others = FEATURES
    changed = (first.model_copy(update={"window_days": 7.0}), *others)
    with pytest.raises(IntegrityError, match=r"trained on feature schema .* \(of user_positives_30d, "):
        load_models(release, features=changed)
    added = (*FEATURES, first.model_copy(update={"name": "user_positives_7d", "window_days": 7.0}))
    assert load_models(release, features=added)
    manifest = SnapshotManifest.model_validate_json((snapshot / "manifest.json").read_bytes())
    assert manifest.features == FEATURES
    assert manifest.history_length == SYSTEM.spec.history_length


def test_without_the_definitions_only_what_is_popular_is_served(release: dict[str, dict[str, bytes]]) -> None:
    stranger = VideoPredictor(load_models(release), features=())
    case = SYSTEM.predictor(load_models(release))
    known = next(iter(case.popular((), (), 1).ids))
    assert stranger.popular((), (), 3).ids[0] == known
    from twinloop.contracts.history import HistoryEntry

    with pytest.raises(IntegrityError, match="no feature is called user_positives_30d"):
        stranger.rank((HistoryEntry(known, 5, 1.0),), (), 3, at_ms=10)
