"""What jobs write beside a model for policy: vectors, the catalogue, what is popular where."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snapshot_folder
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.embeddings import pack_embeddings, unpack_embeddings
from twinloop.contracts.segments import segment_value
from twinloop.errors import BadInputError
from twinloop.training.artefact import write_items
from twinloop.training.catalogue import MOST_NEW, packed, read_catalogue
from twinloop.training.events import Events
from twinloop.training.item_vectors import WIDTH, item_vectors
from twinloop.training.job import Job
from twinloop.training.segments import attributes, fit_segments
from twinloop.training.segments import packed as packed_segments
from twinloop.training.snapshot import read_snapshot


def events(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Events:
    users, items = (np.array(part, dtype=np.int64) for part in zip(*pairs, strict=True))
    return Events.sort(users=users, items=items, times=np.arange(len(users)), n_users=n_users, n_items=n_items)


def two_tastes(users: int = 60, items: int = 20, seed: int = 0) -> Events:
    """Users of even number like the first half of the items, the others the second."""
    random = np.random.default_rng(seed)
    half = items // 2
    pairs = [
        (user, int(item) + half * (user % 2))
        for user in range(users)
        for item in random.choice(half, half // 2, replace=False)
    ]
    return events(pairs, users, items)


def test_items_of_one_taste_are_alike() -> None:
    vectors = item_vectors(two_tastes(), [()] * 20)
    alike = vectors @ vectors.T
    assert alike[:10, :10].mean() > alike[:10, 10:].mean() + 0.3
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(20), abs=1e-5)


def test_new_items_are_placed_by_their_tags() -> None:
    tags = [("drama",)] * 10 + [("comedy", "comedy")] * 10
    vectors = item_vectors(two_tastes(), tags, [("drama",), ("comedy",), (), ("never seen",)])
    drama, comedy, untagged, unknown = vectors[20:]
    assert vectors[:10].mean(axis=0) @ drama > vectors[10:20].mean(axis=0) @ drama + 0.3
    assert vectors[10:20].mean(axis=0) @ comedy > vectors[:10].mean(axis=0) @ comedy + 0.3
    assert not untagged.any()
    assert not unknown.any()


@given(st.integers(1, 6), st.integers(1, 50), st.integers(0, 9))
def test_vectors_are_bounded_repeatable_and_finite(n_users: int, n_items: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs = [(int(random.integers(n_users)), int(random.integers(n_items))) for _ in range(20)]
    some = events(pairs, n_users, n_items)
    tags = [tuple(f"t{tag}" for tag in random.integers(0, 5, item % 3)) for item in range(n_items)]
    first, again = item_vectors(some, tags, [("t1",)]), item_vectors(some, tags, [("t1",)])
    assert first.tobytes() == again.tobytes()
    assert first.shape[0] == n_items + 1
    assert 1 <= first.shape[1] <= WIDTH
    lengths = np.linalg.norm(first, axis=1)
    assert (np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)).all()
    read = unpack_embeddings(pack_embeddings(first), n_items + 1)
    assert np.abs(read - first).max() < 1e-3


@pytest.mark.parametrize("vectors", [np.zeros((2, 33)), np.zeros(2), np.full((2, 2), 1e6), np.full((1, 1), np.nan)])
@pytest.mark.filterwarnings("ignore:overflow")
def test_vectors_that_have_no_place_in_the_format_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(BadInputError, match="embedding"):
        pack_embeddings(vectors)


def catalogue_folder(folder: Path, **columns: pa.Array) -> Path:
    (folder / "items").mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "items" / "items.parquet")
    return folder


def test_new_items_are_the_newest_with_a_title(tmp_path: Path) -> None:
    folder = catalogue_folder(
        tmp_path,
        item_id=pa.array(["a", "b", "new1", "new2", "new3", "untitled"]),
        title=pa.array(["A", "  B  b ", "One", "", "Three", None]),
        tags=pa.array([["x"], None, ["y", "x", "y"], [], ["z"], ["x"]], pa.list_(pa.string())),
        author_id=pa.array(["p", None, "q", "p", None, None]),
        published_ms=pa.array([5, None, 7, None, 9, 9], pa.int64()),
    )
    found = read_catalogue(folder, ["b", "a", "gone"])
    assert found.known.titles == ("B b", "A", "gone")
    assert found.new.ids == ("new3", "new1", "new2")
    assert found.new.titles == ("Three", "One", "new2")
    assert packed(found) == {
        "authors": [-1, 0, -1],
        "published_ms": [None, 5, None],
        "tags": [[], [0], []],
        "tag_names": ["x", "y", "z"],
        "new": {
            "item_ids": ["new3", "new1", "new2"],
            "titles": ["Three", "One", "new2"],
            "authors": [-1, 1, 0],
            "published_ms": [9, 7, None],
            "tags": [[2], [1, 0], []],
        },
    }


def test_a_catalogue_that_says_little_leaves_parts_out(tmp_path: Path) -> None:
    folder = catalogue_folder(
        tmp_path,
        item_id=pa.array(["a"]),
        title=pa.array(["A"]),
        tags=pa.array([None], pa.list_(pa.string())),
    )
    assert packed(read_catalogue(folder, ["a"])) == {}


def test_new_items_are_bounded(tmp_path: Path) -> None:
    count = MOST_NEW + 3
    folder = catalogue_folder(
        tmp_path,
        item_id=pa.array([f"{place:06}" for place in range(count)]),
        title=pa.array(["T"] * count),
        tags=pa.array([None] * count, pa.list_(pa.string())),
        published_ms=pa.array(range(count), pa.int64()),
    )
    new = read_catalogue(folder, []).new
    assert len(new.ids) == MOST_NEW
    assert new.ids[0] == f"{count - 1:06}"


@pytest.mark.parametrize(
    ("value", "name"),
    [(" DE ", "de"), (True, "true"), (7, "7"), (7.0, "7"), (7.5, None), (None, None), ("", None), ("x" * 101, None),
     (["a"], None), (float("inf"), None), (float("nan"), None),
     (10**15 - 1, "9" * 15), (-(10**15), None), (10**4000, None), (1e200, None)],
)  # fmt: skip
def test_facts_name_segments(value: object, name: str | None) -> None:
    assert segment_value(value) == name


def test_a_key_that_tells_something_is_kept_and_one_that_tells_nothing_is_not() -> None:
    some = two_tastes(users=400)
    random = np.random.default_rng(3)
    known = {
        "coin": [str(random.integers(2)) for _ in range(400)],
        "taste": ["even" if user % 2 == 0 else "odd" for user in range(400)],
        "one": ["same"] * 400,
        "rare": [str(user) for user in range(400)],
        "blurred": [None if user % 3 == 0 else str((user + (random.random() < 0.25)) % 2) for user in range(400)],
    }
    found = fit_segments(some, known)
    assert [segments.key for segments in found] == ["taste", "blurred"]
    assert found[0].gain > found[1].gain > 0
    assert set(found[0].boosts) == {"even", "odd"}
    assert set(found[0].boosts["even"]) == set(range(10))
    assert all(boost > 0 for boosts in found[0].boosts.values() for boost in boosts.values())
    told = packed_segments(found)
    assert told["keys"][0]["values"]["odd"]["items"] != told["keys"][0]["values"]["even"]["items"]
    assert json.dumps(told)


def test_attributes_are_columns_or_fields_of_extra(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    table = {
        "user_id": ["a", "b", "c", "d"],
        "country": ["DE", None, "fr", "it"],
        "extra": ['{"device": "TV", "x": 1}', "not json", None, "[1]"],
    }
    pq.write_table(pa.table(table), tmp_path / "users" / "users.parquet")
    assert attributes(tmp_path, ["c", "a", "unknown", "b"], ["country", "device"]) == {
        "country": ["fr", "de", None, None],
        "device": [None, "tv", None, None],
    }
    assert attributes(tmp_path, ["a"], []) == {}
    assert attributes(tmp_path / "none", ["a"], ["country"]) == {}


def test_a_job_writes_all_of_it_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    train = [(f"u{user:03}", f"i{item + 10 * (user % 2)}", item + 1, 1.0) for user in range(80) for item in range(5)]
    titles = {f"i{item}": f"Item {item}" for item in range(20)} | {"new": "Never liked"}
    tags = {f"i{item}": ["even" if item < 10 else "odd"] for item in range(20)} | {"new": ["odd"]}
    folder = snapshot_folder.write(tmp_path / "snapshot", train, titles=titles, tags=tags)
    (folder / "users").mkdir()
    users = {"user_id": [f"u{user:03}" for user in range(80)], "country": ["de" if u % 2 else "fr" for u in range(80)]}
    pq.write_table(pa.table(users), folder / "users" / "users.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"segments": ["country", "device"]}))
    job, snapshot = Job("toy", tmp_path, ("localhost",), time.perf_counter()), read_snapshot(folder)
    (job.model_dir / "retrieval").mkdir(parents=True)
    count = len(snapshot.items)

    def written() -> dict[str, bytes]:
        write_items(job, snapshot, np.full(count, 1 / count, np.float32))
        return {path.name: path.read_bytes() for path in (job.model_dir / "retrieval").iterdir()}

    files = written()
    assert set(files) == {"items.json.gz", "embeddings.bin", "segments.json.gz"}
    assert written() == files
    beside = json.loads(gzip.decompress(files["items.json.gz"]))
    assert "new" in beside["new"]["item_ids"]
    assert unpack_embeddings(files["embeddings.bin"], count + len(beside["new"]["item_ids"])).shape[0] > count
    segments = json.loads(gzip.decompress(files["segments.json.gz"]))
    assert [entry["key"] for entry in segments["keys"]] == ["country"]
    ids = [beside["item_ids"][place] for place in segments["keys"][0]["values"]["de"]["items"]]
    assert set(ids) == {f"i{item + 10}" for item in range(5)}
