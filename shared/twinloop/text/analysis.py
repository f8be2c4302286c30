"""From text to the words that are looked up: the same code for documents and for queries."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

ANALYSIS = 2
"""Which terms a text has: an index is only asked by the analysis that it was built by."""

LONGEST_WORD = 64
_JOINERS = "\u200c\u200d"  # in words of Indic and Arabic script they change how letters look, not what they say
_MARK = "\u0301"  # stands for all marks where words are looked for
_LETTER = rf"[^\W_]{_MARK}*"
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MARKED_WORD = re.compile(rf"(?:{_LETTER})+(?:['’](?:{_LETTER})+)*")
# Scripts that are written without spaces: each character is a word, and neighbours are found as phrases.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    rf"\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff]{_MARK}*"
)
# Marks without which a word is the same to who looks for it: accents of Latin, Greek and Cyrillic, points of Hebrew,
# vowel signs and the stretched line of Arabic, selectors of how a character is drawn. Others are letters of their own:
# vowels of Indic scripts and of Thai, voiced kana.
_DECORATION = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0898-\u089f\u08ca-\u08e1\u08e3-\u08ff\u1ab0-\u1aff\u1dc0-\u1dff"
    f"\u20d0-\u20f0\ufe00-\ufe0f\ufe20-\ufe2f\U000e0100-\U000e01ef{_JOINERS}]+"
)
_SHORTEST_PLURAL = 4


class Word(NamedTuple):
    """A word of a text: as it is looked up, and where it stands in the NFC form of the text."""

    term: str
    start: int
    end: int


def fold(text: str) -> str:
    """Return text without case, accents and compatibility forms (NFKD, without marks that are decoration)."""
    if text.isascii():
        return text.lower()
    return _DECORATION.sub("", unicodedata.normalize("NFKD", text.casefold())).casefold()


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
    """Return the words of a text, at most so many: letters and digits with the marks on them.

    `text` should be in NFC, which the places refer to.
    """
    found: list[Word] = []
    marks = set() if text.isascii() else {character for character in set(text) if is_mark(character)}
    # As long as the text, so that places are the same in both.
    shape = text.translate({ord(mark): _MARK for mark in marks}) if marks else text
    for match in (_MARKED_WORD if marks else _WORD).finditer(shape):
        start = match.start()
        for first, last in _pieces(match.group()):
            found.append(Word(term(text[start + first : start + last]), start + first, start + last))
        if len(found) >= most:
            break
    return found[:most]


def is_mark(character: str) -> bool:
    """Return whether a character belongs to the letter before it."""
    return character in _JOINERS or unicodedata.category(character).startswith("M")


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


def _pieces(word: str) -> list[tuple[int, int]]:
    """Divide a run of letters: characters of scripts without spaces apart, what stands between them whole."""
    if word.isascii() or not _UNSPACED.search(word):
        return [(0, len(word))]
    pieces: list[tuple[int, int]] = []
    last = 0
    for match in _UNSPACED.finditer(word):
        if match.start() > last:
            pieces.append((last, match.start()))
        pieces.append(match.span())
        last = match.end()
    if last < len(word):
        pieces.append((last, len(word)))
    return pieces
