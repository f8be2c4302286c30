"""Requests of `video`, and the models that answer them, on one thread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.predictions.models import engagement, linear_retrieval, search, trees
from benchmarks.predictions.releases import beside, component, promoted, release_files
from benchmarks.predictions.timing import percentiles
from benchmarks.predictions.world import ASKED, CONTEXT, DAY, EVENT, HISTORY, ITEMS, LARGE, NOW_MS, RNG, MemoryStream
from numpy.typing import NDArray

from twinloop import systems
from twinloop.contracts.system import Asked
from twinloop.contracts.tally import Happening, Tally, mark_of
from twinloop.features.outcomes import known_features
from twinloop.features.stores import Attributes, Entity, MemoryFeatureStore, MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.serving.lambdas import answer
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app
from twinloop.systems.video.features import COUNTING
from twinloop.systems.video.serve import VideoPredictor
from twinloop.training.artefact import session
from twinloop.training.two_tower_graph import int8_recall, two_tower_graph
from twinloop.training.validate import Question


def ranking() -> dict[str, Any]:
    """500 candidates through a model of the usual size, on one thread, as serving runs it."""
    parts = component("ranking", trees(300, 6, 40), ("features",), ("scores",))
    model = load_models({"ranking": parts})["ranking"]
    features = RNG.normal(size=(500, 40)).astype(np.float32)
    return percentiles(lambda: model.run({"features": features}), 500) | {"budget_p50_ms": 8, "budget_p99_ms": 20}


def recommendation() -> dict[str, Any]:
    """500 candidates of 40 features, from the history to the list, on one thread."""
    names = tuple(f"{('ease', 'cosine', 'next', 'tags', 'trend')[column % 5]}_{column}" for column in range(40))
    asked, found = ("history", "times", "exclude", "context"), ("items", "scores", "features")
    files = {
        "retrieval": component("retrieval", linear_retrieval(500, 40), asked, found, CONTEXT, columns=names) | beside(),
        "ranking": component("ranking", trees(300, 6, 40), ("features",), ("scores",), CONTEXT, columns=names),
    }
    predictor = VideoPredictor(load_models(files))
    turn = iter(range(10**9))

    def rank(limit: int, *, preset: str | None = None, reasons: bool = False) -> Callable[[], Any]:
        return lambda: predictor.rank(
            HISTORY, (), limit, at_ms=10**12, asked=Asked(preset, f"seed {next(turn)}", {}, reasons)
        )

    retrieval, ranked = predictor.retrieval, predictor.ranking
    assert ranked is not None
    inputs: dict[str, NDArray[Any]] = {
        "history": np.arange(200), "times": np.arange(200), "exclude": np.arange(200),
        "context": np.zeros(len(CONTEXT), np.float32),
    }  # fmt: skip
    return {
        "models_alone": percentiles(lambda: ranked.run({"features": retrieval.run(inputs)["features"]}), 500),
        "list_of_20": percentiles(rank(20), 500),
        "list_of_100_diverse": percentiles(rank(100, preset="diverse"), 500),
        "list_of_20_with_reasons": percentiles(rank(20, reasons=True), 200),
        "budget_p50_ms": 8,
        "budget_p99_ms": 20,
    }


def engaged() -> dict[str, Any]:
    """A request of 500 candidates with what is known of user and items, and the answer's log line."""
    names = tuple(feature.name for feature in known_features(COUNTING))
    columns = tuple(f"{('ease', 'cosine', 'next', 'tags', 'trend')[column % 5]}_{column}" for column in range(40))
    asked, found = ("history", "times", "exclude", "context"), ("items", "scores", "features")
    retrieval_files = component("retrieval", linear_retrieval(500, 40), asked, found, CONTEXT, columns=columns)
    model = engagement(len(names))
    inputs, outputs = tuple(t.name for t in session(model).get_inputs()), ("click", "long_watch", "watch_s")
    files = {
        "retrieval": retrieval_files | beside(),
        "ranking": component("ranking", trees(300, 6, 40), ("features",), ("scores",), CONTEXT, columns=columns),
        "engagement": component("engagement", model, inputs, outputs, known=names),
    }
    store, known, log = MemoryObjectStore(), MemoryFeatureStore(), MemoryStream()
    promoted(store, files)
    _fill(known)
    app = make_app(systems.load("video"), store, known, log, features=known)
    alone, tensors = load_models(files)["engagement"], iter(range(10**9))
    given: dict[str, NDArray[Any]] = {
        "known": RNG.normal(size=(500, len(names))).astype(np.float32), "items": np.arange(500),
        "history": np.arange(200), "times": np.arange(200) + 1_700_000_000, "at": np.array([1_760_000_000]),
    }  # fmt: skip

    def request_at(later_ms: Callable[[], int]) -> Callable[[], Any]:
        def call() -> Any:
            body = ASKED | {"time_ms": NOW_MS + later_ms()}
            return answer(EVENT | {"body": json.dumps(body)}, lambda: app)

        return call

    first = json.loads(request_at(lambda: 0)()[0]["body"])
    assert not first["degraded"], first
    assert first["items"][0]["p_click"] is not None, first
    return {
        "features": len(names),
        "engagement_kb": round(len(model) / 1024),
        "model_alone": percentiles(lambda: alone.run({name: given[name] for name in inputs}), 500, time.thread_time),
        "warm": percentiles(request_at(lambda: 0), 1000, time.thread_time),
        "cold": percentiles(request_at(lambda: 31_000 * (1 + next(tensors))), 100, time.thread_time),
        "budget_p50_ms": 8,
        "budget_p99_ms": 20,
    }


def retrieval() -> dict[str, Any]:
    """The two-tower job's own graph over 100,000 items on one thread, with one pair of towers and with the usual three.

    The history tower, int8 products with all items, exact scores of the best; how many of the exact best 150 it finds.
    """
    histories = [RNG.integers(0, LARGE, 50) for _ in range(100)]
    asked = [Question(history, history, history) for history in histories]
    out: dict[str, Any] = {}
    for members in (1, 3):
        model = search(members)
        bytes_ = two_tower_graph(model)
        parts = component("retrieval", bytes_, ("history", "times", "exclude"), ("items", "scores"))
        opened, turn = load_models({"retrieval": parts})["retrieval"], iter(range(10**9))
        inputs = [{"history": history, "times": history, "exclude": history} for history in histories]
        out[f"members_{members}"] = (
            percentiles(
                lambda m=opened, t=turn, i=inputs: m.run(i[next(t) % len(i)]),  # type: ignore[misc]
                500,
            )
            | {
                "mb": round(len(bytes_) / 1e6, 1),
                "int8_recall_at_150": round(int8_recall(session(bytes_), model, asked[:20]), 4),
            }
        )
    return {**out, "budget_p50_ms": 1}


def request() -> dict[str, Any]:
    """A whole request in process, history of 200 events, answer of 20 titles."""
    store, histories = MemoryObjectStore(), MemoryOnlineStore()
    promoted(store, release_files())
    histories.merge("video", "u1", HISTORY)
    app = make_app(systems.load("video"), store, histories, None)
    assert json.loads(answer(EVENT, lambda: app)[0]["body"])["cold"] is False
    return percentiles(lambda: answer(EVENT, lambda: app), 1000)


def _fill(store: MemoryFeatureStore) -> None:
    """Everything of a user with a full memory, and of every item."""
    store.merge("video", "u1", HISTORY)
    store.count("video", ("user", "u1"), _happened(600, len(COUNTING.marks)), COUNTING.layout("user"))
    for place in range(ITEMS):
        named = {"author_id": f"x{place % 300}", "tag": f"t{place % 18}"}
        facts: Attributes = {**named, "duration_s": 30.0, "published_ms": NOW_MS - DAY}
        key: tuple[Entity, str] = ("item", f"i{place}")
        store.settle("video", key, Tally(), facts, COUNTING.layout("item"))
        store.count("video", key, _happened(400, 0), COUNTING.layout("item"))


def _happened(count: int, marks: int) -> list[Happening]:
    """Events of 40 days."""
    kinds = ("impression", "impression", "impression", "click", "watch")
    drawn = zip(RNG.integers(0, 40 * DAY, count).tolist(), RNG.integers(0, 2**62, count).tolist(), strict=True)
    return [
        Happening(
            NOW_MS - before,
            key,
            COUNTING.amounts({"type": kinds[key % len(kinds)], "watch_s": 12.5, "duration_s": 30.0}),
            tuple(mark_of(f"{'xt'[place % 2]}{key % 18}") for place in range(marks)),
        )
        for before, key in drawn
    ]
