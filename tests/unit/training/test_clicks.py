"""A snapshot's impressions as arrays: ids as serving hashes them, in order of time, and broken files in words."""

from __future__ import annotations

import clicks_folder
import numpy as np
import pytest
from clicks_folder import HASHED, NAMES

from twinloop.contracts.segments import segment_value
from twinloop.errors import BadInputError
from twinloop.features.hashing import hashed
from twinloop.training import clicks as module
from twinloop.training.clicks import Rows, base_rate, describe, open_clicks


def test_rows_are_what_serving_would_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PIECE_ROWS", 333)  # several pieces, which do not show
    rows, _ = clicks_folder.draw(3000)
    parts = clicks_folder.part_of(rows)
    opened = open_clicks(clicks_folder.write(tmp_path / "s", parts))
    assert opened.names == NAMES
    assert opened.hashed == HASHED
    for part, columns in parts.items():
        read = opened.read(part)
        assert len(read) == len(columns["user_id"])
        assert (read.times == columns["time_ms"]).all()
        np.testing.assert_array_equal(read.clicked, columns["label_click"])
        np.testing.assert_array_equal(read.known, np.stack([columns[name] for name in NAMES], axis=1))
        # As serving does: one request at a time, the user and the moment for all its items.
        for row in range(0, len(read), 97):
            page = columns["context_page"][row]
            asked = {
                "user_id": columns["user_id"][row],
                "item_id": [columns["item_id"][row]],
                "items.advertiser_id": [columns["text_items_advertiser_id"][row]],
                "context.page": segment_value(page.strip('"')) if page is not None else None,
            }
            assert read.ids[row].tolist() == hashed(HASHED.fields, HASHED.buckets, asked)[0].tolist()


def test_a_job_never_opens_test(tmp_path):
    folder = clicks_folder.simple(tmp_path / "s", 300)
    (folder / "test" / "impressions.parquet").write_bytes(b"no job reads this")
    opened = open_clicks(folder)
    assert len(opened.train()) == 180
    assert len(opened.read("validation")) == 60
    with pytest.raises(BadInputError, match=r"test/impressions.parquet is not readable Parquet"):
        opened.read("test")


def test_halves_are_of_users_and_the_same_in_every_part(tmp_path):
    opened = open_clicks(clicks_folder.simple(tmp_path / "s"))
    halves = [opened.read(part).halves() for part in ("train", "validation")]
    for one, other in halves:
        assert 0.3 < len(one) / (len(one) + len(other)) < 0.7
    ones, others = (set(np.concatenate([pair[n].users for pair in halves]).tolist()) for n in (0, 1))
    assert not ones & others


def test_thinning_leaves_every_click(tmp_path):
    rows = open_clicks(clicks_folder.simple(tmp_path / "s")).train()
    thin = rows.thinned(0.25, seed=1)
    assert thin.clicked.sum() == rows.clicked.sum()
    rest = (thin.clicked == 0).sum() / (rows.clicked == 0).sum()
    assert rest == pytest.approx(0.25, abs=0.03)
    assert (np.diff(thin.times) > 0).all()
    assert rows.thinned(1.0, seed=1) is rows
    again = rows.thinned(0.25, seed=1)
    assert (thin.times == again.times).all()
    assert len(Rows.join(rows, thin)) == len(rows) + len(thin)
    assert describe((thin,)).startswith(f"{len(thin)} impressions with {int(rows.clicked.sum())} clicks")


def test_the_base_rate_is_never_certain():
    assert base_rate(np.zeros(0)) == 0.5
    assert base_rate(np.ones(8, np.float32)) == 0.9
    assert base_rate(np.zeros(98, np.float32)) == 0.01


def test_without_ids_or_without_features_there_are_no_columns(tmp_path):
    def no_ids(manifest):
        told = manifest.outcomes.model_copy(update={"hashed": None})
        return manifest.model_copy(update={"outcomes": told})

    parts = clicks_folder.part_of(clicks_folder.draw(300)[0])
    assert open_clicks(clicks_folder.write(tmp_path / "a", parts, no_ids)).train().ids.shape == (180, 0)
    folder = clicks_folder.write(tmp_path / "b", parts, lambda m: m.model_copy(update={"known_features": ()}))
    assert open_clicks(folder).train().known.shape == (180, 0)
    folder = clicks_folder.write(tmp_path / "c", parts, lambda m: no_ids(m).model_copy(update={"known_features": ()}))
    with pytest.raises(BadInputError, match="neither features nor ids"):
        open_clicks(folder)


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("label_click", lambda v: v + 0.5, "neither 0 nor 1"),
        ("label_click", lambda v: np.full(len(v), np.nan, np.float32), "neither 0 nor 1"),
        ("user_id", lambda v: [None, *v[1:]], "rows without a value in user_id"),
        ("text_items_advertiser_id", None, "has no column text_items_advertiser_id"),
        ("context_page", None, "has no column context_page"),
        ("user_shown", None, "has no column user_shown"),
    ],
)
def test_what_is_broken_is_said(column, values, reason, tmp_path):
    rows, _ = clicks_folder.draw(100)
    if values is None:
        del rows[column]
    else:
        rows[column] = values(rows[column])
    opened = open_clicks(clicks_folder.write(tmp_path / "s", {"train": rows}))
    with pytest.raises(BadInputError, match=f"train/impressions.parquet.*{reason}"):
        opened.train()


def test_nothing_shown_says_what_to_do(tmp_path):
    empty = clicks_folder.write(tmp_path / "empty", {})
    with pytest.raises(BadInputError, match="has none to train on"):
        open_clicks(empty).train()
    assert len(open_clicks(empty).read("validation")) == 0
    other = clicks_folder.write(tmp_path / "other", {}, lambda m: m.model_copy(update={"outcomes": None}))
    with pytest.raises(BadInputError, match="has none to train on"):
        open_clicks(other)

    def seconds(manifest):
        return manifest.model_copy(update={"outcomes": manifest.outcomes.model_copy(update={"labels": ("watch_s",)})})

    with pytest.raises(BadInputError, match="no label 'click'"):
        open_clicks(clicks_folder.write(tmp_path / "seconds", {}, seconds))
    with pytest.raises(BadInputError, match="no snapshot"):
        open_clicks(tmp_path)
