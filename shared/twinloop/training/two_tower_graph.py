"""Two towers as ONNX: the history tower, an int8 search over the items, exact scores of what it found."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from twinloop.contracts.signature import CANDIDATES, ITEMS, SCORES
from twinloop.errors import BadInputError
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph, excluded, retrieval_graph
from twinloop.training.two_tower import Ensemble, HistoryTower
from twinloop.training.validate import Question, retrieve

PRESELECTED = 4 * CANDIDATES
MAX_BYTES = 190_000_000  # a release may have 200 MB
# Seven bits: processors without VNNI add two products of eight bits in 16, which eight-bit weights overflow.
_LEVELS = 63


def check_size(n_items: int, dim: int, members: int) -> None:
    """Raise BadInputError where the model would not fit a release."""
    # An item costs its vector in float32 and in int8, and each member's own embedding for histories in float32.
    size = n_items * dim * members * (4 + 1 + 4)
    if size > MAX_BYTES:
        raise BadInputError(
            f"{n_items} items x {members} members x {dim} dimensions make a model of {size / 1e6:.0f} MB, over "
            f"{MAX_BYTES / 1e6:.0f}: set the hyperparameter members to 1, or a smaller dim"
        )


def quantised(vectors: Floats32) -> tuple[NDArray[np.int8], Floats32]:
    """Return int8[n, d] and each row's scale, so that row * scale is close to the vector."""
    scale = np.maximum(np.abs(vectors).max(axis=1, initial=0), 1e-12) / _LEVELS
    return np.rint(vectors / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def two_tower_graph(model: Ensemble) -> bytes:
    """Return the retrieval model; a -1 in `history` counts for nothing."""
    g = retrieval_graph("two_tower")
    vectors, bias = model.catalogue()
    n = len(bias)
    users = [user_vector(g, member.history) for member in model.members]
    user = g.op("Concat", *users, axis=1) if len(users) > 1 else users[0]  # [1, D]

    small, scale = quantised(vectors)
    coarse, user_scale, zero = g.ops("DynamicQuantizeLinear", user, outputs=3)
    products = g.op("MatMulInteger", coarse, g.constant(small.T), zero)
    about = g.op("Mul", g.op("Cast", products, to=TensorProto.FLOAT), g.op("Mul", user_scale, g.constant(scale)))
    about = g.op("Add", g.op("Squeeze", about, g.constant([0])), g.constant(bias))
    about, found = g.ops("TopK", excluded(g, about, n), g.constant([min(PRESELECTED, n)]), outputs=2)

    rows = g.op("Gather", g.constant(vectors), found, axis=0)  # [C, D]
    product = g.op("Squeeze", g.op("MatMul", rows, g.op("Transpose", user, perm=[1, 0])), g.constant([1]))
    exact = g.op("Add", product, g.op("Gather", g.constant(bias), found, axis=0))
    shut = g.op("Equal", about, g.constant(-np.inf, np.float32))
    exact = g.op("Where", shut, g.constant(-np.inf, np.float32), exact)
    count = min(CANDIDATES, n)
    best, place = g.ops("TopK", exact, g.constant([count]), outputs=2)
    g.output(g.op("Gather", found, place, axis=0), ITEMS, TensorProto.INT64, [count])
    g.output(best, SCORES, TensorProto.FLOAT, [count])
    return g.serialise()


def user_vector(g: Graph, tower: HistoryTower) -> str:
    """Return the user's vector [1, d]; see HistoryTower.forward."""
    state = {name: value.numpy() for name, value in tower.state_dict().items()}
    decay = torch.sigmoid(tower.decay).detach().numpy()
    known = g.op("Cast", g.op("GreaterOrEqual", "history", g.constant(0)), to=TensorProto.FLOAT)
    length = g.op("Squeeze", g.op("Shape", "history"))
    steps = g.op("Sub", g.op("Sub", length, g.constant(1)), g.op("Range", g.constant(0), length, g.constant(1)))
    powers = g.op("Pow", g.constant(decay[:, None]), g.op("Cast", steps, to=TensorProto.FLOAT))
    weights = g.op("Mul", powers, known)  # [S, H]
    rows = g.op("Gather", g.constant(state["embedding.weight"]), g.op("Max", "history", g.constant(0)), axis=0)
    total = g.op("Add", g.op("ReduceSum", weights, g.constant([1]), keepdims=1), g.constant(1.0))
    pooled = g.op("Reshape", g.op("Div", g.op("MatMul", weights, rows), total), g.constant([1, -1]))
    inner = g.op("MatMul", pooled, g.constant(state["inner.weight"].T))
    hidden = g.op("Relu", g.op("Add", inner, g.constant(state["inner.bias"])))
    outer = g.op("Add", g.op("MatMul", hidden, g.constant(state["outer.weight"].T)), g.constant(state["outer.bias"]))
    return g.op("Add", g.op("MatMul", pooled, g.constant(state["direct.weight"].T)), outer)


def int8_recall(session: ort.InferenceSession, model: Ensemble, questions: Iterable[Question]) -> float:
    """Return the mean share of the exact best `CANDIDATES` items that the graph returns."""
    shares = []
    for question in questions:
        exact = model.scores([question.history])[0]
        exact[question.history] = -np.inf
        best = np.argsort(-exact, kind="stable")[:CANDIDATES]
        best = best[exact[best] > -np.inf]
        if len(best):
            answer = retrieve(session, question)
            shares.append(np.isin(best, answer["items"][answer["scores"] > -np.inf]).mean())
    return float(np.mean(shares)) if shares else 1.0
