"""Jobs as SageMaker runs them: the real toolkit starts train.py out of its source bundle, on another base folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest
import snapshot_folder
from snapshot_folder import Row

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.training.bundle import build_source_bundle
from twinloop.training.local import main as local

JOBS = Path(__file__).parents[2] / "training_jobs"
SIMPLE = ["popularity", "ease"]
LEARNING = ["xgboost_trees", "two_tower"]
RUNGS = [*SIMPLE, *LEARNING]
START_MS = 1_700_000_000_000
CONTEXT = np.array([8.0, 0.25], dtype=np.float32)


def snapshot(folder: Path, train: list[Row], validation: list[Row], titles: dict[str, str]) -> Path:
    return snapshot_folder.write(
        folder, train, validation, titles=titles, tags={item_id: ["tag"] for item_id in titles}
    )


def tastes(users: int = 60, items: int = 40, seed: int = 3) -> tuple[list[Row], list[Row], dict[str, str]]:
    """Two groups of users, each liking its own half of the catalogue; the last two events are validation."""
    draw = np.random.default_rng(seed)
    train: list[Row] = []
    validation: list[Row] = []
    half = items // 2
    for user in range(users):
        liked = draw.permutation(half)[:12] + half * (user % 2)
        rows = [(f"u{user}", f"i{item}", START_MS + 1000 * step, 1.0) for step, item in enumerate(liked)]
        rows.append((f"u{user}", f"i{draw.integers(items)}", START_MS + 50_000, 0.0))  # seen, not liked
        train += [*rows[:10], rows[12]]
        validation += rows[10:12]
    titles = {f"i{item}": f"Title {item}" for item in range(items)} | {"never-liked": "Nobody's favourite"}
    return train, validation, titles


class Ended(NamedTuple):
    """A job that ended: its exit code, what it left, and the reason it gave."""

    code: int
    model: Path
    reason: str


def under_toolkit(
    base: Path, rung: str, source: Path, *, hosts: tuple[str, ...] = ("localhost",), **told: str
) -> Ended:
    """Stage a base folder and start the job with the toolkit's own `train`, as the container's entry point does."""
    config, data = base / "input" / "config", base / "input" / "data"
    for folder in (config, data, base / "model", base / "output", base / "code"):
        folder.mkdir(parents=True)
    shutil.copytree(source, data / "snapshot")
    bundle = base / "sourcedir.tar.gz"
    bundle.write_bytes(build_source_bundle(JOBS / rung))
    told |= {"sagemaker_program": "train.py", "sagemaker_submit_directory": str(bundle)}
    # Script mode sends every value as JSON.
    (config / "hyperparameters.json").write_text(json.dumps({name: json.dumps(value) for name, value in told.items()}))
    (config / "inputdataconfig.json").write_text(json.dumps({"snapshot": {"TrainingInputMode": "File"}}))
    here = {"current_host": "localhost", "hosts": list(hosts), "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(here))
    toolkit = Path(sys.executable).with_name("train")
    environment = {
        **os.environ,
        "SAGEMAKER_BASE_DIR": str(base),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ended = subprocess.run([toolkit], env=environment, capture_output=True, text=True, timeout=240, check=False)
    failure = base / "output" / "failure"
    print(ended.stdout, ended.stderr)
    return Ended(ended.returncode, base / "model", failure.read_text() if failure.exists() else "")


def ask(model: ort.InferenceSession, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what a retrieval answers, told of the user what it wants to be told."""
    wanted = {entry.name for entry in model.get_inputs()}
    given = inputs | ({"context": CONTEXT} if "context" in wanted else {})
    return dict(zip([output.name for output in model.get_outputs()], model.run(None, given), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("rung", RUNGS)
def test_a_job_leaves_components_that_work(rung: str, tmp_path: Path) -> None:
    train, validation, titles = tastes()
    ended = under_toolkit(tmp_path / "ml", rung, snapshot(tmp_path / "snapshot", train, validation, titles))

    assert (ended.code, ended.reason) == (0, "")
    names = {"retrieval", "ranking"} if rung == "xgboost_trees" else {"retrieval"}
    assert {folder.name for folder in ended.model.iterdir()} == names
    for name in names:
        manifest = ComponentManifest.model_validate_json((ended.model / name / "manifest.json").read_bytes())
        assert (manifest.component, manifest.rung, manifest.snapshot_id) == (name, rung, "0123456789abcdef")
        assert manifest.parity.max_abs_diff <= 1e-4
        assert manifest.parity.rows > 0
        metrics = json.loads((ended.model / name / "metrics.json").read_text())
        assert 0 <= metrics["ndcg@10"] <= 1

    beside = json.loads(gzip.decompress((ended.model / "retrieval" / "items.json.gz").read_bytes()))
    assert "never-liked" not in beside["item_ids"]
    assert len(beside["item_ids"]) == len(beside["titles"]) == len(beside["popularity"]) == 40
    model = ort.InferenceSession(ended.model / "retrieval" / "model.onnx", providers=["CPUExecutionProvider"])
    places = {item_id: place for place, item_id in enumerate(beside["item_ids"])}
    history = np.array([places[f"i{item}"] for item in range(8)], dtype=np.int64)
    asked = {"history": history, "times": np.full(8, START_MS // 1000), "exclude": history}
    answer = ask(model, asked)
    returned = answer["items"][np.isfinite(answer["scores"])]
    assert not set(returned.tolist()) & set(history.tolist())
    assert len(returned) == 32
    scores = answer["scores"]
    if rung == "xgboost_trees":
        ranking = ort.InferenceSession(ended.model / "ranking" / "model.onnx", providers=["CPUExecutionProvider"])
        assert manifest.context_names == ("likes", "idle")
        assert (answer["features"][:, -2:] == CONTEXT).all()
        scores = ranking.run(["scores"], {"features": answer["features"]})[0]
        scores = np.where(np.isfinite(answer["scores"]), scores, -np.inf)
    if rung != "popularity":  # the user's own half of the catalogue comes first
        best = [beside["item_ids"][place] for place in answer["items"][np.argsort(-scores, kind="stable")][:8]]
        assert all(int(item_id[1:]) < 20 for item_id in best)


@pytest.mark.parametrize("rung", RUNGS)
def test_an_unknown_hyperparameter_fails_at_once_and_names_the_known_ones(rung: str, tmp_path: Path) -> None:
    source = snapshot(tmp_path / "snapshot", *tastes(users=4))
    ended = under_toolkit(tmp_path / "ml", rung, source, learning_rat="0.1")
    assert ended.code != 0
    assert "unknown hyperparameter learning_rat" in ended.reason
    assert "seed" in ended.reason
    assert not list(ended.model.iterdir())


def test_a_value_that_does_not_fit_is_named(tmp_path: Path) -> None:
    source = snapshot(tmp_path / "snapshot", *tastes(users=4))
    ended = under_toolkit(tmp_path / "ml", "ease", source, l2="strong")
    assert ended.code != 0
    assert "l2" in ended.reason
    assert "strong" in ended.reason


def test_several_hosts_are_refused(tmp_path: Path) -> None:
    source = snapshot(tmp_path / "snapshot", *tastes(users=4))
    ended = under_toolkit(tmp_path / "ml", "ease", source, hosts=("localhost", "127.0.0.1"))
    assert ended.code != 0
    assert "set InstanceCount to 1" in ended.reason


def run_locally(rung: str, source: Path, output: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = local([str(JOBS / rung), "--snapshot", str(source), "--output", str(output)])
    return code, capfd.readouterr().err


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(
    ("train", "validation"),
    [
        pytest.param([], [], id="empty"),
        pytest.param([("u", "a", 1, 0.0), ("u", "b", 2, 0.0)], [("v", "a", 3, 0.0)], id="nothing liked"),
        pytest.param([], [("v", "a", 3, 1.0)], id="no train"),
    ],
)
def test_nothing_to_learn_from_is_said(
    rung: str, train: list[Row], validation: list[Row], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = snapshot(tmp_path / "snapshot", train, validation, {"a": "A", "b": "B"})
    code, said = run_locally(rung, source, tmp_path / "out", capfd)
    assert code == 1
    assert "no positive event to train on" in said


LITTLE: dict[str, tuple[list[Row], list[Row]]] = {
    "one user": ([("u", f"i{n}", n, 1.0) for n in range(8)], [("u", "i8", 9, 1.0)]),
    "one item": ([(f"u{n}", "a", n, 1.0) for n in range(8)], []),
    "one event": ([("u", "a", 1, 1.0)], []),
    "only new users in validation": ([(f"u{n}", f"i{n % 3}", n, 1.0) for n in range(9)], [("new", "i1", 20, 1.0)]),
    "items only in validation": ([("u", "a", 1, 1.0), ("u", "b", 2, 1.0)], [("u", "c", 3, 1.0)]),
}


@pytest.mark.parametrize("rung", SIMPLE)
@pytest.mark.parametrize("case", LITTLE)
def test_little_data_still_gives_a_model(
    rung: str, case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = snapshot(tmp_path / "snapshot", *LITTLE[case], {"i0": "First"})
    code, said = run_locally(rung, source, tmp_path / "out", capfd)
    assert code == 0, said
    model = ort.InferenceSession(tmp_path / "out" / "retrieval" / "model.onnx", providers=["CPUExecutionProvider"])
    one = np.zeros(1, dtype=np.int64)
    scores, nothing = model.run(["scores"], {"history": one, "times": one, "exclude": one - 1})[0], -np.inf
    assert (scores != nothing).all()
    assert not np.isnan(scores).any()


TOO_LITTLE = {
    "xgboost_trees": "no user has enough positive events to learn a ranking from",
    "two_tower": "no user liked one item and later another",
}


@pytest.mark.slow
@pytest.mark.parametrize("rung", LEARNING)
@pytest.mark.parametrize("case", LITTLE)
def test_what_learns_from_little_data_works_or_says_why_not(
    rung: str, case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = snapshot(tmp_path / "snapshot", *LITTLE[case], {"i0": "First"})
    code, said = run_locally(rung, source, tmp_path / "out", capfd)
    if code:
        assert TOO_LITTLE[rung] in said
        assert not (tmp_path / "out").exists()
        return
    for model in (tmp_path / "out").glob("*/model.onnx"):
        opened = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        one = np.zeros(1, dtype=np.int64)
        if model.parent.name == "retrieval":
            scores = ask(opened, {"history": one, "times": one, "exclude": one})["scores"]
            assert not np.isnan(scores).any()
    assert (tmp_path / "out" / "retrieval" / "model.onnx").exists()


def _without_manifest(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return "it has no manifest.json"


def _cut_off(folder: Path) -> str:
    path = folder / "train" / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:40])
    return "train/interactions.parquet is not readable Parquet"


def _without_column(folder: Path) -> str:
    path = folder / "train" / "interactions.parquet"
    pq.write_table(pq.read_table(path).drop(["strength"]), path)
    return "train/interactions.parquet has no column strength"


@pytest.mark.parametrize("damage", [_without_manifest, _cut_off, _without_column])
def test_a_damaged_snapshot_is_named(
    damage: Callable[[Path], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = snapshot(tmp_path / "snapshot", *tastes(users=4))
    expected = damage(source)
    code, said = run_locally("popularity", source, tmp_path / "out", capfd)
    assert code == 1
    assert expected in said


@pytest.mark.slow
@pytest.mark.parametrize("rung", RUNGS)
def test_the_same_snapshot_and_seed_give_the_same_model(
    rung: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = snapshot(tmp_path / "snapshot", *tastes(users=30))
    hashes = []
    for place in ("first", "second"):
        code, said = run_locally(rung, source, tmp_path / place, capfd)
        assert code == 0, said
        models = sorted((tmp_path / place).glob("*/model.onnx"))
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in models])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("rung", RUNGS)
def test_a_bundle_is_the_same_every_time_and_holds_what_the_job_imports(rung: str, tmp_path: Path) -> None:
    body = build_source_bundle(JOBS / rung)
    assert body == build_source_bundle(JOBS / rung)
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert "train.py" in archive.getnames()
        archive.extractall(tmp_path)  # noqa: S202 - our own archive, and filters came with 3.11.4
    probe = "import train, twinloop; print(twinloop.__file__)"
    found = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(tmp_path))
