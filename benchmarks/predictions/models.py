"""Models of the usual sizes as ONNX files: what they have learnt, or drew by chance, changes no time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from benchmarks.predictions.world import CANDIDATES, CONTEXT, FEATURES, HISTORY, ITEMS, LARGE, RNG
from onnx import TensorProto, helper, numpy_helper

from twinloop.training.events import Events
from twinloop.training.multitask import Engagement
from twinloop.training.multitask import Shape as MultitaskShape
from twinloop.training.multitask_graph import engagement_graph
from twinloop.training.taste import Content, Taste, TasteShape
from twinloop.training.two_tower import Ensemble, Shape
from twinloop.training.watch_bins import fit_bins


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
