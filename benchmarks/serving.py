"""Serving: cold start against a bare script, and what one request costs on one thread.

    python benchmarks/serving.py [--out benchmarks/serving.json] [--starts 15] [--only PART ...]

With --only, the other parts of the result stay as they are.

`cold_start`: from a fresh process to the first prediction. Ours is the real handler with real clients against a server
on this machine that plays S3, DynamoDB and Firehose with next to no work of its own; the bare script imports
onnxruntime, makes boto3's DynamoDB client and opens the same models from disk, and asks nobody for anything. Both are
started in turns.
`ranking`: 500 candidates with 40 features through 300 trees of depth 6, features in memory.
`recommendation`: the whole predictor on 500 candidates: retrieval, those trees, re-ranking with vectors, authors, times
of publication and trials of new items, for lists of 20 and of 100 and with reasons; and the models alone.
`engagement`: the same 500 candidates with an engagement beside them, as the multi-task job exports one: a whole request
through the handler's code, what is known of the items in memory (`warm`), or to be read from a store in memory
(`cold`). Times are the thread's own, so that a busy machine does not tell.
`ads`: 100 ads with bids, and 1,000, through the handler's code, with the cross network as its job exports it and what
is known of user and ads in memory; the thread's own times.
`retrieval`: the best 150 of 100,000 items by the graph that the two-tower job exports, which searches in int8.
`request`: a whole request but the network: validation, routing, history, two models, answer, log line.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twinloop import systems
from twinloop.contracts.artefacts import ComponentManifest, Parity, release_schema
from twinloop.contracts.embeddings import pack_embeddings
from twinloop.contracts.hashing import Hashed
from twinloop.contracts.history import HistoryEntry, pack
from twinloop.contracts.system import Asked
from twinloop.contracts.tally import Happening, Tally, mark_of
from twinloop.errors import NotFoundError
from twinloop.features.counting import marks_of
from twinloop.features.outcomes import known_features
from twinloop.features.schema import chosen, schema_hash
from twinloop.features.stores import Attributes, Entity, MemoryFeatureStore, MemoryOnlineStore
from twinloop.ports import MemoryObjectStore, ObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.lambdas import answer
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app
from twinloop.systems.ads.features import COUNTING as ADS
from twinloop.systems.ads.features import HASHED
from twinloop.systems.video.features import COUNTING
from twinloop.systems.video.serve import VideoPredictor
from twinloop.training.artefact import session
from twinloop.training.calibration import IDENTITY
from twinloop.training.click_graph import click_graph
from twinloop.training.clicks import Rows
from twinloop.training.cross_network import Learner
from twinloop.training.cross_network import Shape as CrossShape
from twinloop.training.events import Events
from twinloop.training.multitask import Engagement
from twinloop.training.multitask import Shape as MultitaskShape
from twinloop.training.multitask_graph import engagement_graph
from twinloop.training.taste import Content, Taste, TasteShape
from twinloop.training.two_tower import Ensemble, Shape
from twinloop.training.two_tower_graph import int8_recall, two_tower_graph
from twinloop.training.validate import Question
from twinloop.training.watch_bins import fit_bins

ROOT = Path(__file__).resolve().parents[1]
ITEMS, NEW, LARGE, CANDIDATES, FEATURES = 1682, 500, 100_000, 150, 8
ADS_KNOWN = 1000
CONTEXT = tuple(feature.name for feature in systems.load("video").features)
DAY = 86_400_000
NOW_MS = 1_767_225_600_000
RNG = np.random.default_rng(7)
HISTORY = tuple(HistoryEntry(f"i{place}", 1000 + place, 1.0) for place in range(0, 400, 2))
ASKED = {"user_id": "u1", "limit": 20, "include": ["titles"]}
EVENT = {
    "httpMethod": "POST",
    "path": "/v1/video/recommendations",
    "headers": {"Content-Type": "application/json"},
    "body": json.dumps(ASKED),
}
BARE = """
import sys
import boto3
import onnxruntime
boto3.client("dynamodb")
for path in sys.argv[1:]:
    onnxruntime.InferenceSession(path)
print("ready", flush=True)
"""
OURS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import handler
answer = handler.handler(json.loads(sys.argv[2]), None)
body = json.loads(answer["body"])
assert answer["statusCode"] == 200 and len(body["items"]) == 20 and not body["degraded"] and not body["cold"], body
print("ready", flush=True)
"""


def main() -> None:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "serving.json")
    parser.add_argument("--starts", type=int, default=15)
    parts: dict[str, Callable[[], Any]] = {
        "cold_start": lambda: cold_start(options.starts),
        "ranking_500": ranking,
        "recommendation_500": recommendation,
        "engagement_500": engaged,
        "ads_100": ads,
        "retrieval_100k": retrieval,
        "request": request,
    }
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    options = parser.parse_args()
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    result = {
        "command": "python benchmarks/serving.py",
        **{
            name: {"systems": ["ads" if name == "ads_100" else "video"], **part()}
            if name in options.only
            else before[name]
            for name, part in parts.items()
            if name in (*options.only, *before)
        },
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
        },
    }
    text = json.dumps(result, indent=1)
    print(text)
    options.out.write_text(text + "\n")


# ---------------------------------------------------------------- models


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Mapping[str, Any], **more: int) -> bytes:
    """Return the bytes of an ONNX model."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(helper.make_graph(nodes, "m", inputs, outputs, initializers), opset_imports=opsets, **more)
    made.ir_version = 8
    return bytes(made.SerializeToString())


def linear_retrieval(candidates: int = CANDIDATES, width: int = FEATURES) -> bytes:
    """An item x item model as EASE gives it, with a few features a candidate."""
    constants = {
        "weights": RNG.normal(size=(ITEMS, ITEMS)).astype(np.float32),
        "zeros": np.zeros(ITEMS, np.float32),
        "shut": np.array([-np.inf], np.float32),
        "k": np.array([candidates]),
        "first": np.array([0]),
        "last": np.array([1]),
        "spread": RNG.normal(size=(1, width)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["weights", "history"], ["picked"]),
        helper.make_node("ReduceSum", ["picked", "first"], ["raw"], keepdims=0),
        helper.make_node("Shape", ["exclude"], ["count"]),
        helper.make_node("Expand", ["shut", "count"], ["closed"]),
        helper.make_node("ScatterElements", ["zeros", "exclude", "closed"], ["mask"], axis=0),
        helper.make_node("Add", ["raw", "mask"], ["open"]),
        helper.make_node("TopK", ["open", "k"], ["scores", "items"]),
        helper.make_node("Unsqueeze", ["scores", "last"], ["column"]),
        helper.make_node("Mul", ["column", "spread"], ["features"]),
        helper.make_node("Identity", ["times"], ["unused"]),
        helper.make_node("Identity", ["context"], ["unused too"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in ("history", "times", "exclude")]
    inputs.append(helper.make_tensor_value_info("context", TensorProto.FLOAT, [len(CONTEXT)]))
    outputs = [
        helper.make_tensor_value_info("items", TensorProto.INT64, [candidates]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [candidates]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [candidates, width]),
    ]
    return graph(nodes, inputs, outputs, constants)


def trees(count: int, depth: int, width: int) -> bytes:
    """A forest of full random trees, as boosting gives it, from `features` to `scores`."""
    inner, size = 2**depth - 1, 2 ** (depth + 1) - 1
    nodes = np.tile(np.arange(size), count)
    owner = np.repeat(np.arange(count), size)
    branch = nodes < inner
    leaf = ~branch
    attributes = {
        "nodes_treeids": owner,
        "nodes_nodeids": nodes,
        "nodes_featureids": np.where(branch, RNG.integers(0, width, len(nodes)), 0),
        "nodes_values": np.where(branch, RNG.normal(size=len(nodes)), 0.0),
        "nodes_modes": ["BRANCH_LT" if b else "LEAF" for b in branch],
        "nodes_truenodeids": np.where(branch, 2 * nodes + 1, 0),
        "nodes_falsenodeids": np.where(branch, 2 * nodes + 2, 0),
        "nodes_missing_value_tracks_true": np.ones(len(nodes), int),
        "target_treeids": owner[leaf],
        "target_nodeids": nodes[leaf],
        "target_ids": np.zeros(leaf.sum(), int),
        "target_weights": RNG.normal(scale=0.01, size=leaf.sum()),
    }
    forest = helper.make_node("TreeEnsembleRegressor", ["features"], ["column"], domain="ai.onnx.ml", n_targets=1)
    for name, value in attributes.items():
        forest.attribute.append(helper.make_attribute(name, value if isinstance(value, list) else value.tolist()))
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["K", width])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["K"])]
    squeeze = helper.make_node("Squeeze", ["column", "last"], ["scores"])
    return graph([forest, squeeze], inputs, outputs, {"last": np.array([1])})


def engagement(width: int) -> bytes:
    """The multi-task job's own graph, as it begins: what it has learnt changes no time."""
    likes = Events.sort(
        users=np.arange(8 * ITEMS) // 8, items=RNG.integers(0, ITEMS, 8 * ITEMS), times=np.arange(8 * ITEMS),
        n_users=ITEMS, n_items=ITEMS,
    )  # fmt: skip
    tags, authors = [(f"tag {item % 20}",) for item in range(ITEMS)], [f"author {item % 300}" for item in range(ITEMS)]
    content = Content.describe(likes.counts(), tags, authors, most=ITEMS)
    known = RNG.gamma(1, 10, size=(10_000, width)).astype(np.float32)
    seconds = RNG.gamma(1, 10, size=10_000).astype(np.float32)
    shape = TasteShape(dim=16, length=50, own=ITEMS)
    return engagement_graph(
        Engagement(Taste(content, shape), known, MultitaskShape(shape)), fit_bins(known[:, -1], seconds), duration=0
    )


def search(members: int) -> Ensemble:
    """Two towers over 100,000 items as the job begins with them: what they have learnt changes no time."""
    chances = RNG.pareto(1, LARGE) + 1
    liked = RNG.choice(LARGE, 4 * LARGE, p=chances / chances.sum())
    times = np.arange(len(liked))
    events = Events.sort(users=times // 8, items=liked, times=times, n_users=len(liked) // 8, n_items=LARGE)
    tags = [(f"tag {item % 20}",) for item in range(LARGE)]
    return Ensemble(events, tags, Shape(), longest=len(HISTORY), members=members)


def component(
    name: str,
    model: bytes,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    context: tuple[str, ...] = (),
    *,
    columns: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
    system: str = "video",
    of: Hashed | None = None,
) -> dict[str, bytes]:
    """Return a component's files around a model that is asked with these features of the user."""
    manifest = ComponentManifest(
        system=system,
        component=name,
        rung="xgboost_trees",
        framework="benchmark",
        snapshot_id="benchmark",
        schema_hash=schema_hash(chosen(systems.load(system).definitions, (*context, *known)), of),
        feature_versions={},
        seed=7,
        code_version="",
        library_versions={},
        hyperparameters={},
        inputs=inputs,
        outputs=outputs,
        feature_names=columns,
        context_names=context,
        known_names=known,
        hashed=of,
        parity=Parity(max_abs_diff=0, rows=1),
        trained_seconds=0,
    )
    return {"model.onnx": model, "manifest.json": manifest.model_dump_json().encode(), "metrics.json": b"{}"}


def release_files() -> dict[str, dict[str, bytes]]:
    """A release as video's: an item x item retrieval, and trees that rank its candidates."""
    asked, found = ("history", "times", "exclude", "context"), ("items", "scores", "features")
    retrieval_files = component("retrieval", linear_retrieval(), asked, found, CONTEXT)
    retrieval_files |= beside()
    return {
        "retrieval": retrieval_files,
        "ranking": component("ranking", trees(200, 5, FEATURES), ("features",), ("scores",), CONTEXT),
    }


def beside() -> dict[str, bytes]:
    """What stands beside a retrieval: the catalogue with authors, times, tags and new items, and their vectors."""

    def part(prefix: str, count: int) -> dict[str, Any]:
        return {
            "item_ids": [f"{prefix}{place}" for place in range(count)],
            "titles": [f"Title {place}" for place in range(count)],
            "authors": RNG.integers(0, 300, count).tolist(),
            "published_ms": RNG.integers(0, 10**12, count).tolist(),
            "tags": RNG.integers(0, 18, (count, 2)).tolist(),
        }

    popularity = RNG.integers(1, 500, ITEMS).tolist()
    items = part("i", ITEMS) | {
        "popularity": popularity, "tag_names": [f"t{n}" for n in range(18)], "new": part("n", NEW)
    }  # fmt: skip
    vectors = RNG.normal(size=(ITEMS + NEW, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {"items.json.gz": gzip.compress(json.dumps(items).encode()), "embeddings.bin": pack_embeddings(vectors)}


def promoted(store: ObjectStore, files: Mapping[str, Mapping[str, bytes]], system: str = "video") -> None:
    """Register the release and let it serve."""
    registry = Registry(store, system)
    components = {name: registry.register_component(name, parts) for name, parts in files.items()}
    schema = release_schema(ComponentManifest.model_validate_json(parts["manifest.json"]) for parts in files.values())
    draft = registry.draft_release(rung="b", snapshot_id="b", schema_hash=schema, components=components)
    registry.promote(registry.register_release(draft, {"metrics.json": b"{}"}), why="benchmark", by="benchmark")


# ---------------------------------------------------------------- measurements


def cold_start(starts: int) -> dict[str, Any]:
    """Milliseconds from the start of a process to its first prediction, and the ratio of the medians."""
    files, store = release_files(), MemoryObjectStore()
    promoted(store, files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _cloud(store))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TWINLOOP_SYSTEM": "video",
        "TWINLOOP_BUCKET": "data",
        "TWINLOOP_TABLE": "main",
        "TWINLOOP_PREDICTION_STREAM": "predictions",
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, parts in files.items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(parts["model.onnx"])
            paths.append(str(path))
        ours = [sys.executable, "-c", OURS, str(ROOT / "functions" / "serve"), json.dumps(EVENT)]
        bare = [sys.executable, "-c", BARE, *paths]
        times: dict[str, list[float]] = {"bare": [], "ours": []}
        for turn in range(starts + 2):
            for name, command in (("bare", bare), ("ours", ours)):
                took = _until_ready(command, environment)
                if turn >= 2:  # the first ones write and read bytecode
                    times[name].append(took)
    server.shutdown()
    server.server_close()
    medians = {f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()}
    return {
        **medians,
        "ratio": round(medians["ours_ms"] / medians["bare_ms"], 3),
        "budget_ratio": 1.3,
        "starts": starts,
    }


def ranking() -> dict[str, Any]:
    """500 candidates through a model of the usual size, on one thread, as serving runs it."""
    parts = component("ranking", trees(300, 6, 40), ("features",), ("scores",))
    model = load_models({"ranking": parts})["ranking"]
    features = RNG.normal(size=(500, 40)).astype(np.float32)
    return _percentiles(lambda: model.run({"features": features}), 500) | {"budget_p50_ms": 8, "budget_p99_ms": 20}


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
        "models_alone": _percentiles(lambda: ranked.run({"features": retrieval.run(inputs)["features"]}), 500),
        "list_of_20": _percentiles(rank(20), 500),
        "list_of_100_diverse": _percentiles(rank(100, preset="diverse"), 500),
        "list_of_20_with_reasons": _percentiles(rank(20, reasons=True), 200),
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
        "model_alone": _percentiles(lambda: alone.run({name: given[name] for name in inputs}), 500, time.thread_time),
        "warm": _percentiles(request_at(lambda: 0), 1000, time.thread_time),
        "cold": _percentiles(request_at(lambda: 31_000 * (1 + next(tensors))), 100, time.thread_time),
        "budget_p50_ms": 8,
        "budget_p99_ms": 20,
    }


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


def ads() -> dict[str, Any]:
    """Requests of ads, from the body to the answer and its log line."""
    names = tuple(feature.name for feature in known_features(ADS))
    count = 50_000
    rows = Rows(
        RNG.integers(0, HASHED.buckets, (count, len(HASHED.fields))),
        RNG.gamma(1, 10, size=(count, len(names))).astype(np.float32),
        (RNG.random(count) < 0.02).astype(np.float32),
        np.arange(count),
        np.arange(count),
    )
    # Every id has a vector of its own, as after many more showings than these; what it has learnt changes no time.
    learner = Learner(rows, HASHED.buckets, CrossShape(least=0), seed=7)
    model = click_graph(learner, IDENTITY, fields=len(HASHED.fields), known=len(names))
    files = {"click": component("click", model, ("ids", "known"), ("click",), known=names, system="ads", of=HASHED)}
    files["click"]["prior.json"] = json.dumps({"click": 0.02}).encode()
    store, known = MemoryObjectStore(), MemoryFeatureStore()
    promoted(store, files, system="ads")
    _fill_ads(known)
    app = make_app(systems.load("ads"), store, known, MemoryStream(), features=known)

    def request_of(many: int) -> Callable[[], Any]:
        asked = [{"ad": f"ad{place}", "bid": 0.5 + place / 100} for place in RNG.permutation(ADS_KNOWN)[:many].tolist()]
        context = {"page": "home", "slot": "top", "device": "phone", "platform": "web"}
        body = {"user_id": "u1", "ads": asked, "context": context}
        event = EVENT | {"path": "/v1/ads/predictions", "body": json.dumps(body)}
        return lambda: answer(event, lambda: app)

    first = json.loads(request_of(100)()[0]["body"])
    assert not first["degraded"], first
    return {
        "features": len(names),
        "ids": len(HASHED.fields),
        "click_mb": round(len(model) / 1e6, 1),
        "ads_100": _percentiles(request_of(100), 1000, time.thread_time),
        "ads_1000": _percentiles(request_of(1000), 100, time.thread_time),
        "budget_p50_ms": 5,
    }


def _fill_ads(store: MemoryFeatureStore) -> None:
    """Everything of a user with a full memory, and of every ad, up to the present: only that is kept in memory."""
    now_ms = time.time_ns() // 1_000_000

    def facts(place: int) -> dict[str, str | float]:
        named = {"advertiser_id": f"a{place % 30}", "campaign_id": f"c{place % 80}", "category": f"t{place % 12}"}
        return {**named, "daily_budget": 100.0}

    def happened(count: int, *, marked: bool) -> list[Happening]:
        drawn = zip(*(RNG.integers(0, most, count).tolist() for most in (40 * DAY, 2**62, ADS_KNOWN)), strict=True)
        kinds = ("impression",) * 19 + ("click",)
        return [
            Happening(
                now_ms - before,
                key,
                ADS.amounts({"type": kinds[key % len(kinds)], "bid": 0.5}),
                marks_of(ADS, f"ad{place}", facts(place)) if marked else (),
            )
            for before, key, place in drawn
        ]

    user: tuple[Entity, str] = ("user", "u1")
    store.settle("ads", user, Tally(), {"country": "de", "age_group": "25-34"}, ADS.layout("user"))
    store.count("ads", user, happened(600, marked=True), ADS.layout("user"))
    for place in range(ADS_KNOWN):
        key: tuple[Entity, str] = ("item", f"ad{place}")
        store.settle("ads", key, Tally(), facts(place), ADS.layout("item"))
        store.count("ads", key, happened(100, marked=False), ADS.layout("item"))


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


class MemoryStream:
    """Where prediction log lines go."""

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        """Take all of them."""
        del system, lines
        return set()


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
            _percentiles(
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
    return _percentiles(lambda: answer(EVENT, lambda: app), 1000)


def _percentiles(
    call: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    for _ in range(20):
        call()
    taken = []
    for _ in range(times):
        started = clock()
        call()
        taken.append((clock() - started) * 1000)
    return {f"p{q}_ms": round(float(np.percentile(taken, q)), 3) for q in (50, 99)}


def _until_ready(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line != "ready\n":
            pass  # the handler's own lines
        took = (time.perf_counter() - started) * 1000
        process.stdout.read()
    if process.returncode or not line:
        raise SystemExit(f"a measured process failed: {command[:3]}")
    return took


def _cloud(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    """The three services, as far as a first prediction asks them."""
    item = {
        "data": {"B": base64.b64encode(pack(HISTORY)).decode()},
        "revision": {"N": "1"},
        "expires_at": {"N": "99999999999"},
    }
    answers = {
        "DynamoDB_20120810.GetItem": {"Item": item},
        "Firehose_20150804.PutRecordBatch": {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"}]},
    }

    class Cloud(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body in one packet; two of them would wait for each other

        def do_GET(self) -> None:
            try:
                found = store.read(self.path.removeprefix("/data/").split("?")[0])
            except NotFoundError:
                self._send(404, b"")
            else:
                self._send(200, found.body, ETag=found.etag)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(200, json.dumps(answers[self.headers["X-Amz-Target"]]).encode())

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Cloud


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    main()
