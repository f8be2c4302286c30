"""A release that predicts what becomes of an item blends that into its lists, says it, and stands without a store."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from engaged import NAMES, NOW_MS, SCHEMA, engagement, files, item, shown
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_models import manifest, video_files

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import Asked
from twinloop.contracts.tally import Happening, mark_of
from twinloop.errors import IntegrityError
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.features.schema import schema_hash
from twinloop.features.stores import Known, counted
from twinloop.registry.artefacts import check_components
from twinloop.serving.loading import load_models
from twinloop.systems import load
from twinloop.systems.video import presets
from twinloop.systems.video.features import COUNTING
from twinloop.systems.video.presets import Preset
from twinloop.systems.video.reasons import ENGAGED, LEAST, MOST_TOLD, OFTEN, engaged
from twinloop.systems.video.serve import VideoPredictor, judge, situation

LIKED = (HistoryEntry("i2", 1000, 1.0),)
STORED = {f"i{n}": item(10 * n, duration_s=100.0 - 10 * n, key=n) for n in range(6)}


def predictor(parts: dict[str, dict[str, bytes]] | None = None) -> VideoPredictor:
    return VideoPredictor(load_models(parts or files(), features=load("video").definitions))


def knowing() -> UserKnowledge:
    cache = ItemCache(COUNTING, lambda ids: [STORED.get(item_id, Known()) for item_id in ids], now_ms=lambda: NOW_MS)
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


class Counting:
    """A Knowledge, or a model, that notes how many items it was asked about."""

    def __init__(self, asked: Any) -> None:
        self._asked, self.items = asked, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._asked, name)

    def tensor(self, names: Any, item_ids: Any, at_ms: int) -> Any:
        self.items.append(list(item_ids))
        return self._asked.tensor(names, item_ids, at_ms)

    def run(self, inputs: Any) -> Any:
        self.items.append(inputs["items"].tolist())
        return self._asked.run(inputs)


@pytest.mark.parametrize("reasons", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 3])
def test_for_who_is_not_known_only_what_is_answered_is_read_and_predicted(limit, reasons):
    made, known = predictor(files(40)), Counting(knowing())
    made.engagement = model = Counting(made.engagement)
    found = rank(made, (), limit, known=known, reasons=reasons)
    assert found.cold
    assert found.ids == tuple(f"i{n}" for n in range(limit))
    assert (len(found.p_click), len(found.watch_s)) == (limit, limit)
    assert known.items == ([list(found.ids)] if limit else [])
    assert model.items == ([list(range(limit))] if limit else [])


@pytest.mark.parametrize("reasons", [False, True])
def test_for_who_is_known_every_candidate_is_read_once(reasons):
    made, known = predictor(files(40)), Counting(knowing())
    made.engagement = model = Counting(made.engagement)
    rank(made, LIKED, 3, known=known, reasons=reasons)
    assert [len(ids) for ids in known.items] == [39]
    assert len(model.items[0]) == 39
    assert len(model.items) == 1 + reasons, "reasons ask the model again, with what was read"


def test_reasons_can_be_asked_for():
    found = rank(predictor(), known=knowing(), reasons=True)
    assert len(found.reasons) == len(found.ids)
    assert all(found.reasons)


TOLD = (
    "item_click_rate_30d",
    "item_duration_s",
    "user_author_watch_share_30d",
)  # the first tells clicks, the last seconds
CODES = {"clicked", "watched", "author", "tag"}


def clicked(times: int, clicks: int, author: str, key: int) -> Known:
    attributes = {"author_id": author, "duration_s": 10.0}
    return counted(Known(b"", attributes), shown(times, clicks=clicks, key=key), COUNTING.layout("item"))


def watched(author: str) -> Known:
    """A user who watched 10 minutes, all of one author."""
    layout = COUNTING.layout("user")
    amounts = COUNTING.amounts({"type": "watch", "watch_s": 600.0, "duration_s": 900.0})
    marks = [mark_of(value) for value in ("", author, "")]
    return counted(Known(), [Happening(NOW_MS - 1000, 7, amounts, tuple(marks))], layout)


def of_engagement(found: Any) -> dict[str, list[tuple[str, str]]]:
    return {
        item_id: [(reason.code, reason.text) for reason in reasons if reason.code in CODES]
        for item_id, reasons in zip(found.ids, found.reasons, strict=True)
    }


def test_what_an_engagement_was_told_is_said_of_the_items_of_which_it_is_true(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "clicks", Preset("", click=0.6))
    monkeypatch.setitem(presets.PRESETS, "watching", Preset("", watch=0.2))
    stored = {
        "i0": clicked(40, 30, "x", 0),  # often clicked
        "i1": clicked(40, 7, "y", 1),  # above the others' mean, but not what may be called often
        "i3": clicked(1, 1, "y", 3),  # one click
        "i4": clicked(40, 0, "x", 4),
        "i5": clicked(40, 0, "z", 5),
    }
    cache = ItemCache(COUNTING, lambda ids: [stored.get(i, Known()) for i in ids], now_ms=lambda: NOW_MS)
    parts = files(names=TOLD)
    parts["engagement"]["model.onnx"] = engagement(len(TOLD), click=10.0)
    made, known = predictor(parts), UserKnowledge(COUNTING, watched("x"), cache)
    clicks = rank(made, known=known, preset="clicks", reasons=True)
    nothing = {item_id: [] for item_id in stored}
    assert of_engagement(clicks) == nothing | {"i0": [("clicked", "People often click it")]}
    assert {item_id: reasons[0].code for item_id, reasons in zip(clicks.ids, clicks.reasons, strict=True)}["i0"] == (
        "clicked"
    ), "it comes first where clicks have most of the say"
    watching = rank(made, known=known, preset="watching", reasons=True)
    mine = [("author", "You watched this author lately")]
    assert of_engagement(watching) == nothing | {"i0": mine, "i4": mine}
    assert all(reasons[0].code not in CODES for reasons in watching.reasons), "retrieval has most of the say"
    monkeypatch.setitem(presets.PRESETS, "clicks", Preset(""))
    assert of_engagement(rank(made, known=known, preset="clicks", reasons=True)) == nothing, "what was not asked"
    without = rank(made, known=UserKnowledge(COUNTING, None, None), preset="watching", reasons=True)
    assert of_engagement(without) == nothing, "defaults bring nobody anything"
    assert of_engagement(rank(made, (), known=known, preset="watching", reasons=True)).keys() >= stored.keys()
    assert not any(of_engagement(rank(made, (), known=known, preset="watching", reasons=True)).values())


DEFAULTS = {name: 0.1 for part in ENGAGED for name in part.columns}


@given(
    hnp.arrays(np.float32, (6, len(DEFAULTS)), elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.float32, len(DEFAULTS), elements=st.floats(-3, 3, width=32)),
    st.lists(st.sampled_from(["jazz", None]), min_size=6, max_size=6),
)
def test_a_text_is_said_only_where_its_feature_is_high_and_its_part_speaks_for_the_item(values, weights, tags):
    found = engaged(lambda rows: rows @ weights, values, DEFAULTS, np.arange(6), tags)
    names = {text: name for part in ENGAGED for name, text in part.words}
    columns = {name: place for place, name in enumerate(DEFAULTS)}
    parts = {part.code: [columns[name] for name in part.columns] for part in ENGAGED}
    mean = values.mean(axis=0)
    for row, tag, reasons in zip(values, tags, found, strict=True):
        assert [reason.weight for reason in reasons] == sorted((reason.weight for reason in reasons), reverse=True)
        for reason in reasons:
            text = reason.text.replace(tag, "{tag}") if tag else reason.text
            column = columns[names[text]]
            assert row[column] >= OFTEN * DEFAULTS[names[text]] - 1e-6
            assert row[column] > mean[column]
            assert column in parts[reason.code]
            lost = float(((row - mean) * weights)[parts[reason.code]].sum())
            assert reason.weight == pytest.approx(lost, abs=1e-3)
            assert reason.weight >= LEAST - 1e-3


def test_a_part_that_speaks_against_an_item_and_one_without_words_are_not_told():
    values = np.full((3, len(DEFAULTS)), 0.1, np.float32)
    values[0] = 0.9
    assert engaged(lambda rows: -rows.sum(axis=-1), values, DEFAULTS, np.arange(3), ["jazz"] * 3) == [()] * 3
    [first, *others] = engaged(lambda rows: rows.sum(axis=-1), values, DEFAULTS, np.arange(3), ["jazz"] * 3)
    assert len(first) == MOST_TOLD
    assert others == [(), ()]
    assert engaged(lambda rows: rows, values[:, :1], {"user_clicks_7d": 0.0}, np.arange(3), [None] * 3) == [()] * 3
    [tagged, *_] = engaged(
        lambda rows: rows.sum(axis=-1), values[:, :1], {"user_tag_watch_share_30d": 0.1}, np.arange(3), [None] * 3
    )
    assert tagged == (), "a tag without a name"


def test_every_part_names_features_that_are_counted_and_have_a_default_to_be_far_above_of():
    """Of a default of 0 everybody would be far above."""
    defaults = {feature.name: feature.default for feature in COUNTING.features}
    for part in ENGAGED:
        assert set(part.columns) <= defaults.keys()
        for name, _ in part.words:
            assert name in part.columns
            assert 0 < OFTEN * defaults[name] < 1
    for feature in COUNTING.features:
        if feature.kind == "rate" and feature.of == "clicks":
            alone = (1 + feature.prior * feature.weight) / feature.weight
            assert alone < OFTEN * feature.default, "one click makes nothing often"


def test_reasons_ask_the_model_in_the_context_of_the_request(monkeypatch):
    made, heard = predictor(), []
    usual = made.predicted
    monkeypatch.setattr(
        made, "predicted", lambda ids, history, **more: heard.append(more["context"]) or usual(ids, history, **more)
    )
    parts = files(names=TOLD)
    made.engagement = predictor(parts).engagement
    asked = Asked(context={"device": "tv"}, reasons=True)
    made.rank(LIKED, (), 3, at_ms=NOW_MS, asked=asked, known=knowing())
    assert heard == [{"device": "tv"}]


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
