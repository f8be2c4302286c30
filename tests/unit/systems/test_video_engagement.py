"""A release that predicts what becomes of an item blends that into its lists, says it, and stands without a store."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from engaged import NAMES, NOW_MS, SCHEMA, engagement, files, item
from tiny_models import manifest, video_files

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import Asked
from twinloop.errors import IntegrityError
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.features.schema import schema_hash
from twinloop.features.stores import Known
from twinloop.registry.artefacts import check_components
from twinloop.serving.loading import load_models
from twinloop.systems import load
from twinloop.systems.video import presets
from twinloop.systems.video.features import COUNTING
from twinloop.systems.video.presets import Preset
from twinloop.systems.video.serve import VideoPredictor, judge, situation

LIKED = (HistoryEntry("i2", 1000, 1.0),)
STORED = {f"i{n}": item(10 * n, duration_s=100.0 - 10 * n, key=n) for n in range(6)}


def predictor(parts: dict[str, dict[str, bytes]] | None = None) -> VideoPredictor:
    return VideoPredictor(load_models(parts or files(), features=load("video").definitions))


def knowing() -> UserKnowledge:
    cache = ItemCache(COUNTING, lambda ids: [STORED.get(item_id, Known()) for item_id in ids])
    return UserKnowledge(COUNTING, Known(), cache)


def rank(made: VideoPredictor, history: Any = LIKED, limit: int = 10, **more: Any) -> Any:
    asked = Asked(**{name: more.pop(name) for name in ("preset", "seed", "reasons") if name in more})
    return made.rank(history, (), limit, at_ms=NOW_MS, asked=asked, **more)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Presets that look at one thing alone."""
    for name, preset in {
        "scores": Preset(""),
        "clicks": Preset("", click=1.0),
        "watching": Preset("", watch=1.0),
    }.items():
        monkeypatch.setitem(presets.PRESETS, name, preset)


def test_predictions_of_each_item_are_told(only):
    found = rank(predictor(), known=knowing(), preset="scores")
    assert found.ids == ("i3", "i4", "i5", "i0", "i1")
    assert found.p_click == pytest.approx([1 / (1 + math.exp(-n)) for n in (3, 4, 5, 0, 1)])
    assert found.watch_s == (70.0, 60.0, 50.0, 100.0, 90.0)
    assert not found.degraded


def test_presets_order_by_them(only):
    made = predictor()
    assert rank(made, known=knowing(), preset="clicks").ids == ("i5", "i4", "i3", "i1", "i0")
    assert rank(made, known=knowing(), preset="watching").ids == ("i0", "i1", "i3", "i4", "i5")
    one = rank(made, known=knowing(), preset="clicks", limit=1)
    assert (len(one.p_click), len(one.watch_s)) == (1, 1)


def test_it_comes_after_a_ranking(only):
    made = predictor(files(with_ranking=True))
    assert rank(made, known=knowing(), preset="scores").ids == ("i1", "i0", "i5", "i4", "i3")
    assert rank(made, known=knowing(), preset="clicks").ids == ("i5", "i4", "i3", "i1", "i0")


@pytest.mark.parametrize("preset", ["balanced", "watch_time", "fresh", "diverse"])
def test_without_a_store_there_is_a_list_of_defaults_and_it_says_so(preset):
    made = predictor()
    for known in (None, UserKnowledge(COUNTING, None, None)):
        found = rank(made, known=known, preset=preset)
        assert found.degraded
        assert sorted(found.ids) == ["i0", "i1", "i3", "i4", "i5"]
        assert found.p_click == (0.5,) * 5
        assert found.watch_s == (0.0,) * 5


def test_who_is_not_known_gets_what_everybody_gets_and_is_told_what_would_come_of_it(only):
    found = rank(predictor(), (), known=knowing(), preset="clicks")
    assert found.cold
    assert found.ids == ("i0", "i1", "i2", "i3", "i4", "i5")
    assert found.watch_s == (100.0, 90.0, 80.0, 70.0, 60.0, 50.0)


def test_an_item_that_is_tried_out_has_no_prediction(monkeypatch):
    eager = Preset("", explore=1.0, explore_share=1.0)
    monkeypatch.setitem(presets.PRESETS, "eager", eager)
    new = {"item_ids": ["n0", "n1"], "titles": ["", ""]}
    found = rank(predictor(files(9, catalogue={"new": new})), known=knowing(), preset="eager", seed="s")
    (place,) = [n for n, flag in enumerate(found.tried) if flag]
    assert found.p_click[place] is None
    assert found.watch_s[place] is None
    assert None not in found.p_click[:place] + found.p_click[place + 1 :]


def test_a_release_without_it_asks_for_nothing_and_tells_nothing():
    made = predictor(video_files(schema_hash=schema_hash(())))
    found = made.rank(LIKED, (), 10, at_ms=NOW_MS)
    assert not made.asks_known
    assert (found.p_click, found.watch_s, found.degraded) == ((), (), False)


def test_reasons_can_be_asked_for():
    found = rank(predictor(), known=knowing(), reasons=True)
    assert len(found.reasons) == len(found.ids)
    assert all(found.reasons)


def test_no_candidate_no_prediction():
    found = rank(predictor(), tuple(HistoryEntry(f"i{n}", n, 1.0) for n in range(6)), known=knowing())
    assert (found.ids, found.p_click, found.watch_s) == ((), (), ())


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_what_is_no_probability_is_refused(weight):
    parts = files()
    parts["engagement"]["model.onnx"] = engagement(len(NAMES), click=weight)
    with pytest.raises(IntegrityError, match="no probabilities"):
        rank(predictor(parts), known=None)


def test_a_model_may_leave_inputs_out_and_ask_for_no_unknown_ones():
    parts = files()
    about = {"schema_hash": SCHEMA, "known_names": NAMES, "outputs": ["click", "long_watch", "watch_s"]}
    parts["engagement"] |= {
        "model.onnx": engagement(len(NAMES), more=()),
        "manifest.json": manifest("engagement", inputs=["known"], **about),
    }
    assert rank(predictor(parts), known=knowing()).watch_s


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ({"tab": 1, "device": "TV "}, [1, 2]),
        ({"tab": "1", "device": "phone"}, [1, 1]),
        ({"tab": 7, "device": True}, [0, 0]),
        ({"tab": 1.5, "device": None, "mood": "good"}, [0, 0]),
        ({}, [0, 0]),
    ],
)
def test_facts_of_the_moment_are_places_among_those_that_the_model_knows(context, told):
    found = situation({"tab": ("1", "2"), "device": ("phone", "tv")}, context)
    assert found.dtype == np.int64
    assert found.tolist() == told


def test_a_feature_that_is_defined_otherwise_is_refused():
    changed = [f.model_copy(update={"version": 2}) if f.name == NAMES[0] else f for f in load("video").definitions]
    with pytest.raises(IntegrityError, match="feature schema"):
        load_models(files(), features=changed)
    with pytest.raises(IntegrityError, match="no feature is called"):
        load_models(files(), features=load("video").features)


def test_a_manifest_that_names_another_number_of_features_is_refused():
    parts = files()
    about = {"schema_hash": SCHEMA, "known_names": NAMES[:2], "outputs": ["click", "long_watch", "watch_s"]}
    inputs = ["known", "items", "history", "times", "at"]
    parts["engagement"]["manifest.json"] = manifest("engagement", inputs=inputs, **about)
    with pytest.raises(IntegrityError, match="4 known, but its manifest names 2"):
        load_models(parts)


def test_judging_asks_as_serving_does(only, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "balanced", Preset("", click=1.0))
    request = {"user_id": "u", "time_ms": NOW_MS, "history": [["i2", 1000, 1.0]]}
    case = Case(case_id="c", request=request | {"known": knowing()}, truth={"relevant": ["i5"]})
    assert judge(predictor(), case)["ndcg@10"] == 1.0
    plain = case.model_copy(update={"request": request})
    assert judge(predictor(), plain)["ndcg@10"] < 1.0  # of defaults all are alike, so the retrieval's order stays


def test_components_name_what_they_are_asked_with_each_for_itself():
    parts = files(with_ranking=True)
    artefact = check_components(parts)
    usual, asked = (artefact.manifests[name].schema_hash for name in ("retrieval", "engagement"))
    assert (usual, asked) == (schema_hash(()), SCHEMA)
    assert artefact.schema_hash not in (usual, asked)
    assert check_components({name: parts[name] for name in ("retrieval", "ranking")}).schema_hash == usual
    parts["ranking"]["manifest.json"] = manifest("ranking", schema_hash="other")
    with pytest.raises(IntegrityError, match="differ in schema_hash"):
        check_components(parts)
