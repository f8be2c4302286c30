"""Vectors of documents in eight bits: how they are made, and the exact arithmetic that the model of them does."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
Ints8 = NDArray[np.int8]
LEVELS = 127


def quantise(vectors: Floats32) -> tuple[Ints8, Floats32]:
    """Return vectors as int8[N, D] and the scale of each, float32[N]: vector = scale x int8, within half a scale."""
    greatest = np.abs(vectors).max(axis=1, initial=0)
    scales = np.where(greatest > 0, greatest / LEVELS, 1.0).astype(np.float32)
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales


def similarities(query: Floats32, vectors: Ints8, scales: Floats32) -> Floats32:
    """Return the products of a query with vectors, float32[N], in integers as the model has them.

    The query is given eight bits, too, with one scale: float32[D] -> int8[D].
    """
    scale = np.maximum(np.abs(query).max(initial=0) / np.float32(LEVELS), np.float32(1e-12)).astype(np.float32)
    levels = np.clip(np.rint(query / scale), -LEVELS, LEVELS).astype(np.int32)
    sums = vectors.astype(np.int32) @ levels
    found: Floats32 = sums.astype(np.float32) * scales * scale
    return found


def digest(text: str) -> bytes:
    """Return eight bytes that say which text a vector was made of: an unchanged text keeps its vector."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()[:8]
