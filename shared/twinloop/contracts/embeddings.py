"""Vectors of items as bytes: what stands beside a model, read without pickle and checked before it is believed.

Layout, little-endian: the magic `TLEM`, version (uint16), width d (uint16), rows n (uint32), then n x d float16, row by
row. A row of zeros is an item of which nothing is known.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import BadInputError, IntegrityError

MOST_COLUMNS = 32
_MAGIC, _VERSION = b"TLEM", 1
_EXPONENT = np.uint16(0x7C00)  # all ones: an infinity or not a number
_HEADER = struct.Struct("<4sHHI")


def pack_embeddings(vectors: NDArray[Any]) -> bytes:
    """Return the bytes of float[n, d <= 32]; raises BadInputError for other shapes and for what is not finite."""
    if vectors.ndim != 2 or not 1 <= vectors.shape[1] <= MOST_COLUMNS:
        raise BadInputError(f"embeddings have n rows of 1 to {MOST_COLUMNS} numbers, not the shape {vectors.shape}")
    half = np.ascontiguousarray(vectors, dtype="<f2")
    if not np.isfinite(half).all():
        raise BadInputError("an embedding holds a value that half precision does not: scale the vectors first")
    rows, width = half.shape
    return _HEADER.pack(_MAGIC, _VERSION, width, rows) + half.tobytes()


def unpack_embeddings(data: bytes, rows: int) -> NDArray[np.float16]:
    """Return float16[rows, d], a view of the bytes; raises IntegrityError where they are not vectors of those items."""
    if len(data) < _HEADER.size:
        raise IntegrityError("the embeddings are cut short")
    magic, version, width, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        raise IntegrityError(f"the embeddings are of another format (version {version}); this code reads {_VERSION}")
    if not 1 <= width <= MOST_COLUMNS or count != rows or len(data) != _HEADER.size + 2 * width * count:
        raise IntegrityError(f"the embeddings are not {rows} rows of up to {MOST_COLUMNS} numbers")
    bits = np.frombuffer(data, dtype="<u2", offset=_HEADER.size)
    if ((bits & _EXPONENT) == _EXPONENT).any():  # many times faster than asking each number whether it is finite
        raise IntegrityError("the embeddings hold a value that is not a number")
    return bits.view("<f2").reshape(count, width)
