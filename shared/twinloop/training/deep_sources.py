"""What a sequence model and two towers think of the linear sources' candidates, as more columns for the ranker.

The candidates stay those of `sources.py`: deep models say which of them come next, and hardly find others. Each gives
three columns: the log of an item's chance among all that may be returned, that value standardised over them, and its
place among the candidates. The ranker learns from models that were fitted on other users alone, as for the linear
sources: a model remembers what it was fitted on, and would say so with a confidence that serving never sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from twinloop.contracts.signature import EXCLUDE, FEATURES, HISTORY, ITEMS, TIMES
from twinloop.training import sequence, two_tower
from twinloop.training.events import Events, Floats32
from twinloop.training.graphs import Graph, excluded, retrieval_graph
from twinloop.training.sequence_graph import sequence_scores
from twinloop.training.snapshot import Snapshot
from twinloop.training.sources import Sources, fit_sources, retrieval_with_features
from twinloop.training.two_tower_graph import user_vector
from twinloop.training.validate import Question

LINEAR = "linear_features"  # what the retrieval model's features are called once they are not all
LEAST = -30.0  # log of a chance: what may not be returned has none at all, which no tree was fitted on
_SHUT = -1e4
_SPREAD = 1e-6


@dataclass(frozen=True)
class Settings:
    """How the deep models are fitted; epochs are fixed, since the ranker needs one scale for all its folds."""

    sequence: sequence.Shape
    towers: two_tower.Shape
    sequence_epochs: int = 30
    tower_epochs: int = 35
    sequence_members: int = 1
    tower_members: int = 2
    longest: int = 200


@dataclass(frozen=True)
class Deep:
    """Both models, fitted on the same events."""

    sequence: sequence.Ensemble
    towers: two_tower.Ensemble

    def scores(self, question: Question) -> dict[str, Floats32]:
        """Return every item's score by model, as PyTorch computes it, float32[n] each."""
        return {
            "sequence": self.sequence.scores([question.history], [question.times_s])[0],
            "towers": self.towers.scores([question.history])[0],
        }


def fit_deep(events: Events, tags: tuple[tuple[str, ...], ...], settings: Settings, *, seed: int) -> Deep:
    """Fit both; raises BadInputError where no user liked one item and later another."""
    model = sequence.Ensemble(
        events, settings.sequence, longest=settings.longest, members=settings.sequence_members, seed=seed
    )
    for _ in range(settings.sequence_epochs):
        model.epoch()
    towers = two_tower.Ensemble(
        events, tags, settings.towers, longest=settings.longest, members=settings.tower_members, seed=seed
    )
    for _ in range(settings.tower_epochs):
        towers.epoch()
    return Deep(model, towers)


def with_deep(retrieval: bytes, names: tuple[str, ...], deep: Deep, *, context: int) -> tuple[bytes, tuple[str, ...]]:
    """Return a retrieval model of `sources.py` with the deep models' columns, and the names of all columns.

    Args:
        retrieval: The model that chooses the candidates.
        names: Its columns.
        deep: What is added.
        context: How many of its last columns are known of the user: they stay the last.
    """
    model = onnx.load_from_string(retrieval)
    (features,) = (output for output in model.graph.output if output.name == FEATURES)
    count = features.type.tensor_type.shape.dim[0].dim_value
    added, columns = _columns(deep, count, len(names), context)
    _splice(model.graph, added)
    merged = (*names[: len(names) - context], *columns, *names[len(names) - context :])
    features.type.tensor_type.shape.dim[1].dim_value = len(merged)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True)), merged


def _columns(deep: Deep, count: int, linear: int, context: int) -> tuple[onnx.GraphProto, list[str]]:
    """Return the graph from the candidates and their linear features to all features, and the new columns' names."""
    g = retrieval_graph("deep")
    g.input(ITEMS, TensorProto.INT64, [count])
    g.input(LINEAR, TensorProto.FLOAT, [count, linear])
    of_models = {"sequence": sequence_scores(g, deep.sequence), "towers": _tower_scores(g, deep.towers)}
    parts, names = [], []
    for name, scores in of_models.items():
        parts += _of_candidates(g, scores, deep.towers.members[0].n_items, count)
        names += [f"{name} z", f"{name} log chance", f"{name} rank"]
    own = g.constant([linear - context])
    axis, end = g.constant([1]), g.constant([linear])
    before, after = g.op("Slice", LINEAR, g.constant([0]), own, axis), g.op("Slice", LINEAR, own, end, axis)
    stood_up = [g.op("Unsqueeze", part, axis) for part in parts]
    width = linear + len(names)
    g.output(g.op("Concat", before, *stood_up, after, axis=1), FEATURES, TensorProto.FLOAT, [count, width])
    return onnx.load_from_string(g.serialise()).graph, names


def _of_candidates(g: Graph, scores: str, n_items: int, count: int) -> list[str]:
    """Return the three columns [K] of a model's scores [n]; see `compare_deep`."""
    no_scores = g.constant(np.zeros(n_items, dtype=np.float32))
    opened = g.op("Equal", excluded(g, no_scores, n_items), g.constant(0.0))
    chances = g.op("LogSoftmax", g.op("Where", opened, scores, g.constant(_SHUT, np.float32)), axis=0)
    share = g.op("Cast", opened, to=TensorProto.FLOAT)
    total = g.op("Max", g.op("ReduceSum", share, keepdims=1), g.constant(np.ones(1, np.float32)))
    mean = g.op("Div", g.op("ReduceSum", g.op("Mul", chances, share), keepdims=1), total)
    centred = g.op("Mul", g.op("Sub", chances, mean), share)
    variance = g.op("Div", g.op("ReduceSum", g.op("Mul", centred, centred), keepdims=1), total)
    standard = g.op("Div", centred, g.op("Add", g.op("Sqrt", variance), g.constant(_SPREAD, np.float32)))
    z = g.op("Gather", standard, ITEMS, axis=0)
    order = g.ops("TopK", z, g.constant([count]), outputs=2)[1]
    places = g.constant(np.arange(count, dtype=np.float32))
    ranks = g.op("ScatterElements", g.constant(np.zeros(count, np.float32)), order, places, axis=0)
    chance = g.op("Max", g.op("Gather", chances, ITEMS, axis=0), g.constant(LEAST, np.float32))
    return [z, chance, ranks]


def _tower_scores(g: Graph, towers: two_tower.Ensemble) -> str:
    """Return every item's exact score, float32[n]: the catalogues of this ranker are small."""
    vectors, bias = towers.catalogue()
    users = [user_vector(g, member.history) for member in towers.members]
    user = g.op("Concat", *users, axis=1) if len(users) > 1 else users[0]
    products = g.op("MatMul", g.constant(vectors), g.op("Transpose", user, perm=[1, 0]))
    return g.op("Add", g.op("Squeeze", products, g.constant([1])), g.constant(bias))


def _splice(graph: onnx.GraphProto, added: onnx.GraphProto) -> None:
    """Put the added graph behind the first one, whose features become LINEAR."""
    for node in graph.node:
        node.output[:] = [LINEAR if name == FEATURES else name for name in node.output]
    shared = {HISTORY, TIMES, EXCLUDE, ITEMS, LINEAR, FEATURES}

    def own(name: str) -> str:
        return name if name in shared else f"deep_{name}"

    for node in added.node:
        inputs, outputs = ([own(name) for name in side] for side in (node.input, node.output))
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        graph.node.append(helper.make_node(node.op_type, inputs, outputs, **attributes))
    for constant in added.initializer:
        copied = graph.initializer.add()
        copied.CopyFrom(constant)
        copied.name = own(constant.name)


def compare_deep(
    deep: Deep, names: tuple[str, ...], question: Question, answer: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield (what the graph answered, what PyTorch and numpy say) of the deep columns."""
    items, columns = answer[ITEMS], dict(zip(names, answer[FEATURES].T, strict=True))
    for name, scores in deep.scores(question).items():
        opened = np.ones(len(scores), dtype=bool)
        opened[question.history] = False
        raw = np.where(opened, scores.astype(np.float64), _SHUT)
        chances = raw - raw.max() - np.log(np.exp(raw - raw.max()).sum())
        spread, mean = (chances[opened].std(), chances[opened].mean()) if opened.any() else (0.0, 0.0)
        standard = np.where(opened, (chances - mean) / (spread + _SPREAD), 0.0)
        yield columns[f"{name} log chance"], np.maximum(chances[items], LEAST)
        yield columns[f"{name} z"], standard[items]
        yield np.sort(columns[f"{name} rank"]), np.arange(len(items))
        yield standard[items][np.argsort(columns[f"{name} rank"])], np.sort(standard[items])[::-1]


def linear_part(
    names: tuple[str, ...], answer: Mapping[str, NDArray[Any]]
) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]]:
    """Return the columns that `compare` of the linear sources knows, and the answer with those alone."""
    kept = [place for place, name in enumerate(names) if not name.startswith(("sequence ", "towers "))]
    return tuple(names[place] for place in kept), {**answer, FEATURES: answer[FEATURES][:, kept]}


def fit_all(
    events: Events, snapshot: Snapshot, settings: Settings, *, seed: int
) -> tuple[bytes, tuple[str, ...], Sources, Deep]:
    """Fit linear and deep sources on the events; returns the retrieval model, its columns, and both."""
    tags, context = snapshot.items.tags, snapshot.moments.names
    sources, deep = fit_sources(events, tags), fit_deep(events, tags, settings, seed=seed)
    linear, names = retrieval_with_features(sources, context)
    model, names = with_deep(linear, names, deep, context=len(context))
    return model, names, sources, deep
