"""N-grams of normalised texts as numbers: one hashing, for jobs and for serving.

An n-gram of words has the id CRC-32 of its text, one of characters a polynomial over its code points (modulo 2^64, base
`_BASE`, after its length), mixed as MurmurHash3 finishes; both modulo the buckets. Different n-grams may meet in a
bucket (Weinberger et al., ICML 2009).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.text import TextInputs
from twinloop.text.disguises import spelt

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]


class Counted(NamedTuple):
    """The n-grams of one text: `ids` int64[T], each once and ascending, and `counts` float32[T]. Never none."""

    ids: Ints
    counts: Floats32


_NOTHING = Counted(np.zeros(1, np.int64), np.zeros(1, np.float32))


def counted(text: str, inputs: TextInputs) -> Counted:
    """Return the n-grams of a normalised text; the empty text has one id that counts 0 times."""
    found, letters = spelt(text)
    if not found:
        return _NOTHING
    every = _of_words(found, inputs.words)
    if letters:
        every = np.concatenate([every, _of_characters(letters, inputs.shortest, inputs.longest)])
    ids, counts = np.unique(every & (inputs.buckets - 1), return_counts=True)
    return Counted(ids, counts.astype(np.float32))


def word_id(word: str, buckets: int) -> int:
    """Return the id of one word by itself."""
    return zlib.crc32(word.encode()) & (buckets - 1)


def _of_words(found: Sequence[str], longest: int) -> Ints:
    crc, raw = zlib.crc32, [token.encode() for token in found]
    ids = [crc(token) for token in raw]
    before = ids
    for size in range(2, longest + 1):
        # A checksum goes on from a checksum: the n-gram that ends a word earlier is hashed already.
        before = [crc(b" " + token, start) for token, start in zip(raw[size - 1 :], before, strict=False)]
        ids = ids + before
    return np.array(ids, np.int64)


def _of_characters(found: Sequence[str], shortest: int, longest: int) -> Ints:
    """Return ids of the n-grams inside words, of which the space before and after is part."""
    codes = np.frombuffer(f" {' '.join(found)} ".encode("utf-32-le"), np.uint32).astype(np.uint64)
    spaces = np.concatenate([np.zeros(1, np.int64), np.cumsum(codes == ord(" "))])
    rolled = np.zeros(len(codes), np.uint64)
    ids: list[NDArray[np.uint64]] = []
    for size in range(1, min(longest, len(codes)) + 1):
        rolled = rolled[: len(codes) - size + 1] * _BASE + codes[size - 1 :]
        if size < shortest:
            continue
        # Inside a word: no space but at an end.
        starts = np.arange(len(rolled))
        within = spaces[starts + max(size - 1, 1)] == spaces[starts + 1] if size > 1 else codes != ord(" ")
        ids.append(_mixed(rolled[within] + np.uint64(size)))
    return np.concatenate(ids).astype(np.int64) if ids else np.zeros(0, np.int64)


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value ^ (value >> _SHIFT)
    for factor in _MIX:
        value = value * factor
        value = value ^ (value >> _SHIFT)
    return value >> np.uint64(1)  # as a signed number it is not below 0


class Padded(NamedTuple):
    """N-grams of several texts as one tensor each: `ids` int64[N, T], `counts` float32[N, T], 0 where there is none."""

    ids: Ints
    counts: Floats32


def padded(rows: Sequence[Counted]) -> Padded:
    """Return rows of different lengths as tensors."""
    longest = max((len(row.ids) for row in rows), default=1)
    ids, counts = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.float32)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], counts[place, : len(row.ids)] = row
    return Padded(ids, counts)
