"""No parity, no artefact; and what is written beside the model."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest
import snapshot_folder

from twinloop.contracts.artefacts import ComponentManifest, Parity
from twinloop.errors import IntegrityError
from twinloop.features.schema import schema_hash
from twinloop.training.artefact import Component, prove_parity, write_component, write_items
from twinloop.training.config import JobConfig
from twinloop.training.job import Job
from twinloop.training.linear import popularity_graph
from twinloop.training.snapshot import read_snapshot


def pair(exported: list[float], fitted: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(exported, np.float32), np.array(fitted, np.float32)


def test_the_worst_difference_of_all_rows_is_told() -> None:
    parity = prove_parity([pair([1, 2], [1, 2]), pair([3, 4.00005], [3, 4])])
    assert parity.rows == 4
    assert parity.max_abs_diff == pytest.approx(5e-5, rel=0.01)


def test_equal_infinities_agree() -> None:
    assert prove_parity([pair([-np.inf, np.inf], [-np.inf, np.inf])]).max_abs_diff == 0


@pytest.mark.parametrize(
    ("exported", "fitted"),
    [
        ([1.0], [1.01]),
        ([np.nan], [np.nan]),
        ([np.nan], [1.0]),
        ([1.0], [np.nan]),
        ([-np.inf], [1.0]),
        ([np.inf], [-np.inf]),
    ],
)
def test_a_difference_is_refused(exported: list[float], fitted: list[float]) -> None:
    with pytest.raises(IntegrityError, match="differs from the fitted one"):
        prove_parity([pair([1], [1]), pair(exported, fitted)])


def test_other_shapes_are_refused() -> None:
    with pytest.raises(IntegrityError, match=r"answers \(2,\), the fitted one \(1,\)"):
        prove_parity([pair([1, 2], [1])])


def test_nothing_to_compare_is_no_proof() -> None:
    with pytest.raises(IntegrityError, match="no held-out rows"):
        prove_parity([])


def test_a_component_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLOOP_CODE_VERSION", "abc123")
    train = [("u", "a", 1, 1.0), ("u", "b", 2, 1.0)]
    snapshot = read_snapshot(snapshot_folder.write(tmp_path / "snapshot", train, titles={"b": "Bee"}))
    job = Job("toy", tmp_path, ("localhost",), time.perf_counter())
    shares = np.array([0.25, 0.75], np.float32)
    parity = Parity(max_abs_diff=0, rows=1)
    component = Component(
        "retrieval", "numpy", popularity_graph(shares), parity, {"ndcg@10": np.float32(0.5)}, ("f",), ("idle",)
    )
    write_component(job, snapshot, JobConfig(seed=4), component)
    write_items(job, snapshot, shares)

    folder = tmp_path / "model" / "retrieval"
    manifest = ComponentManifest.model_validate_json((folder / "manifest.json").read_bytes())
    assert (manifest.rung, manifest.seed, manifest.code_version) == ("toy", 4, "abc123")
    assert (manifest.outputs, manifest.feature_names) == (("items", "scores"), ("f",))
    assert manifest.context_names == ("idle",)
    assert manifest.feature_versions == {"idle": "1"}
    assert manifest.schema_hash == schema_hash([snapshot_folder.FEATURES[1]])
    assert manifest.hyperparameters == {"seed": "4"}
    assert manifest.library_versions["numpy"] == np.__version__
    assert json.loads((folder / "metrics.json").read_text()) == {"ndcg@10": 0.5}
    first = (folder / "items.json.gz").read_bytes()
    write_items(job, snapshot, shares)
    assert (folder / "items.json.gz").read_bytes() == first
    beside = json.loads(gzip.decompress(first))
    assert beside == {"item_ids": ["a", "b"], "titles": ["a", "Bee"], "popularity": [0.25, 0.75]}
