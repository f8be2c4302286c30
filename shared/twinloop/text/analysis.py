"""From text to the words that are looked up: the same code for documents and for queries."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

LONGEST_WORD = 64
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Scripts that are written without spaces: each character is a word, and neighbours are found as phrases.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_SHORTEST_PLURAL = 4


class Word(NamedTuple):
    """A word of a text: as it is looked up, and where it stands in the NFC form of the text."""

    term: str
    start: int
    end: int


def fold(text: str) -> str:
    """Return text without case, accents and compatibility forms (NFKD, without combining marks)."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character)).casefold()


def stem(word: str) -> str:
    """Return a folded word without a plural's ending: the S stemmer (Harman, JASIS 1991), which seldom errs.

    Here `y`, `ie` and `ies` all end as `i`: it cannot be known whether `ies` comes of `ie` (movies) or of `y` (cities).
    """
    if len(word) < _SHORTEST_PLURAL:
        return word
    if word.endswith("ies"):
        return word[:-2]
    if word.endswith("ie"):
        return word[:-1]
    if word.endswith("y"):
        return word if word[-2] in "aeiou" else word[:-1] + "i"
    if not word.endswith("s") or word[-2] in "us":
        return word
    return word if word.endswith("es") and word[-3] in "ao" else word[:-1]


def words(text: str, *, most: int = 4096) -> list[Word]:
    """Return the words of a text, at most so many; `text` should be in NFC, which the places refer to."""
    found: list[Word] = []
    for match in _WORD.finditer(text):
        start, whole = match.start(), match.group()
        if not whole.isascii() and _UNSPACED.search(whole):
            for place, piece in _pieces(whole):
                found.append(Word(term(piece), start + place, start + place + len(piece)))
        else:
            found.append(Word(term(whole), start, match.end()))
        if len(found) >= most:
            break
    return found[:most]


def terms(text: str, *, most: int = 4096) -> list[str]:
    """Return the words of a text as they are looked up, in their order."""
    return [word.term for word in words(nfc(text), most=most) if word.term]


@lru_cache(maxsize=65_536)  # words repeat; passages of answers are made of a few thousand of them
def term(word: str) -> str:
    """Return a single word as it is looked up: folded, without apostrophe or its `s`, stemmed, bounded in length."""
    plain = fold(word[: 4 * LONGEST_WORD])
    if "'" in plain or "’" in plain:
        plain = re.sub(r"['’]s$", "", plain).replace("'", "").replace("’", "")
    return stem(plain)[:LONGEST_WORD]


def nfc(text: str) -> str:
    """Return the composed form of a text, in which an accented letter is one character where it can be."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _pieces(word: str) -> list[tuple[int, str]]:
    """Divide a run of letters: characters of scripts without spaces apart, what stands between them whole."""
    pieces: list[tuple[int, str]] = []
    last = 0
    for match in _UNSPACED.finditer(word):
        if match.start() > last:
            pieces.append((last, word[last : match.start()]))
        pieces.append((match.start(), match.group()))
        last = match.end()
    if last < len(word):
        pieces.append((last, word[last:]))
    return pieces
