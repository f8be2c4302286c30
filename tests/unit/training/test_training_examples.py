"""A job reads the examples of a snapshot: train and validation, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import notes
import pyarrow.parquet as pq
import pytest
import snapshot_folder

from twinloop.errors import BadInputError
from twinloop.features.snapshot import Resources, build_snapshot
from twinloop.ports import MemoryObjectStore
from twinloop.training.examples import open_examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    objects, place = MemoryObjectStore(), tmp_path_factory.mktemp("snapshot")
    notes.deliver(objects, notes.world(100))
    build_snapshot(
        notes.SYSTEM, objects, place / "files", now=notes.NOW, work=place, resources=Resources(), minimum_cases=1
    )
    return place / "files"


def test_parts_are_read_as_the_manifest_says(folder: Path) -> None:
    snapshot = open_examples(folder)
    train, validation = snapshot.read("train"), snapshot.read("validation")
    assert train.num_rows == snapshot.manifest.rows["train/examples"]
    assert train.column_names == ["example_id", "group_id", "time_ms", "text", "aside", "reviewers"]
    assert train["reviewers"][0].as_py() == ["ann", "ben"]
    assert not set(train["group_id"].to_pylist()) & set(validation["group_id"].to_pylist())
    assert snapshot.items().num_rows == snapshot.manifest.rows["items"]
    assert snapshot.users().num_rows == 0


def test_what_is_broken_is_told(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    whole = pq.read_table(broken / "train" / "examples.parquet")
    pq.write_table(whole.slice(1), broken / "train" / "examples.parquet")
    with pytest.raises(BadInputError, match=r"train/examples\.parquet has \d+ rows, not \d+; take a new snapshot"):
        open_examples(broken).read("train")
    pq.write_table(whole.drop_columns(["aside"]), broken / "train" / "examples.parquet")
    with pytest.raises(BadInputError, match="has not the columns of the manifest"):
        open_examples(broken).read("train")
    (broken / "train" / "examples.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInputError, match="is not readable Parquet"):
        open_examples(broken).read("train")
    (broken / "users" / "users.parquet").unlink()
    with pytest.raises(BadInputError, match=r"has no users/users\.parquet"):
        open_examples(broken).users()


def test_a_snapshot_of_lists_has_no_examples(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="has no examples"):
        open_examples(snapshot_folder.write(tmp_path, [("a", "x", 1, 1.0)], []))
    with pytest.raises(BadInputError, match="is no snapshot"):
        open_examples(tmp_path / "nowhere")
