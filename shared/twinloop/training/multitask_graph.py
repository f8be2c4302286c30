"""The engagement network as ONNX: features as they come, a history once, any number of items; see signature.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from twinloop.contracts.signature import (
    AT,
    CLICK,
    HISTORY,
    ITEMS,
    KNOWN,
    LONG_WATCH,
    SITUATION,
    TIMES,
    WATCH,
)
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph
from twinloop.training.impressions import Shown
from twinloop.training.multitask import Asker, Batch, Engagement, Learner, situation_offsets
from twinloop.training.standard import standardised
from twinloop.training.taste import AGE_EDGES, Histories, table
from twinloop.training.watch_bins import WatchBins

_EPSILON = 1e-5  # torch's LayerNorm
_EVERYTHING = np.iinfo(np.int64).max


def engagement_graph(
    model: Engagement, bins: WatchBins, *, duration: int, facts: NDArray[np.int64] | None = None
) -> bytes:
    """Return the component `engagement`.

    Args:
        model: What serves.
        bins: What its classes of seconds mean.
        duration: Which column of `known` is the item's duration; -1 where none is.
        facts: Where the rows of each fact of the moment begin, int64[facts]; without any the graph is told none.
    """
    state = {name: _array(value) for name, value in (*model.named_parameters(), *model.named_buffers())}
    columns = len(state["standard.mean"]) // 2
    g = Graph("engagement")
    g.input(KNOWN, TensorProto.FLOAT, ["K", columns])
    g.input(ITEMS, TensorProto.INT64, ["K"])
    g.input(HISTORY, TensorProto.INT64, ["H"])
    g.input(TIMES, TensorProto.INT64, ["H"])
    g.input(AT, TensorProto.INT64, [1])
    said, items = _taste(g, model, state)
    liking = _liking(g, model, state, said, items)
    norm = g.op(
        "LayerNormalization",
        said,
        g.constant(state["norm.weight"]),
        g.constant(state["norm.bias"]),
        axis=-1,
        epsilon=_EPSILON,
    )
    parts = [standardised(g, KNOWN, state["standard.mean"], state["standard.scale"]), norm, liking]
    if facts is not None and len(facts):
        g.input(SITUATION, TensorProto.INT64, [len(facts)])
        parts.append(_facts(g, state, facts, items))
    x = g.op("Concat", *parts, axis=1)
    happens, classes = _tasks(g, model, state, x, items)
    two = g.op("Sigmoid", happens)
    for place, name in enumerate((CLICK, LONG_WATCH)):
        g.output(g.op("Squeeze", _columns(g, two, place, place + 1), g.constant([1])), name, TensorProto.FLOAT, ["K"])
    chances = g.op("Softmax", classes, axis=1)
    seconds = g.op("Gather", g.constant(bins.seconds), _groups(g, bins, duration), axis=0)
    expected = g.op("ReduceSum", g.op("Mul", chances, seconds), g.constant([1]), keepdims=0)
    g.output(expected, WATCH, TensorProto.FLOAT, ["K"])
    return g.serialise()


def _array(value: torch.Tensor) -> NDArray[Any]:
    return np.asarray(value.detach().numpy())


def _linear(g: Graph, state: dict[str, NDArray[Any]], name: str, x: str) -> str:
    return g.op("Add", g.op("MatMul", x, g.constant(state[f"{name}.weight"].T)), g.constant(state[f"{name}.bias"]))


def _columns(g: Graph, x: str, begin: int, end: int) -> str:
    return g.op("Slice", x, g.constant([begin]), g.constant([end]), g.constant([1]))


def _facts(g: Graph, state: dict[str, NDArray[Any]], offsets: NDArray[np.int64], items: str) -> str:
    """Return what is told of the moment, the same for each item: float32[K, facts x FACT]."""
    rows = g.op("Gather", g.constant(state["facts.weight"]), g.op("Add", SITUATION, g.constant(offsets)), axis=0)
    flat = g.op("Reshape", rows, g.constant([1, -1]))
    return g.op("Expand", flat, g.op("Concat", g.op("Shape", items), g.constant([1]), axis=0))


def _groups(g: Graph, bins: WatchBins, duration: int) -> str:
    """Return the group of each item's duration, int64[K]; see WatchBins.groups."""
    if duration < 0:
        return g.op("Mul", ITEMS, g.constant(0))
    seconds = _columns(g, KNOWN, duration, duration + 1)
    # Comparisons with NaN are false, and an infinite duration is as good as none.
    finite = g.op("Less", seconds, g.constant(np.inf, np.float32))
    known = g.op("And", g.op("Greater", seconds, g.constant(0.0, np.float32)), finite)
    reached = g.op("Cast", g.op("GreaterOrEqual", seconds, g.constant(bins.durations[None, :])), to=TensorProto.INT64)
    place = g.op("Add", g.op("ReduceSum", reached, g.constant([1]), keepdims=0), g.constant(1))
    return g.op("Where", g.op("Squeeze", known, g.constant([1])), place, g.constant(0))


def _taste(g: Graph, model: Engagement, state: dict[str, NDArray[Any]]) -> tuple[str, str]:
    """Return what the history says of each item, float32[K, width], and rows of the tables of items, int64[K]."""
    taste = model.taste
    heads, dim, n_items = taste.shape.heads, taste.shape.dim, taste.n_items
    vectors = g.constant(table(taste)[0])
    no_item = g.constant(n_items)
    items = g.op("Where", g.op("Less", ITEMS, g.constant(0)), no_item, ITEMS)
    known = g.op("GreaterOrEqual", HISTORY, g.constant(0))
    latest = g.constant([-taste.shape.length]), g.constant([_EVERYTHING]), g.constant([0])
    history = g.op("Slice", g.op("Compress", HISTORY, known, axis=0), *latest)
    times = g.op("Slice", g.op("Compress", TIMES, known, axis=0), *latest)
    # One more thing to turn to, which is nothing: it comes first, so that no tensor of an empty history is empty, which
    # kernels do not all survive.
    events = g.op("Concat", g.constant([-1]), history, axis=0)
    something = g.op("Cast", g.op("GreaterOrEqual", events, g.constant(0)), to=TensorProto.FLOAT)
    asked = g.op("Gather", vectors, items, axis=0)  # [K, d]
    of_events = g.op("Gather", vectors, g.op("Where", g.op("Less", events, g.constant(0)), no_item, events), axis=0)
    seen = g.op("Mul", of_events, g.op("Unsqueeze", something, g.constant([1])))  # [1 + H, d]

    moments = g.op("Concat", AT, times, axis=0)
    ages = g.op("Unsqueeze", g.op("Sub", AT, moments), g.constant([1]))
    older = g.op("Cast", g.op("GreaterOrEqual", ages, g.constant(AGE_EDGES[None, :])), to=TensorProto.INT64)
    classes = g.op("ReduceSum", older, g.constant([1]), keepdims=0)
    by_age = g.op("Transpose", g.op("Gather", g.constant(state["taste.age"]), classes, axis=0), perm=[1, 0])

    split = g.constant([-1, heads, dim // heads])
    query = g.op("Transpose", g.op("Reshape", _linear(g, state, "taste.query", asked), split), perm=[1, 0, 2])
    key = g.op("Transpose", g.op("Reshape", _linear(g, state, "taste.key", seen), split), perm=[1, 2, 0])
    scale = g.constant(state["taste.scale"][:, None, None])
    logits = g.op("Mul", g.op("MatMul", query, key), scale)  # [heads, K, 1 + H]
    logits = g.op("Mul", g.op("Add", logits, g.op("Unsqueeze", by_age, g.constant([1]))), something)
    weights = g.op("Softmax", logits, axis=2)
    pooled = g.op("Transpose", g.op("MatMul", weights, seen), perm=[1, 0, 2])  # [K, heads, d]
    alike = g.op(
        "ReduceSum", g.op("Mul", pooled, g.op("Unsqueeze", asked, g.constant([1]))), g.constant([2]), keepdims=0
    )
    mean = g.op("ReduceMean", pooled, axes=[1], keepdims=0)
    flat = g.op("Reshape", pooled, g.constant([-1, heads * dim]))
    length = g.op("Cast", g.op("Shape", history), to=TensorProto.FLOAT)
    count = g.op("Log", g.op("Add", g.constant(1.0, np.float32), length))
    counts = g.op("Expand", count, g.op("Concat", g.op("Shape", items), g.constant([1]), axis=0))  # [K, 1]
    return g.op("Concat", asked, flat, g.op("Mul", asked, mean), alike, counts, axis=1), items


def _liking(g: Graph, model: Engagement, state: dict[str, NDArray[Any]], said: str, items: str) -> str:
    inner = g.op("Relu", _linear(g, state, "taste.inner", said))
    of_item = g.op("Gather", g.constant(table(model.taste)[1][:, None]), items, axis=0)
    return g.op("Add", _linear(g, state, "taste.outer", inner), of_item)


def _tasks(g: Graph, model: Engagement, state: dict[str, NDArray[Any]], x: str, items: str) -> tuple[str, str]:
    """Return logits at a usual place: of click and long watch, float32[K, 2], and of seconds' classes, [K, BINS]."""
    experts = [
        g.op("Unsqueeze", g.op("Relu", _linear(g, state, f"experts.{n}", x)), g.constant([1]))
        for n in range(len(model.experts))
    ]
    together = g.op("Concat", *experts, axis=1)
    parts = []
    for n in range(len(model.gates)):
        share = g.op("Softmax", _linear(g, state, f"gates.{n}", x), axis=1)
        weighed = g.op("Mul", together, g.op("Unsqueeze", share, g.constant([2])))
        mixed = g.op("ReduceSum", weighed, g.constant([1]), keepdims=0)
        parts.append(_linear(g, state, f"outer.{n}", g.op("Relu", _linear(g, state, f"inner.{n}", mixed))))
    logits = g.op("Add", g.op("Concat", *parts, axis=1), _linear(g, state, "plain", x))
    logits = g.op("Add", logits, g.constant(state["usual_place"]))
    of_items = g.constant(state["bias.weight"][_array(model.taste.own_of)])
    happens = g.op("Add", _columns(g, logits, 0, 2), g.op("Gather", of_items, items, axis=0))
    return happens, _columns(g, logits, 2, _EVERYTHING)


def compare(
    exported: ort.InferenceSession, learner: Learner, shown: Shown, *, most: int = 100, items: int = 20
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield (what the graph answers, what PyTorch says) at the moments of impressions that were held out.

    Users and moments are those of up to `most` impressions; each is asked about its own item and those of others. One
    more asks of nobody's history about an item that nobody knows, with features that are not known. Seconds are
    compared as shares of themselves, where they are more than one.
    """
    rows = shown.validation if len(shown.validation) else shown.train
    model, bins, likes = learner.model, learner.bins, shown.likes
    length, asker = model.taste.shape.length, Asker(shown, model.taste.shape.length)
    histories = Histories(likes, length)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
    for n, row in enumerate(chosen):
        others = chosen[(n + np.arange(min(items, len(chosen)))) % len(chosen)]
        known, asked = rows.known[others].copy(), rows.items[others].copy()
        user, moment = int(rows.users[row]), int(rows.times[row])
        if n == 0:
            known[0], asked[0], user = np.nan, -1, -1
        past = histories.before(np.full(len(others), user), np.full(len(others), moment))
        groups = torch.from_numpy(bins.groups(asker.durations(known)))
        told = np.zeros(rows.situation.shape[1], np.int64) if n == 0 else rows.situation[row]
        facts = torch.from_numpy(np.tile(told + situation_offsets(shown), (len(others), 1)))
        batch = Batch(torch.from_numpy(known), torch.from_numpy(asked), past, groups, torch.zeros_like(groups), facts)
        fitted = model.serve(batch, bins)
        own = np.flatnonzero((likes.users == user) & (likes.times < moment))
        past_s = likes.times[own] // 1000
        at_s = moment // 1000
        said = ask(exported, known=known, items=asked, history=likes.items[own], times=past_s, at=at_s, situation=told)
        yield said[CLICK], fitted.click
        yield said[LONG_WATCH], fitted.long_watch
        unit = np.maximum(fitted.watch_s, np.float32(1))
        yield np.asarray(said[WATCH] / unit), np.asarray(fitted.watch_s / unit)


def ask(
    model: ort.InferenceSession,
    *,
    known: Floats32,
    items: NDArray[Any],
    history: NDArray[Any],
    times: NDArray[Any],
    at: int,
    situation: NDArray[np.int64] | None = None,
) -> dict[str, Floats32]:
    """Return the graph's answers by name, asked as serving asks: nothing liked is a history of one -1."""
    empty = not len(history)
    names = [output.name for output in model.get_outputs()]
    inputs = {
        KNOWN: known,
        ITEMS: items,
        HISTORY: np.array([-1]) if empty else history,
        TIMES: np.array([0]) if empty else times,
        AT: np.array([at]),
    }
    if situation is not None and len(situation):
        inputs[SITUATION] = situation
    return dict(zip(names, model.run(names, inputs), strict=True))
