"""What stands beside a release's models: re-ranking, new items, popularity by context, reasons; all of it optional."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
from tiny_models import manifest, ranking, retrieval, video_files

from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import Asked
from twinloop.errors import BadInputError, IntegrityError
from twinloop.serving.loading import load_models
from twinloop.systems.video.serve import VideoPredictor

DAY_MS = 86_400_000
NOW_MS = 1000 * DAY_MS
N, NEW = 30, 12


def axes(count, width=4):
    """Unit vectors that go round the axes: item i is like item i + width."""
    return np.eye(width, dtype=np.float32)[np.arange(count) % width]


CATALOGUE = {
    "authors": [place // 3 for place in range(N)],
    "published_ms": [None if place % 2 else NOW_MS - place * DAY_MS for place in range(N)],
    "tag_names": ["drama", "comedy"],
    "tags": [[place % 2] for place in range(N)],
    "new": {"item_ids": [f"n{place}" for place in range(NEW)], "titles": [f"New {place}" for place in range(NEW)]},
}
SEGMENTS = {
    "keys": [
        {"key": "country", "gain": 0.2, "values": {"de": {"items": [7, 9], "boosts": [6000, 5000]}}},
        {"key": "device", "gain": 0.1, "values": {"tv": {"items": [4], "boosts": [6000]}}},
    ]
}


def predictor(**more):
    parts = {"catalogue": CATALOGUE, "vectors": axes(N + NEW), "segments": SEGMENTS}
    return VideoPredictor(load_models(video_files(N, **(parts | more))))


def liked(*ids):
    return tuple(HistoryEntry(item_id, 1000 * (place + 1), 1.0) for place, item_id in enumerate(ids))


LIKED = liked("i2")


def ask(of, history=LIKED, limit=20, exclude=(), **asked):
    return of.rank(history, exclude, limit, at_ms=NOW_MS, asked=Asked(**asked))


def test_presets_make_different_lists_and_none_of_them_repeats_an_author_early():
    lists = {preset: ask(predictor(), preset=preset).ids for preset in ("balanced", "fresh", "diverse")}
    assert len(set(lists.values())) == 3
    authors = [int(item_id[1:]) // 3 for item_id in lists["diverse"]]
    assert len(set(authors[:9])) == 9


def test_an_unknown_preset_is_refused():
    with pytest.raises(BadInputError, match="there are balanced, watch_time, fresh, diverse"):
        ask(predictor(), preset="loud")


def test_a_release_of_before_is_served_as_it_was():
    older = predictor(catalogue=None, vectors=None, segments=None)
    for preset in ("balanced", "diverse", "fresh"):
        found = ask(older, preset=preset, seed="s", context={"country": "de"}, reasons=True, limit=5)
        assert found.ids == ("i3", "i4", "i5", "i6", "i7")
        assert found.scores.tolist() == [-1, -2, -3, -4, -5]
        assert found.propensities is None
        assert [[reason.code for reason in of] for of in found.reasons] == [["history"]] * 5


def test_nothing_is_tried_without_a_seed():
    found = ask(predictor())
    assert (found.propensities, found.tried) == (None, ())
    assert not set(found.ids) & {f"n{place}" for place in range(NEW)}


def test_new_items_are_tried_at_a_few_places_with_the_propensities_that_are_told():
    of, rounds = predictor(), 1500
    usual, shown, said = ask(of).ids, Counter(), {}
    for seed in range(rounds):
        found = ask(of, seed=str(seed))
        assert seed > 20 or found.ids == ask(of, seed=str(seed)).ids
        for place, (item_id, propensity, tried) in enumerate(
            zip(found.ids, found.propensities, found.tried, strict=True)
        ):
            assert tried == item_id.startswith("n")
            assert tried or item_id == usual[place]
            assert tried or place in (5, 15) or propensity == 1.0
            shown[place, item_id] += 1
            said[place, item_id] = propensity
    assert {place for place, item_id in shown if item_id.startswith("n")} == {5, 15}
    for at, propensity in said.items():
        assert abs(shown[at] / rounds - propensity) <= 4.5 * np.sqrt(propensity * (1 - propensity) / rounds) + 1e-12


def test_new_items_that_were_met_or_excluded_are_not_tried():
    met = [f"n{place}" for place in range(NEW - 1)]
    history = (*liked("i2"), *(HistoryEntry(item_id, 99_000, 0.0) for item_id in met[:6]))
    tried = {
        item_id
        for seed in range(200)
        for item_id in ask(predictor(), history, exclude=met[6:], seed=str(seed)).ids
        if item_id.startswith("n")
    }
    assert tried == {f"n{NEW - 1}"}


def test_new_items_like_what_was_liked_come_first():
    of = predictor(catalogue=CATALOGUE | {"new": {"item_ids": [f"n{p}" for p in range(80)], "titles": ["t"] * 80}},
                   vectors=axes(N + 80))  # fmt: skip
    tried = Counter(
        item_id for seed in range(600) for item_id in ask(of, liked("i2"), seed=str(seed)).ids if item_id[0] == "n"
    )
    # N is even in 4 by 2: new item p is like item (p + 2) % 4, so those of i2's kind are p = 0, 4, 8 ...
    assert {int(item_id[1:]) % 4 for item_id in tried} == {0}
    assert len(tried) == 20


def test_titles_of_new_items_are_known():
    assert predictor().title("n3") == "New 3"
    assert predictor().title("i3") == "Title of i3"
    assert predictor().title("x") is None


@pytest.mark.parametrize(
    ("context", "first"),
    [
        ({}, "i0"),
        ({"country": "DE "}, "i7"),
        ({"country": "fr"}, "i0"),
        ({"device": "tv"}, "i4"),
        ({"device": "tv", "country": "de"}, "i7"),  # what tells more counts
        ({"country": None, "device": ["tv"]}, "i0"),
    ],
)
def test_somebody_new_gets_what_is_popular_where_they_are(context, first):
    found = ask(predictor(), (), context=context, reasons=True)
    assert found.cold
    assert found.ids[0] == first
    code = {"i7": "popular_in_context", "i4": "popular_in_context", "i0": "popular"}[first]
    assert found.reasons[0][0].code == code


def test_context_says_nothing_of_somebody_who_is_known():
    assert ask(predictor(), context={"country": "de"}).ids == ask(predictor()).ids


def test_a_liked_item_is_the_reason_only_where_the_list_would_miss_it():
    found = ask(predictor(), liked("i2", "i5"), limit=8, reasons=True)
    sources = {item_id: reasons[0] for item_id, reasons in zip(found.ids, found.reasons, strict=True)}
    assert sources["i6"].item_id == "i2"  # i6 is like i2, and like no other that was liked
    assert sources["i6"].text == "Because you liked Title of i2"
    assert sources["i9"].item_id == "i5"
    assert sources["i7"].code == "history"  # like none of them
    assert all(len(of) >= 1 for of in found.reasons)


def test_a_list_that_the_history_has_no_part_in_is_said_to_be_popular():
    files = video_files(N, catalogue=CATALOGUE, vectors=axes(N + NEW))
    files["retrieval"]["model.onnx"] = retrieval(np.zeros((N, N), dtype=np.float32))
    found = ask(VideoPredictor(load_models(files)), liked("i2", "i6", "i3"), limit=4, reasons=True)
    assert {reason.code for of in found.reasons for reason in of} == {"popular"}


def test_what_is_tried_says_so():
    of = predictor()
    found = next(f for f in (ask(of, seed=str(s), reasons=True) for s in range(99)) if any(f.tried))
    place = found.tried.index(True)
    (reason,) = found.reasons[place]
    assert reason.code == "new"
    assert reason.item_id in ("i2", None)
    assert all(
        reason.code != "new" for p, of_item in enumerate(found.reasons) for reason in of_item if not found.tried[p]
    )


def test_what_a_ranking_saw_is_told_in_words():
    files = video_files(N, with_ranking=True, catalogue=CATALOGUE, vectors=axes(N + NEW))
    names = ["trend"]
    outputs = ["items", "scores", "features"]
    files["retrieval"]["manifest.json"] = manifest("retrieval", outputs=outputs, feature_names=names)
    files["ranking"] = {"model.onnx": ranking(2.0), "manifest.json": manifest("ranking", feature_names=names)}
    found = ask(VideoPredictor(load_models(files)), limit=10, reasons=True)
    told = [[reason for reason in of if reason.code == "trend"] for of in found.reasons]
    assert told[0][0].text == "Popular lately"
    weights = [of[0].weight for of in told if of]
    assert weights == sorted(weights, reverse=True)
    assert all(weight > 0 for weight in weights)
    assert not told[-1] or told[-1][0].weight < told[0][0].weight


def test_freshness_is_told_where_it_counted():
    found = ask(predictor(), preset="fresh", limit=10, reasons=True)
    fresh = {item_id for item_id, of in zip(found.ids, found.reasons, strict=True) if "fresh" in {r.code for r in of}}
    assert fresh
    assert all(int(item_id[1:]) % 2 == 0 and int(item_id[1:]) <= 14 for item_id in fresh)


def broken(name, body):
    files = video_files(N, catalogue=CATALOGUE, vectors=axes(N + NEW), segments=SEGMENTS)
    files["retrieval"][name] = body
    return VideoPredictor(load_models(files))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"TLEM",
        video_files(N, vectors=axes(N + NEW - 1))["retrieval"]["embeddings.bin"],
        video_files(N, vectors=axes(N + NEW))["retrieval"]["embeddings.bin"][:-1],
        b"XXXX" + video_files(N, vectors=axes(N + NEW))["retrieval"]["embeddings.bin"][4:],
        video_files(N, vectors=axes(N + NEW))["retrieval"]["embeddings.bin"][:-2] + b"\x00\x7c",
    ],
)
def test_broken_vectors_are_refused(body):
    with pytest.raises(IntegrityError, match="embeddings"):
        ask(broken("embeddings.bin", body))


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"keys": [{"key": "country"}]},
        {"keys": [{"key": "country", "values": {"de": {"items": [N], "boosts": [1]}}}]},
        {"keys": [{"key": "country", "values": {"de": {"items": [-1], "boosts": [1]}}}]},
        {"keys": [{"key": "country", "values": {"de": {"items": [1, 2], "boosts": [1]}}}]},
        {"keys": [{"key": "country", "values": {"de": {"items": [1], "boosts": [float("nan")]}}}]},
    ],
)
def test_broken_segments_are_refused(content):
    body = gzip.compress(json.dumps(content).encode())
    with pytest.raises(IntegrityError, match=r"segments\.json\.gz"):
        ask(broken("segments.json.gz", body), (), context={"country": "de"})


@pytest.mark.parametrize(
    "changes",
    [
        {"authors": [0]},
        {"published_ms": ["soon"] * N},
        {"tags": [[]]},
        {"new": {"item_ids": ["n0", "n0"], "titles": ["a", "b"]}},
        {"new": []},
    ],
)
def test_a_broken_catalogue_is_refused(changes):
    with pytest.raises(IntegrityError, match=r"items\.json\.gz"):
        predictor(catalogue=CATALOGUE | changes)
