"""Texts as models read them: one normalisation and one hashing, for jobs and for serving.

Normalisation undoes what is done to words so that they are not recognised, and keeps what they say:
HTML's entities are characters; compatibility forms are plain ones (NFKC); accents, invisible characters and marks of
direction go; letters of other scripts that look like Latin ones are these, in words all of which look so;
case goes; addresses and names of accounts are one token each; digits and signs that stand for letters inside words
are these letters (`h3llo`); letters set apart (`h e l l o`) are a word; what is repeated is there twice at most.

An n-gram of words has the id CRC-32 of its text, one of characters a polynomial over its code points (modulo 2^64, base
`_BASE`, after its length), mixed as MurmurHash3 finishes; both modulo the buckets. Different n-grams may meet in a
bucket (Weinberger et al., ICML 2009).
"""

from __future__ import annotations

import html
import re
import unicodedata
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.text import TextInputs

MOST_CHARACTERS = 100_000
"""Of a text that is read; what comes after is not."""

URL, ACCOUNT = "\ue000", "\ue001"  # of the private use area, so that no text can hold them by itself

_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
_AT = re.compile(r"(?<![\w@])@\w+")
# What looks like a Latin letter: the commonest of Unicode's confusables.
_LOOKALIKES = str.maketrans(
    # Cyrillic, Greek, Armenian, and Latin's own relatives, in the order of the letters that they look like
    "аɑαᴀƅьсϲԁɗеєεҽғɡգһհіıιɩӏјκкɭʟмᴍոηпоοσօрρԛգгѕʂтτυսνѵԝωхχуγʏᴢ",
    "aaaabbccddeeeefgghhiiiiljkkllmmnnnooooppqqrssttuuvvwwxxyyyz",
)
_LEET = str.maketrans("013457@$!|€", "oieastasile")
_LEET_INSIDE = re.compile(r"(?<=[a-z])[013457@$!|€]+(?=[a-z])")
_LEET_AT_START = re.compile(r"(?<![^\s])[$€](?=[a-z]{2})")
_LEET_AT_END = re.compile(r"(?<=[a-z])\$+(?!\S)")
_LETTERS_APART = re.compile(r"(?<!\w)(?:[^\W\d_][ ._*\-]){3,}[^\W\d_](?!\w)")
_APART = re.compile(r"[ ._*\-]")
_REPEATED = re.compile(r"(.)\1{2,}", re.DOTALL)
_MARKUP_INSIDE = re.compile(r"(?<=[a-z])[*_~^`·]+(?=[a-z])")
_SPACE = re.compile(r"\s+")
_TOKEN = re.compile(rf"[{URL}{ACCOUNT}]|\w+(?:'\w+)*|[^\w\s]")
_DROPPED = frozenset({"Cf", "Mn", "Me", "Co", "Cs"})  # invisible, combining, private, half a character

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]


def normalise(text: str) -> str:
    """Return a text without its disguises; of what is longer than `MOST_CHARACTERS`, the beginning."""
    text = text[:MOST_CHARACTERS]
    if "&" in text:
        text = html.unescape(text)[:MOST_CHARACTERS]
    if not text.isascii():
        text = _plain(text)
    text = text.casefold()
    text = _AT.sub(f" {ACCOUNT} ", _ADDRESS.sub(f" {URL} ", text))
    text = _LEET_INSIDE.sub(_letters, text)
    text = _LEET_AT_END.sub(_letters, _LEET_AT_START.sub(_letters, text))
    text = _MARKUP_INSIDE.sub("", text)
    text = _LETTERS_APART.sub(lambda found: _APART.sub("", found[0]), text)
    text = _REPEATED.sub(r"\1\1", text)
    return _SPACE.sub(" ", text).strip()


def _letters(found: re.Match[str]) -> str:
    return found[0].translate(_LEET)


def _plain(text: str) -> str:
    """Return a text in compatibility form without what cannot be seen, and with Latin letters for lookalikes."""
    # A mark that no letter carries after composition is no letter's: it goes, and so does the accent of one.
    decomposed = unicodedata.normalize("NFKD", text)[: 2 * MOST_CHARACTERS]
    kept = "".join([c for c in decomposed if c.isascii() or unicodedata.category(c) not in _DROPPED])
    kept = unicodedata.normalize("NFC", kept)[:MOST_CHARACTERS]
    if kept.isascii():
        return kept
    return "".join([_latin(part) if not part.isascii() else part for part in re.split(r"(\W+)", kept)])


def _latin(word: str) -> str:
    """Return a word in Latin letters where all of it looks like these; a word of another script stays itself."""
    read = word.casefold().translate(_LOOKALIKES)
    return read if read.isascii() else word


def windows(text: str, inputs: TextInputs) -> list[str]:
    """Return a normalised text in pieces that a model reads one at a time; of the empty text, itself."""
    if len(text) <= inputs.window:
        return [text]
    step = inputs.window - inputs.overlap
    return [text[start : start + inputs.window] for start in range(0, len(text) - inputs.overlap, step)]


def tokens(text: str) -> list[str]:
    """Return words and signs of a normalised text."""
    return _TOKEN.findall(text)


class Counted(NamedTuple):
    """The n-grams of one text: `ids` int64[T], each once and ascending, and `counts` float32[T]. Never none."""

    ids: Ints
    counts: Floats32


_NOTHING = Counted(np.zeros(1, np.int64), np.zeros(1, np.float32))


def counted(text: str, inputs: TextInputs) -> Counted:
    """Return the n-grams of a normalised text; the empty text has one id that counts 0 times."""
    found = tokens(text)
    if not found:
        return _NOTHING
    every = np.concatenate([_of_words(found, inputs.words), _of_characters(found, inputs.shortest, inputs.longest)])
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
