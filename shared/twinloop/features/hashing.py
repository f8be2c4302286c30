"""Ids of facts and of crosses of facts, for models whose vocabulary is a range of numbers.

One definition for jobs and for serving: the id of a field is CRC-32 (ISO-HDLC, as in zlib) of its text, modulo the
buckets. The text is the field's name and the values of its parts, each after a NUL; a part that is not known is U+0001,
which differs from the empty text. Values that hold U+0000, U+0001 or U+0002 have these escaped, so two rows have one
text only where they have one name and the same values. Different texts may still meet in a bucket: that is what hashing
costs (Weinberger et al., ICML 2009).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.hashing import Hashed
from twinloop.contracts.hashing import HashedField as Field
from twinloop.errors import BadInputError

__all__ = ["Coded", "Column", "Field", "Hashed", "coded", "hashed", "id_of"]

Ints = NDArray[np.int64]

_BETWEEN = b"\x00"
_MISSING = b"\x01"
_ESCAPES = str.maketrans({"\x00": "\x02a", "\x01": "\x02b", "\x02": "\x02c"})


class Coded(NamedTuple):
    """A column of few values: row n has `values[codes[n]]`."""

    codes: Ints
    values: Sequence[str | None]


Column = str | Sequence[str | None] | Coded | None
"""A value for each row, or one (None: not known) for all of them."""


def id_of(field: Field, buckets: int, values: Sequence[str | None]) -> int:
    """Return the id of one row: the definition, value by value."""
    text = b"".join([field.name.encode(), *(_BETWEEN + _bytes(value) for value in values)])
    return zlib.crc32(text) & (buckets - 1)


def hashed(
    fields: Sequence[Field], buckets: int, columns: Mapping[str, Column], *, rows: int | None = None
) -> NDArray[np.int64]:
    """Return the ids of rows, int64[rows, fields], each what `id_of` says of it.

    Every value, and every pair of values that a cross meets, is hashed once. What is one for all rows costs no row
    anything, so the user and the moment of a request are given as such.

    Args:
        fields: What ids are made of.
        buckets: A power of two: ids are from 0 up to before it.
        columns: Of every part of the fields.
        rows: How many; where it is not said, as many as the columns have, and one where these are all single values.

    Raises:
        BadInputError: A part has no column, or columns are of different lengths.
    """
    parts = dict.fromkeys(part for field in fields for part in field.parts)  # each read once, in however many fields
    known = {part: _column(columns, part) for part in parts}
    lengths = {len(codes) for codes, _ in known.values() if codes is not None}
    if rows is not None:
        lengths.add(rows)
    if len(lengths) > 1:
        raise BadInputError(f"columns to hash are of different lengths: {sorted(lengths)}")
    count = lengths.pop() if lengths else 1
    ids = np.empty((count, len(fields)), np.int64)
    if not count:
        return ids
    crossed: dict[tuple[str, ...], tuple[Ints, list[tuple[int, ...]]]] = {}
    for place, field in enumerate(fields):
        ids[:, place] = _field(field, known, crossed)
    ids &= buckets - 1
    return ids


_Known = tuple[Ints | None, list[bytes]]


def _column(columns: Mapping[str, Column], part: str) -> _Known:
    """Return a column's codes, None where one value is for all, and its different values as bytes."""
    if part not in columns:
        raise BadInputError(f"no column to hash is {part}; known: {', '.join(columns) or 'none'}")
    column = columns[part]
    if column is None or isinstance(column, str):
        return None, [_bytes(column)]
    codes, values = column if isinstance(column, Coded) else coded(column)
    return codes, _all_bytes(values)


def coded(column: Sequence[str | None]) -> Coded:
    """Return a column by its different values, in the order in which they come."""
    places: dict[str | None, int] = {}
    codes = np.fromiter((places.setdefault(value, len(places)) for value in column), np.int64, len(column))
    return Coded(codes, list(places))


def _field(
    field: Field, known: Mapping[str, _Known], crossed: dict[tuple[str, ...], tuple[Ints, list[tuple[int, ...]]]]
) -> Ints | int:
    """Return a field's CRC-32: of each row, or one for all."""
    varying = tuple(dict.fromkeys(part for part in field.parts if known[part][0] is not None))
    if not varying:
        return zlib.crc32(b"".join([field.name.encode(), *(_BETWEEN + known[part][1][0] for part in field.parts)]))
    # A checksum goes on from a checksum: what comes before the first part that differs is hashed once.
    first = next(place for place, part in enumerate(field.parts) if part in varying)
    before = field.name.encode() + b"".join(_BETWEEN + known[part][1][0] for part in field.parts[:first])
    start = zlib.crc32(before + _BETWEEN)
    if len(varying) == 1 and field.parts.count(varying[0]) == 1:
        codes, values = known[varying[0]]
        after = b"".join(_BETWEEN + known[part][1][0] for part in field.parts[first + 1 :])
        found = [zlib.crc32(value + after, start) for value in values]
        return np.asarray(np.array(found, np.int64)[codes])
    if varying not in crossed:
        varied = [(codes, values) for codes, values in (known[part] for part in varying) if codes is not None]
        crossed[varying] = _cross(varied)
    codes, met = crossed[varying]
    places = [varying.index(part) if part in varying else -1 for part in field.parts[first:]]
    values_of = [known[part][1] for part in field.parts[first:]]
    pairs = list(zip(values_of, places, strict=True))
    found = [
        zlib.crc32(_BETWEEN.join([values[of[place]] if place >= 0 else values[0] for values, place in pairs]), start)
        for of in met
    ]
    return np.asarray(np.array(found, np.int64)[codes])


def _cross(columns: Sequence[tuple[Ints, list[bytes]]]) -> tuple[Ints, list[tuple[int, ...]]]:
    """Return which of the different combinations of values each row has, and the combinations, as places of values."""
    together, met = columns[0][0], [np.arange(len(columns[0][1]))]
    for codes, values in columns[1:]:
        size = len(values)
        # Combinations are numbered anew after every part, so no number outgrows rows x values.
        unique, together = np.unique(together * size + codes, return_inverse=True)
        met = [*(part[unique // size] for part in met), unique % size]
    return np.asarray(together), list(zip(*(part.tolist() for part in met), strict=True))


def _all_bytes(values: Sequence[str | None]) -> list[bytes]:
    together = "".join([value for value in values if value is not None])
    if together.isprintable():  # so nothing is to be escaped; asked once, for most columns are plain
        return [_MISSING if value is None else value.encode() for value in values]
    return [_bytes(value) for value in values]


def _bytes(value: str | None) -> bytes:
    if value is None:
        return _MISSING
    # Text that came out of JSON may hold half a surrogate pair, which is no character and yet a value.
    return value.translate(_ESCAPES).encode("utf-8", "surrogatepass")
