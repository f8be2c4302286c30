"""Video releases small enough to check by hand: ONNX graphs of a few nodes with the signatures that serving expects."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from twinloop.contracts.embeddings import pack_embeddings

SNAPSHOT = "snapshot-1"


def retrieval(similar: np.ndarray[Any, Any], *, k: int = 150, features: bool = False) -> bytes:
    """Scores = sum of the history's rows of `similar` (float32[n, n]); excluded items get -inf; top k."""
    n = len(similar)
    k = min(k, n)
    constants = {
        "similar": similar.astype(np.float32),
        "zeros": np.zeros(n, np.float32),
        "shut": np.array([-np.inf], np.float32),
        "k": np.array([k], np.int64),
        "rows": np.array([0], np.int64),
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["similar", "history"], ["picked"], axis=0),
        helper.make_node("ReduceSum", ["picked", "rows"], ["raw"], keepdims=0),
        helper.make_node("Shape", ["exclude"], ["count"]),
        helper.make_node("Expand", ["shut", "count"], ["closed"]),
        helper.make_node("ScatterElements", ["zeros", "exclude", "closed"], ["mask"], axis=0),
        helper.make_node("Add", ["raw", "mask"], ["open"]),
        helper.make_node("TopK", ["open", "k"], ["scores", "items"]),
        # `times` has no influence, but a graph without it would not have the input.
        helper.make_node("Identity", ["times"], ["unused"]),
    ]
    outputs = [_value("items", TensorProto.INT64, [k]), _value("scores", TensorProto.FLOAT, [k])]
    if features:
        nodes.append(helper.make_node("Unsqueeze", ["scores", "last"], ["features"]))
        outputs.append(_value("features", TensorProto.FLOAT, [k, 1]))
    inputs = [_value("history", TensorProto.INT64, ["H"]), _value("times", TensorProto.INT64, ["H"])]
    inputs.append(_value("exclude", TensorProto.INT64, ["E"]))
    return _model(nodes, inputs, outputs, constants)


def ranking(weight: float = -1.0, *, width: int = 1) -> bytes:
    """Scores = weight * first feature: -1 turns retrieval's order around."""
    constants = {"weights": np.array([weight] + [0.0] * (width - 1), np.float32)}
    nodes = [helper.make_node("MatMul", ["features", "weights"], ["scores"])]
    inputs = [_value("features", TensorProto.FLOAT, ["K", width])]
    return _model(nodes, inputs, [_value("scores", TensorProto.FLOAT, ["K"])], constants)


def manifest(component: str, **changes: Any) -> bytes:
    """A component's manifest that fits the models above."""
    inputs, outputs = {
        "retrieval": (["history", "times", "exclude"], ["items", "scores"]),
        "ranking": (["features"], ["scores"]),
    }.get(component, ([], []))
    facts = {
        "system": "video",
        "component": component,
        "rung": "ease",
        "framework": "numpy",
        "snapshot_id": SNAPSHOT,
        "schema_hash": "s1",
        "feature_versions": {},
        "seed": 1,
        "code_version": "test",
        "library_versions": {},
        "hyperparameters": {},
        "inputs": inputs,
        "outputs": outputs,
        "parity": {"max_abs_diff": 0.0, "rows": 1},
        "trained_seconds": 0.1,
    }
    return json.dumps(facts | changes).encode()


def items_file(ids: list[str], popularity: list[float] | None = None, **more: Any) -> bytes:
    """The list beside a retrieval; titles are `Title of <id>`, popularity falls from the first item to the last."""
    content = more | {
        "item_ids": ids,
        "titles": [f"Title of {item_id}" for item_id in ids],
        "popularity": popularity or [float(len(ids) - place) for place in range(len(ids))],
    }
    return gzip.compress(json.dumps(content).encode(), mtime=0)


def video_files(
    n: int = 6,
    *,
    with_ranking: bool = False,
    popularity: list[float] | None = None,
    catalogue: Mapping[str, Any] | None = None,
    vectors: np.ndarray[Any, Any] | None = None,
    segments: Mapping[str, Any] | None = None,
    **facts: Any,
) -> dict[str, dict[str, bytes]]:
    """A release of items i0 ... i<n-1>. Whoever liked item i gets i+1, i+2, ... in this order, around the end.

    `catalogue`, `vectors` and `segments` are what policy needs beside the models; older releases have none of it.
    """
    places = np.arange(n)
    similar = -(((places[None, :] - places[:, None]) % n).astype(np.float32))
    outputs = ["items", "scores", "features"] if with_ranking else ["items", "scores"]
    files = {
        "retrieval": {
            "model.onnx": retrieval(similar, features=with_ranking),
            "manifest.json": manifest("retrieval", outputs=outputs, **facts),
            "metrics.json": b"{}",
            "items.json.gz": items_file([f"i{place}" for place in places], popularity, **(catalogue or {})),
        }
    }
    if vectors is not None:
        files["retrieval"]["embeddings.bin"] = pack_embeddings(vectors)
    if segments is not None:
        files["retrieval"]["segments.json.gz"] = gzip.compress(json.dumps(segments).encode(), mtime=0)
    if with_ranking:
        files["ranking"] = {
            "model.onnx": ranking(),
            "manifest.json": manifest("ranking", **facts),
            "metrics.json": b"{}",
        }
    return files


def _value(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray[Any, Any]],
) -> bytes:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
