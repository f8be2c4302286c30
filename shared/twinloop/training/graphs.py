"""Building ONNX graphs by hand: a few words over onnx.helper, and the head that every retrieval model ends in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twinloop.contracts.signature import CANDIDATES, CONTEXT, EXCLUDE, HISTORY, ITEMS, SCORES, TIMES

OPSET = 17
IR_VERSION = 8  # what ONNX Runtime has read since 2022; nothing newer is needed


class Graph:
    """An ONNX graph that grows node by node; every call returns the name of what it made."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._opsets = {"": OPSET}

    def input(self, name: str, dtype: int, shape: list[str | int]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: int, shape: list[str | int]) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def constant(self, value: NDArray[Any] | float | int | list[int], dtype: Any = None) -> str:
        array = np.asarray(value, dtype=dtype)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def exact(self, value: NDArray[np.float64]) -> str:
        """Add a constant in double precision, for epoch seconds."""
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float64), name)
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [f"v{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def embed(self, model: bytes, **inputs: str) -> dict[str, str]:
        """Take in another model's nodes; returns what its outputs are called here.

        Args:
            model: The other one, of operators that mean the same in this graph's opset.
            inputs: What is here given to each of its inputs.
        """
        other = onnx.load_from_string(model)
        self._opsets |= {
            entry.domain: entry.version for entry in other.opset_import if entry.domain not in ("", "ai.onnx")
        }
        names = dict(inputs)
        for tensor in other.graph.initializer:
            names[tensor.name] = f"c{len(self._constants)}"
            self._constants[names[tensor.name]] = renamed = onnx.TensorProto()
            renamed.CopyFrom(tensor)
            renamed.name = names[tensor.name]
        for node in other.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for n, output in enumerate(node.output):
                names[output] = f"v{len(self._nodes)}_{n}"
            copy.ClearField("name")
            copy.input[:] = [names[name] if name else "" for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            self._nodes.append(copy)
        return {output.name: names[output.name] for output in other.graph.output}

    def serialise(self) -> bytes:
        """Check the graph and return its bytes; the same graph gives the same bytes."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, initializer=list(self._constants.values())
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="twinloop")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def retrieval_graph(name: str, *, context: int = 0) -> Graph:
    """Return a graph with the inputs that every retrieval model takes; see contracts/signature.py.

    Args:
        name: The graph's.
        context: How many features of the user it takes besides.
    """
    graph = Graph(name)
    graph.input(HISTORY, TensorProto.INT64, ["H"])
    graph.input(TIMES, TensorProto.INT64, ["H"])
    graph.input(EXCLUDE, TensorProto.INT64, ["E"])
    if context:
        graph.input(CONTEXT, TensorProto.FLOAT, [context])
    return graph


def excluded(g: Graph, scores: str, n_items: int) -> str:
    """Return float32[n] scores with -inf at the items of `exclude`; an index of -1 excludes nothing."""
    # One slot past the end takes what excludes nothing: ONNX would read -1 as the last item.
    exclude = g.op("Where", g.op("Less", "exclude", g.constant(0)), g.constant(n_items), "exclude")
    open_slots = g.constant(np.zeros(n_items + 1, dtype=np.float32))
    shut = g.op("Expand", g.constant(-np.inf, np.float32), g.op("Shape", exclude))
    mask = g.op("ScatterElements", open_slots, exclude, shut, axis=0)
    return g.op("Add", scores, g.op("Slice", mask, g.constant([0]), g.constant([n_items])))


def top(g: Graph, scores: str, n_items: int) -> tuple[str, str]:
    """Write the outputs `items` and `scores` from float32[n] scores; returns (scores, items) of the best."""
    count = min(CANDIDATES, n_items)
    best, items = g.ops("TopK", scores, g.constant([count]), outputs=2)
    g.output(items, ITEMS, TensorProto.INT64, [count])
    g.output(best, SCORES, TensorProto.FLOAT, [count])
    return best, items


def aged_weights(g: Graph, decay: float) -> str:
    """Return float32[H]: decay ** (steps from the newest), 0 where `history` is -1."""
    length = g.op("Squeeze", g.op("Shape", "history"))
    steps = g.op("Sub", g.op("Sub", length, g.constant(1)), g.op("Range", g.constant(0), length, g.constant(1)))
    weights = g.op("Pow", g.constant(decay, np.float32), g.op("Cast", steps, to=TensorProto.FLOAT))
    known = g.op("Cast", g.op("GreaterOrEqual", "history", g.constant(0)), to=TensorProto.FLOAT)
    return g.op("Mul", weights, known)


def fold_in(g: Graph, weights: str, matrix: str) -> str:
    """Return float32[n]: the weighted sum of the history's rows of an item x item matrix."""
    rows = g.op("Gather", matrix, g.op("Max", "history", g.constant(0)), axis=0)
    return g.op("Squeeze", g.op("MatMul", g.op("Unsqueeze", weights, g.constant([0])), rows), g.constant([0]))
