"""Named arrays and texts in one file: a JSON header, then the bytes of the arrays, each at a multiple of 64."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import IntegrityError

_MAGIC = b"TLAR1\0\0\0"
_ALIGN = 64
_TYPES = frozenset({"<f8", "<f4", "<f2", "<i8", "<i4", "|i1", "|u1", "<u2", "<u4"})


def pack(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bytes:
    """Return the file of arrays, and of facts that JSON can hold. Equal content gives equal bytes."""
    described, bodies, place = [], [], 0
    for name, array in sorted(arrays.items()):
        body = np.ascontiguousarray(array).tobytes()
        described.append({"name": name, "type": array.dtype.str, "shape": list(array.shape), "at": place})
        padding = -len(body) % _ALIGN
        bodies.append(body + b"\0" * padding)
        place += len(body) + padding
    header = json.dumps({"arrays": described, "facts": facts}, sort_keys=True, ensure_ascii=False).encode()
    start = len(_MAGIC) + 8 + len(header)
    return b"".join([_MAGIC, struct.pack("<Q", len(header)), header, b"\0" * (-start % _ALIGN), *bodies])


def unpack(body: bytes, what: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays, which are views of the bytes and read-only, and the facts.

    Raises IntegrityError, naming `what`, where the bytes are no such file, cut short, or of types that are not known.
    """
    try:
        if body[: len(_MAGIC)] != _MAGIC:
            raise ValueError("it begins otherwise")
        (length,) = struct.unpack_from("<Q", body, len(_MAGIC))
        begin = len(_MAGIC) + 8
        header = json.loads(body[begin : begin + length])
        start = begin + length + (-(begin + length) % _ALIGN)
        arrays = {}
        for entry in header["arrays"]:
            if entry["type"] not in _TYPES or any(size < 0 for size in entry["shape"]):
                raise ValueError(f"{entry['name']} is of type {entry['type']!r}")
            count = int(np.prod(entry["shape"], dtype=np.int64))
            arrays[str(entry["name"])] = np.frombuffer(
                body, np.dtype(entry["type"]), count=count, offset=start + int(entry["at"])
            ).reshape(entry["shape"])
        return arrays, dict(header["facts"])
    except (ValueError, KeyError, TypeError, struct.error, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"{what} is not whole or of another version: {error}; build it anew") from error
