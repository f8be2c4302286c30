"""The causal transformer as ONNX: the latest events, attention, and an exact search over all items."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from twinloop.errors import BadInputError
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph, excluded, retrieval_graph, top
from twinloop.training.sequence import GAPS, Ensemble, Transformer

MAX_BYTES = 190_000_000  # a release may have 200 MB
_EVERYTHING = np.iinfo(np.int64).max
_EPSILON = 1e-5  # torch's LayerNorm


def check_size(n_items: int, dim: int, members: int) -> None:
    """Raise BadInputError where the model would not fit a release."""
    size = n_items * dim * members * 4
    if size > MAX_BYTES:
        raise BadInputError(
            f"{n_items} items x {members} members x {dim} dimensions make a model of {size / 1e6:.0f} MB, over "
            f"{MAX_BYTES / 1e6:.0f}: set the hyperparameter members to 1, or a smaller dim"
        )


def sequence_graph(model: Ensemble) -> bytes:
    """Return the retrieval model; a -1 in `history` counts for nothing."""
    g = retrieval_graph("sequence")
    top(g, excluded(g, sequence_scores(g, model), model.n_items), model.n_items)
    return g.serialise()


def sequence_scores(g: Graph, model: Ensemble) -> str:
    """Add the model to a graph with the retrieval inputs; returns the value with every item's score, float32[n]."""
    # The members' embeddings stand side by side, once, for histories and for the search.
    with_beginning = np.concatenate([_array(member.embedding.weight) for member in model.members], axis=1)
    embeddings = g.constant(with_beginning)
    known = g.op("GreaterOrEqual", "history", g.constant(0))
    history = _latest(g, g.op("Compress", "history", known, axis=0), model.length)
    times = _latest(g, g.op("Compress", "times", known, axis=0), model.length)
    events = g.op("Concat", g.constant([model.n_items]), history, axis=0)
    rows = g.op("Gather", embeddings, events, axis=0)  # [T, members * d]
    gaps, ages = _gap_classes(g, times), _ages(g, events)
    dim = model.members[0].embedding.embedding_dim
    users = []
    for place, member in enumerate(model.members):
        own = _columns(g, rows, place * dim, (place + 1) * dim)
        users.append(_user(g, member, own, gaps, ages))
    user = g.op("Concat", *users, axis=1) if len(users) > 1 else users[0]  # [1, members * d]
    mean = g.op("Mul", user, g.constant(1 / len(users), np.float32))
    bias = np.mean([_array(member.bias) for member in model.members], axis=0)
    products = g.op("Squeeze", g.op("MatMul", embeddings, g.op("Transpose", mean, perm=[1, 0])), g.constant([1]))
    of_items = g.op("Slice", products, g.constant([0]), g.constant([model.n_items]))
    return g.op("Add", of_items, g.constant(bias, np.float32))


def _array(value: object) -> Floats32:
    return np.asarray(value.detach().numpy(), dtype=np.float32)  # type: ignore[attr-defined]


def _latest(g: Graph, values: str, count: int) -> str:
    return g.op("Slice", values, g.constant([-count]), g.constant([_EVERYTHING]), g.constant([0]))


def _columns(g: Graph, table: str, begin: int, end: int) -> str:
    return g.op("Slice", table, g.constant([begin]), g.constant([end]), g.constant([1]))


def _gap_classes(g: Graph, times: str) -> str:
    """Return int64[T, T]; see sequence.gap_classes."""
    clock = g.op("Concat", g.constant([0]), times, axis=0)
    across = g.op("Sub", g.op("Unsqueeze", clock, g.constant([1])), g.op("Unsqueeze", clock, g.constant([0])))
    seconds = g.op("Add", g.op("Cast", g.op("Abs", across), to=TensorProto.DOUBLE), g.exact(np.asarray(1.5)))
    doublings = g.op("Mul", g.op("Log", seconds), g.exact(np.asarray(1 / math.log(2))))
    classes = g.op("Cast", g.op("Min", doublings, g.exact(np.asarray(float(GAPS - 2)))), to=TensorProto.INT64)
    length = g.op("Shape", clock)
    numbers = g.op("Range", g.constant(0), g.op("Squeeze", length), g.constant(1))
    return g.op("Where", g.op("Equal", numbers, g.constant(0)), g.constant(GAPS - 1), classes)  # column 0


def _ages(g: Graph, events: str) -> str:
    """Return int64[T, T]: how many events later the row's event is than the column's; below 0 is the future."""
    numbers = g.op("Range", g.constant(0), g.op("Squeeze", g.op("Shape", events)), g.constant(1))
    return g.op("Sub", g.op("Unsqueeze", numbers, g.constant([1])), g.op("Unsqueeze", numbers, g.constant([0])))


def _user(g: Graph, member: Transformer, rows: str, gaps: str, ages: str) -> str:
    """Return the member's vector after the latest event, [1, d]; see Transformer.forward."""
    state = {name: _array(value) for name, value in member.named_parameters()}
    dim = member.embedding.embedding_dim
    x = g.op("Mul", rows, g.constant(math.sqrt(dim), np.float32))
    future = g.op("Unsqueeze", g.op("Less", ages, g.constant(0)), g.constant([0]))
    past = g.op("Max", ages, g.constant(0))
    for place in range(len(member.blocks)):
        own = {name.split(".", 2)[2]: part for name, part in state.items() if name.startswith(f"blocks.{place}.")}
        by_gap = state["gaps"][:, place * member.heads : (place + 1) * member.heads]
        biases = g.op("Add", g.op("Gather", g.constant(own["steps"]), past), g.op("Gather", g.constant(by_gap), gaps))
        x = _block(g, own, x, (g.op("Transpose", biases, perm=[2, 0, 1]), future))
    return _norm(g, state, "norm", _last_row(g, x, 0))


def _block(g: Graph, state: dict[str, Floats32], x: str, attention: tuple[str, str]) -> str:
    """Add a Block's attention and MLP to x [T, d], given its biases [heads, T, T] and what is the future."""
    biases, future = attention
    dim, heads = len(state["mix.bias"]), state["steps"].shape[1]
    width = dim // heads
    parts = _linear(g, state, "attend", _norm(g, state, "before_attention", x))
    parts = g.op("Reshape", parts, g.constant([-1, 3, heads, width]))
    query, key, value = g.ops("Split", g.op("Transpose", parts, perm=[1, 2, 0, 3]), outputs=3, axis=0)
    query, value = (g.op("Squeeze", part, g.constant([0])) for part in (query, value))  # [heads, T, width]
    turned = g.op("Transpose", g.op("Squeeze", key, g.constant([0])), perm=[0, 2, 1])
    logits = g.op("Mul", g.op("MatMul", query, turned), g.constant(1 / math.sqrt(width), np.float32))
    shut = g.op("Where", future, g.constant(-1e4, np.float32), g.op("Add", logits, biases))
    seen = g.op("Transpose", g.op("MatMul", g.op("Softmax", shut, axis=2), value), perm=[1, 0, 2])
    x = g.op("Add", x, _linear(g, state, "mix", g.op("Reshape", seen, g.constant([-1, dim]))))
    inner = g.op("Relu", _linear(g, state, "inner", _norm(g, state, "before_mlp", x)))
    return g.op("Add", x, _linear(g, state, "outer", inner))


def _last_row(g: Graph, x: str, axis: int) -> str:
    return g.op("Slice", x, g.constant([-1]), g.constant([_EVERYTHING]), g.constant([axis]))


def _linear(g: Graph, state: dict[str, Floats32], name: str, x: str) -> str:
    product = g.op("MatMul", x, g.constant(state[f"{name}.weight"].T))
    return g.op("Add", product, g.constant(state[f"{name}.bias"]))


def _norm(g: Graph, state: dict[str, Floats32], name: str, x: str) -> str:
    weight, bias = g.constant(state[f"{name}.weight"]), g.constant(state[f"{name}.bias"])
    return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=_EPSILON)
