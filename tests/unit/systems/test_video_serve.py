"""What a loaded release of video answers."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import items_file, manifest, ranking, video_files

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError, IntegrityError
from twinloop.serving.loading import load_models
from twinloop.systems.video.serve import VideoPredictor, judge

NOW_MS = 1_000_000


def predictor(**more):
    return VideoPredictor(load_models(video_files(**more)))


def liked(*ids):
    return tuple(HistoryEntry(item_id, 1000 * (place + 1), 1.0) for place, item_id in enumerate(ids))


def test_retrieval_alone_ranks():
    found = predictor().rank(liked("i2"), (), 10, at_ms=NOW_MS)
    assert found.ids == ("i3", "i4", "i5", "i0", "i1")
    assert found.scores.dtype == np.float32
    assert not found.cold


def test_a_ranking_has_the_last_word():
    assert predictor(with_ranking=True).rank(liked("i2"), (), 10, at_ms=NOW_MS).ids == ("i1", "i0", "i5", "i4", "i3")


def test_what_was_seen_or_excluded_is_not_returned():
    seen = HistoryEntry("i4", 5000, 0.0)
    assert predictor().rank((*liked("i2"), seen), ["i0", "unknown"], 10, at_ms=NOW_MS).ids == ("i3", "i5", "i1")


def test_items_the_model_does_not_know_are_ignored():
    assert predictor().rank(liked("new", "i2", "newer"), (), 2, at_ms=NOW_MS).ids == ("i3", "i4")


@pytest.mark.parametrize("history", [(), liked("unknown"), (HistoryEntry("i0", 1, 0.0),)])
def test_who_liked_nothing_known_gets_what_is_popular(history):
    found = predictor(popularity=[1, 5, 2, 4, 3, 0]).rank(history, ["i1"], 3, at_ms=NOW_MS)
    assert found.ids == ("i3", "i4", "i2")
    assert found.cold


def test_everything_may_have_been_seen():
    assert predictor().rank(liked(*(f"i{n}" for n in range(6))), (), 10, at_ms=NOW_MS).ids == ()
    assert predictor().popular((), [f"i{n}" for n in range(6)], 10).ids == ()


def test_titles():
    assert predictor().title("i3") == "Title of i3"
    assert predictor().title("unknown") is None


ENTRIES = st.builds(
    HistoryEntry,
    st.one_of(st.sampled_from([f"i{n}" for n in range(6)]), st.text(min_size=1)),
    st.integers(-(2**40), 2**45),
    st.floats(0, 1),
)


@given(st.lists(ENTRIES, max_size=20), st.lists(st.sampled_from(["i0", "i5", "x"])), st.integers(1, 100), st.booleans())
def test_lists_are_distinct_open_sorted_and_bounded(history, exclude, limit, with_ranking):
    found = PREDICTORS[with_ranking].rank(tuple(history), exclude, limit, at_ms=NOW_MS)
    assert len(found.ids) == len(set(found.ids)) == len(found.scores) <= limit
    assert not set(found.ids) & ({entry.item_id for entry in history} | set(exclude))
    assert (np.diff(found.scores) <= 0).all()
    open_items = 6 - len({f"i{n}" for n in range(6)} & ({entry.item_id for entry in history} | set(exclude)))
    assert len(found.ids) == min(limit, open_items)


PREDICTORS = {flag: predictor(with_ranking=flag) for flag in (False, True)}


def test_a_model_that_answers_no_numbers_is_not_believed():
    files = video_files(with_ranking=True)
    files["ranking"]["model.onnx"] = ranking(float("nan"))
    with pytest.raises(IntegrityError, match="not numbers"):
        VideoPredictor(load_models(files)).rank(liked("i2"), (), 3, at_ms=NOW_MS)


def test_a_model_that_names_items_nobody_knows_is_not_believed():
    files = video_files()
    files["retrieval"]["items.json.gz"] = items_file(["i0", "i1", "i2"])
    with pytest.raises(IntegrityError, match="not in the release's list"):
        VideoPredictor(load_models(files)).rank(liked("i2"), (), 3, at_ms=NOW_MS)


def packed(**changes):
    content = {"item_ids": ["a", "b"], "titles": ["A", "B"], "popularity": [1, 2]} | changes
    return gzip.compress(json.dumps(content).encode(), mtime=0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not gzip",
        packed()[:-9],
        gzip.compress(b"not json", mtime=0),
        gzip.compress(b"[]", mtime=0),
        packed(titles=["A"]),
        packed(popularity=[1]),
        packed(popularity=["x", "y"]),
        packed(popularity=[1, float("nan")]),
        packed(item_ids=["a", "a"]),
        packed(item_ids=[], titles=[], popularity=[]),
    ],
)
def test_a_broken_list_of_items_is_refused(body):
    files = video_files()
    files["retrieval"]["items.json.gz"] = body
    with pytest.raises(IntegrityError, match=r"items\.json\.gz"):
        VideoPredictor(load_models(files))


def test_a_release_without_retrieval_is_refused():
    files = video_files(with_ranking=True)
    del files["retrieval"]
    with pytest.raises(IntegrityError, match="needs the component 'retrieval'"):
        VideoPredictor(load_models(files))


def test_a_ranking_without_features_is_refused():
    files = video_files() | {"ranking": {"model.onnx": ranking(), "manifest.json": manifest("ranking")}}
    with pytest.raises(IntegrityError, match="gives no features"):
        VideoPredictor(load_models(files))


def case(**changes):
    request = {"user_id": "u", "time_ms": 9000, "history": [["i2", 1000, 1.0], ["i4", 2000, 0.0]]}
    return Case(case_id="c", request=request | changes, truth={"relevant": ["i3", "i1"]})


def test_a_case_is_judged_by_the_list_that_serving_gives():
    found = judge(predictor(), case())  # i3, i5, i0, i1
    assert found["recall@20"] == 1
    assert found["ndcg@10"] == pytest.approx((1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3)))


@pytest.mark.parametrize("history", [None, [["i2"]], [["i2", "soon", 1.0]]])
def test_a_case_of_another_kind_is_refused(history):
    with pytest.raises(BadInputError, match="case 'c'"):
        judge(predictor(), case(history=history))
