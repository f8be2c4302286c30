"""What serving is asked with, and what the gate's cases carry, is what snapshots say of the same moment."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engaged import files
from numpy.typing import NDArray
from shown import ITEMS, MINUTE, START, START_MS, VIDEO, Row, background, busy, impressions, lake, row, taken

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError, IntegrityError
from twinloop.evaluation.candidates import open_bench
from twinloop.features import judged_shown
from twinloop.features.judged import ITEMS_FILE, SHOWN_FILE, USERS_FILE, ItemsAsOf, KnownThen, read_users
from twinloop.features.knowledge import ItemCache, UserKnowledge, of_item
from twinloop.features.materialise import materialise
from twinloop.features.outcomes import known_features
from twinloop.features.stores import MemoryFeatureStore
from twinloop.serving.loading import load_models
from twinloop.systems.video.features import COUNTING, OUTCOMES
from twinloop.systems.video.serve import VideoPredictor

NAMES = tuple(feature.name for feature in known_features(COUNTING))
LIKES_NOTHING = ("impression", "watch")  # a watch likes where it is long


class Heard:
    """An engagement that keeps what it is asked with."""

    def __init__(self, model: Any) -> None:
        self.manifest, self.inputs, self._model = model.manifest, dict[str, NDArray[Any]](), model

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.inputs = dict(inputs)
        return dict(self._model.run(inputs))


def listening() -> tuple[VideoPredictor, Heard]:
    models = dict(load_models(files(5, names=NAMES), features=VIDEO.definitions))
    heard = models["engagement"] = Heard(models["engagement"])
    return VideoPredictor(models), heard


def at_ms(event: Mapping[str, Any]) -> int:
    return round((event["time"] - START).total_seconds() * 1000) + START_MS


@pytest.mark.parametrize("turn", [40, 171, -1])
def test_the_predictor_is_asked_with_the_values_of_the_snapshot_at_that_moment(turn):
    """The lake of everything before an impression goes into the store; one more predictor asks for it."""
    rows = [*busy(), *background()]
    store, manifest = taken(busy(), items=ITEMS)
    label = sorted(impressions(store, manifest), key=lambda r: r["time_ms"])[turn]
    before, features = lake([r for r in rows if at_ms(r) < label["time_ms"]], ITEMS), MemoryFeatureStore()
    materialise(VIDEO, before, features, features=features)

    recalled = features.recall("video", label["user_id"])
    items = ItemCache(COUNTING, lambda ids: features.known("video", [("item", item_id) for item_id in ids]))
    predictor, heard = listening()
    # The items of the history are not in the list: with one of another user, all others are.
    other = next(i["item_id"] for i in ITEMS if i["item_id"] != label["item_id"])
    found = predictor.rank(
        (HistoryEntry(other, 1000, 1.0),),
        (),
        10,
        at_ms=label["time_ms"],
        known=UserKnowledge(COUNTING, recalled.user, items),
    )
    assert not found.degraded
    asked = heard.inputs["items"].tolist().index(predictor.catalogue.index[label["item_id"]])
    assert dict(zip(NAMES, heard.inputs["known"][asked].tolist(), strict=True)) == {n: label[n] for n in NAMES}
    assert heard.inputs["at"].tolist() == [label["time_ms"] // 1000]


def liking_new() -> list[Row]:
    """Whoever is busy likes something new in the end."""
    return [*busy(), *(row("click", 240 * 37 * MINUTE + n * MINUTE, f"u{n}", "new") for n in range(4))]


@pytest.fixture(scope="module")
def bench() -> Any:
    store, manifest = taken(liking_new(), items=ITEMS)
    return open_bench(store, VIDEO, load_models, f"snapshots/video/{manifest.snapshot_id}/"), store, manifest


def test_cases_carry_what_the_store_would_have_said(bench):
    bench, _, _ = bench
    of_user = [f.name for f in known_features(COUNTING) if f.entity == "user"]
    others = [f.name for f in known_features(COUNTING) if f.entity == "user_item"]
    ids = [item["item_id"] for item in ITEMS]
    assert len({case.case_id for case in bench.cases} & {"u0", "u1", "u2", "u3"}) > 1
    for case in bench.cases:
        moment, features = case.request["time_ms"], MemoryFeatureStore()
        rows = [r for r in [*liking_new(), *background()] if at_ms(r) < moment]
        materialise(VIDEO, lake(rows, ITEMS), features, features=features)
        items = ItemCache(COUNTING, lambda wanted, s=features: s.known("video", [("item", i) for i in wanted]))
        live = UserKnowledge(COUNTING, features.recall("video", case.case_id).user, items)
        told = case.request["known"]
        for names in (of_user, others):
            assert (told.tensor(names, ids, moment) == live.tensor(names, ids, moment)).all()
        of_items = [f.name for f in of_item(COUNTING)]
        # So few cases that each has a moment of its own: items are known as of the case, to the millisecond.
        assert (told.tensor(of_items, ids, moment) == live.tensor(of_items, ids, moment)).all()
        assert not told.degraded


def test_items_are_known_as_of_the_latest_moment_that_is_not_after(bench):
    _, store, manifest = bench
    body = store.read(f"snapshots/video/{manifest.snapshot_id}/{ITEMS_FILE}").body
    items, moments = ItemsAsOf(COUNTING, body), np.load(io.BytesIO(body))["moments"]
    (at, _), (later, _), (before, _) = (
        items.about(["i0", "nobody's"], int(m)) for m in (moments[1], moments[2] - 1, moments[0] - 1)
    )
    assert (at.values == later.values).all()
    defaults = [np.float32(f.default) for f in of_item(COUNTING)]
    assert before.values[0].tolist() == before.values[1].tolist() == at.values[1].tolist() == defaults
    assert at.marks[0].all()


def test_a_release_is_judged_with_it(bench):
    bench, _, _ = bench
    scores, foretold = bench.scores(files(5, names=NAMES))
    assert foretold is not None
    assert len(scores.case_ids) == len(bench.cases)
    assert np.isfinite(scores.metrics["ndcg@10"]).all()


@pytest.mark.parametrize("name", [ITEMS_FILE, SHOWN_FILE, USERS_FILE])
def test_files_that_were_changed_are_refused(name):
    store, manifest = taken(busy()[:60])
    key = f"snapshots/video/{manifest.snapshot_id}/"
    store.write(key + name, store.read(key + name).body + b" ")
    with pytest.raises(IntegrityError, match=name):
        open_bench(store, VIDEO, load_models, key)


@pytest.mark.parametrize("body", [b"nonsense", b"PK\x03\x04", b"\x1f\x8b\x08\x00"])
def test_files_that_cannot_be_read_are_refused(body):
    with pytest.raises(BadInputError, match="cannot be read"):
        ItemsAsOf(COUNTING, body)
    with pytest.raises(BadInputError, match="cannot be read"):
        read_users(body)


def test_files_of_other_features_are_refused(bench):
    _, store, manifest = bench
    with np.load(io.BytesIO(store.read(f"snapshots/video/{manifest.snapshot_id}/{ITEMS_FILE}").body)) as file:
        parts = dict(file)
    parts["names"] = np.frombuffer(json.dumps(["other"]).encode(), np.uint8)
    body = io.BytesIO()
    np.savez(body, **parts)
    with pytest.raises(BadInputError, match="other features"):
        ItemsAsOf(COUNTING, body.getvalue())


def lines_of(store: Any, manifest: Any) -> list[Case]:
    body = store.read(f"snapshots/video/{manifest.snapshot_id}/{SHOWN_FILE}").body
    return [Case.model_validate_json(line) for line in gzip.decompress(body).splitlines()]


def test_held_out_impressions_are_told_as_serving_would_have_been_asked(bench):
    bench, store, manifest = bench
    found = {(r["user_id"], r["item_id"], r["time_ms"]): r for r in impressions(store, manifest) if r["part"] == "test"}
    cases = lines_of(store, manifest)
    assert len(cases) == len(found) == manifest.rows["cases/impressions"] > 0
    likes = {
        (r["user_id"], r["item_id"], at_ms(r)) for r in [*liking_new(), *background()] if r["type"] not in LIKES_NOTHING
    }
    for case, asked in zip(cases, bench.shown, strict=True):
        request = case.request
        assert request.keys() == {"user_id", "time_ms", "item_id", "history", "context", "known"}  # and no position
        label = found[request["user_id"], request["item_id"], request["time_ms"]]
        assert case.truth == {name: label[f"label_{name}"] for name in ("click", "long_watch", "watch_s")}
        moments = [moment for _, moment, _ in request["history"]]
        assert moments == sorted(moments)
        assert all(moment < request["time_ms"] for moment in moments)
        mine = {(item, at) for user, item, at in likes if user == request["user_id"] and at < request["time_ms"]}
        assert {(item, at) for item, at, _ in request["history"]} >= mine
        values = asked.request["known"].tensor(NAMES, [request["item_id"]], 0)
        np.testing.assert_array_equal(values, np.array([[label[name] for name in NAMES]], np.float32))
    assert any(case.truth["click"] for case in cases)


def test_no_more_impressions_are_held_out_than_the_gate_asks_about_and_always_the_same(monkeypatch, bench):
    _, store, manifest = bench
    every = {case.case_id: case for case in lines_of(store, manifest)}
    monkeypatch.setattr(judged_shown, "MOST_LIKES", 2)
    system = replace(VIDEO, outcomes=replace(OUTCOMES, most_judged=3))
    few = [lines_of(*taken(rows, system=system, items=ITEMS)) for rows in (liking_new(), liking_new()[::-1])]
    assert few[0] == few[1]
    least = sorted(every, key=lambda case_id: hashlib.sha256(case_id.encode()).hexdigest())[:3]
    assert {case.case_id for case in few[0]} == set(least)
    for case in few[0]:
        assert case.request["history"] == every[case.case_id].request["history"][-2:]


def test_ids_that_hold_separators_are_told_apart():
    at = 300 * 37 * MINUTE
    rows = [row("impression", at, user, item) for user, item in (("b00/i", "n"), ("b00", "i/n"), ('b"', "[1,"))]
    likes = [row("rating", n, user, f"j{n}", rating=5.0) for user in ("b00/i", 'b"') for n in range(9)]
    store, manifest = taken([*likes, *rows])
    ids = [case.case_id for case in lines_of(store, manifest)]
    assert len(ids) == len(set(ids)) == 3
    assert open_bench(store, VIDEO, load_models, f"snapshots/video/{manifest.snapshot_id}/").shown


def test_where_nothing_shown_has_been_waited_for_there_is_no_file_of_it():
    store, manifest = taken([row("impression", 10**9, "b00", "i0")])  # the last thing that happened
    assert SHOWN_FILE not in {entry.path for entry in manifest.files}
    bench = open_bench(store, VIDEO, load_models, f"snapshots/video/{manifest.snapshot_id}/")
    assert bench.shown == []
    assert bench.scores(files(5, names=NAMES))[1] is None


def test_a_model_asked_with_what_no_impression_has_is_refused():
    with pytest.raises(IntegrityError, match="'nothing'"):
        KnownThen({"a": 1.0}).tensor(["nothing"], ["i"], 0)
    assert np.isnan(KnownThen({"a": None}).tensor(["a"], ["i"], 0)).all()
