"""Reading a snapshot's folder: what counts, how it is numbered, and what is said of a broken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snapshot_folder

from twinloop.errors import BadInputError
from twinloop.training.snapshot import read_snapshot

TRAIN = [("b", "y", 5, 1.0), ("b", "x", 5, 1.0), ("a", "y", 9, 0.5), ("a", "z", 1, 0.0), ("b", "y", 5, 1.0)]
VALIDATION = [("c", "w", 20, 1.0)]


def test_positives_are_numbered_by_id_and_ordered_by_user_time_item(tmp_path: Path) -> None:
    titles = {"y": "Why \n not", "w": None}
    snapshot = read_snapshot(
        snapshot_folder.write(tmp_path, TRAIN, VALIDATION, titles=titles, tags={"y": ["b", "", "a"]})
    )
    assert snapshot.items.ids == ("w", "x", "y")  # z was seen, not liked
    assert snapshot.items.titles == ("w", "x", "Why not")
    assert snapshot.items.tags == ((), (), ("b", "a"))
    assert snapshot.train.users.tolist() == [0, 1, 1]
    assert snapshot.train.items.tolist() == [2, 1, 2]
    assert snapshot.train.times.tolist() == [9, 5, 5]
    assert snapshot.validation.users.tolist() == [2]
    assert len(snapshot.everything) == 4


def test_features_are_kept_for_the_moment_of_every_positive_event(tmp_path: Path) -> None:
    rows = [("a", "x", 0, 1.0), ("a", "y", 86_400_000, 1.0), ("a", "z", 86_400_000, 1.0), ("b", "x", 5, 1.0)]
    moments = read_snapshot(snapshot_folder.write(tmp_path, rows, [("a", "w", 3 * 86_400_000, 1.0)])).moments
    assert moments.names == ("likes", "idle")  # neither the list nor what is known of an item
    assert moments.at(0, 0).tolist() == [0, 9]
    assert moments.at(0, 86_400_000).tolist() == [1, 1]
    assert moments.at(0, 3 * 86_400_000).tolist() == [3, 2]
    assert moments.at(1, 5).tolist() == [0, 9]
    for user, time_ms in ((0, 5), (1, 0), (1, 6), (2, 0)):
        with pytest.raises(BadInputError, match="no event of user"):
            moments.at(user, time_ms)


def test_pieces_of_a_file_make_the_same_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot_folder.write(tmp_path, TRAIN, VALIDATION, titles={"y": "Why", "w": None})
    read = []
    for rows in (100_000, 2):
        monkeypatch.setattr("twinloop.training.snapshot._PIECE_ROWS", rows)
        snapshot = read_snapshot(folder)
        events, moments = snapshot.everything, snapshot.moments
        arrays = (events.users, events.items, events.times, moments.users, moments.times, moments.values)
        read.append((snapshot.items, snapshot.user_ids, [array.tolist() for array in arrays]))
    assert read[0] == read[1]
    assert len(read[0][2][0]) == 4


def _feature_not_finite(folder: Path) -> None:
    path = folder / "train/interactions.parquet"
    table = pq.read_table(path)
    column = pa.array([float("inf")] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index("idle"), "idle", column), path)


def _feature_dropped(folder: Path) -> None:
    path = folder / "validation/interactions.parquet"
    pq.write_table(pq.read_table(path).drop(["likes"]), path)


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _garbled(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(b"PAR1 but not really")

    return damage


def _column_dropped(folder: Path) -> None:
    path = folder / "train/interactions.parquet"
    pq.write_table(pq.read_table(path).drop(["time_ms"]), path)


def _value_missing(folder: Path) -> None:
    path = folder / "train/interactions.parquet"
    table = pq.read_table(path)
    users = pa.array([None] * table.num_rows, pa.string())
    pq.write_table(table.set_column(0, "user_id", users), path)


def _manifest_without_a_field(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"snapshot_id": "x"}')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("manifest.json"), "it has no manifest.json"),
        (_manifest_without_a_field, r"manifest.json of the snapshot: \('system',\)"),
        (_without("train/interactions.parquet"), "no train/interactions.parquet"),
        (_without("validation/interactions.parquet"), "no validation/interactions.parquet"),
        (_without("items/items.parquet"), "no items/items.parquet"),
        (_garbled("train/interactions.parquet"), "train/interactions.parquet is not readable Parquet"),
        (_garbled("items/items.parquet"), "items/items.parquet is not readable Parquet"),
        (_column_dropped, "train/interactions.parquet has no column time_ms"),
        (_feature_dropped, "validation/interactions.parquet has no column likes"),
        (_feature_not_finite, "a feature of the snapshot has values that are not finite"),
        (_value_missing, "train/interactions.parquet has rows without a value"),
    ],
)
def test_a_broken_snapshot_is_named(damage: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    damage(snapshot_folder.write(tmp_path, TRAIN, VALIDATION))
    with pytest.raises(BadInputError, match=said):
        read_snapshot(tmp_path)


@pytest.mark.parametrize("train", [[], [("a", "x", 1, 0.0)]], ids=["no rows", "nothing liked"])
def test_nothing_to_train_on_says_what_to_do(train: list[snapshot_folder.Row], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="has no positive event to train on: load events"):
        read_snapshot(snapshot_folder.write(tmp_path, train, VALIDATION))


def test_times_are_exact_to_the_millisecond_however_wide_the_column(tmp_path: Path) -> None:
    late = 4_102_444_800_123
    snapshot = read_snapshot(snapshot_folder.write(tmp_path, [("a", "x", late, 1.0)]))
    assert snapshot.train.times.tolist() == [late]
