"""Vectors of documents as a component: made where texts are new, kept where they are not, searched in eight bits."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from twinloop.contracts.artefacts import Parity
from twinloop.errors import IntegrityError
from twinloop.text.vectors import LEVELS, digest, quantise, similarities
from twinloop.training.corpus import TEXT, Corpus
from twinloop.training.graphs import Graph
from twinloop.training.proof import prove_parity, session
from twinloop.training.sentence_encoder import NAME, Encoder

COMPONENT, KEPT_FILE = "vectors", "kept.npz"
_FIELDS = ("tags", "genres", "categories", "topics")  # short lists that say what a document is about
_PROVEN = 20
# What numpy and zipfile raise at bytes that are no such file: damaged, cut short, another's, or said to be encrypted.
_DAMAGED = (ValueError, KeyError, OSError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """Vectors of documents.

    Attributes:
        levels, scales: See `text/vectors.py`.
        digests: uint64[N], of the texts that they were made of.
        fresh: How many were made now, and not kept.
    """

    levels: NDArray[np.int8]
    scales: Floats32
    digests: NDArray[np.uint64]
    fresh: int = 0

    def kept(self) -> bytes:
        """Return what the next build takes over; serving does not read it."""
        buffer = io.BytesIO()
        np.savez(buffer, levels=self.levels, scales=self.scales, digests=self.digests)
        return buffer.getvalue()


def kept_vectors(body: bytes) -> Vectors:
    """Return what an earlier build kept; raises IntegrityError."""
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            made = Vectors(file["levels"], file["scales"], file["digests"])
    except _DAMAGED as error:
        raise IntegrityError(f"{KEPT_FILE} cannot be read: {error!r}; build the index without it") from error
    types = [array.dtype.name for array in (made.levels, made.scales, made.digests)]
    rows = made.levels.shape[:1]
    fits = made.levels.ndim == 2 and made.scales.shape == made.digests.shape == rows
    if types != ["int8", "float32", "uint64"] or not fits:
        raise IntegrityError(f"{KEPT_FILE} does not fit together; build the index without it")
    return made


def texts_to_encode(corpus: Corpus) -> list[str]:
    """Return of each document what its vector is made of: title, what it is about in short, and the text."""
    about = [corpus.texts_of[name] for name in _FIELDS if name in corpus.texts_of]
    rows = zip(corpus.titles, *about, corpus.texts_of[TEXT], strict=True)
    return [". ".join(part.replace("\n", ", ") for part in row if part) for row in rows]


def make_vectors(corpus: Corpus, encoder: Encoder, earlier: Vectors | None = None) -> Vectors:
    """Return the vectors of a corpus; those whose texts an earlier build had are taken over, bit for bit."""
    texts = texts_to_encode(corpus)
    digests = np.array([int.from_bytes(digest(f"{NAME}\0{text}"), "big") for text in texts], np.uint64)
    known = {} if earlier is None else {int(key): place for place, key in enumerate(earlier.digests.tolist())}
    from_before = np.array([known.get(int(key), -1) for key in digests.tolist()], np.int64)
    new = np.flatnonzero(from_before < 0)
    levels, scales = quantise(encoder.encode([texts[place] for place in new])) if len(new) else (None, None)
    width = levels.shape[1] if levels is not None else earlier.levels.shape[1] if earlier is not None else 0
    made, of = np.zeros((len(texts), width), np.int8), np.zeros(len(texts), np.float32)
    if earlier is not None and earlier.levels.shape[1] == width:
        old = from_before >= 0
        made[old], of[old] = earlier.levels[from_before[old]], earlier.scales[from_before[old]]
    if levels is not None and scales is not None:
        made[new], of[new] = levels, scales
    return Vectors(made, of, digests, len(new))


def vectors_graph(vectors: Vectors) -> bytes:
    """Return the model: `query` float32[D] -> `similarities` float32[N], products in integers of eight bits."""
    documents, width = vectors.levels.shape
    g = Graph("vectors")
    query = g.input("query", TensorProto.FLOAT, [width])
    greatest = g.op("ReduceMax", g.op("Abs", query), keepdims=0)
    scale = g.op("Max", g.op("Div", greatest, g.constant(LEVELS, np.float32)), g.constant(1e-12, np.float32))
    levels = g.op("Round", g.op("Div", query, scale))
    levels = g.op("Clip", levels, g.constant(-LEVELS, np.float32), g.constant(LEVELS, np.float32))
    # ONNX Runtime's fast kernels take an unsigned left side: 128 is added, and taken off again by the zero point.
    shifted = g.op("Cast", g.op("Add", levels, g.constant(128, np.float32)), to=TensorProto.UINT8)
    row = g.op("Unsqueeze", shifted, g.constant([0]))
    zero = g.constant(128, np.uint8)
    matrix = g.constant(np.ascontiguousarray(vectors.levels.T))
    sums = g.op("MatMulInteger", row, matrix, zero)
    found = g.op("Mul", g.op("Cast", g.op("Squeeze", sums, g.constant([0])), to=TensorProto.FLOAT), scale)
    g.output(g.op("Mul", found, g.constant(vectors.scales)), "similarities", TensorProto.FLOAT, [documents])
    return g.serialise()


def prove_vectors(model: bytes, vectors: Vectors, queries: Floats32) -> Parity:
    """Compare the model with numpy's integers on some queries; raises IntegrityError."""
    opened = session(model)
    return prove_parity(
        (opened.run(["similarities"], {"query": query})[0], similarities(query, vectors.levels, vectors.scales))
        for query in queries[:_PROVEN]
    )


def recall_of_bits(vectors: Vectors, exact: Floats32, queries: Floats32, *, at: int = 10) -> float:
    """Return which share of the nearest by exact vectors are the nearest by those of eight bits."""
    found = []
    for query in queries:
        true = set(np.argsort(-(exact @ query), kind="stable")[:at].tolist())
        near = np.argsort(-similarities(query, vectors.levels, vectors.scales), kind="stable")[:at].tolist()
        found.append(len(true.intersection(near)) / max(len(true), 1))
    return float(np.mean(found)) if found else 0.0


def facts_of(vectors: Vectors) -> Mapping[str, float]:
    """Return what a report says of vectors."""
    return {"vectors": float(len(vectors.scales)), "vectors_fresh": float(vectors.fresh)}


def encoded(encoder: Encoder, queries: Sequence[str]) -> Floats32:
    """Return the vectors of queries, float32[Q, D]."""
    return encoder.encode(list(queries))
