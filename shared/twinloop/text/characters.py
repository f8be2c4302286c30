"""Characters without their disguises: plain forms of what is written to look like something else.

Compatibility forms are plain ones, letters in circles and squares are letters, what cannot be seen goes, and so do
marks of letters that are decorated by them; letters of other scripts that look like Latin ones are these, in words all
of which look so.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import Literal

Kind = Literal["gone", "mark", "bearer", "plain"]

_MOST_UNFOLDED = 4  # characters that one becomes; some are whole sentences, up to eighteen
_MOST_MARKS = 4  # of a letter
# Scripts that are read without marks: accents, breathings, vowels of Arabic and Hebrew.
_DECORATED = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW"})
_INVISIBLE = frozenset({"Cf", "Me", "Co", "Cs"})  # without looks, around others, private, half a character
# Letters and marks that look like nothing: fillers of Hangul, Braille's blank, Khmer's inherent vowels, joiners of
# graphemes, selectors of variants; and Arabic's stretching stroke.
_BLANK = frozenset(
    "\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5\u034f\u180b\u180c\u180d\u180f\u0640"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ENCLOSED = {chr(first + place): letter for first in (0x1F150, 0x1F170) for place, letter in enumerate(_LETTERS)}
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_INDICATORS = re.compile("[\U0001f1e6-\U0001f1ff]+")
# What looks like a Latin letter: the commonest of Unicode's confusables.
_LOOKALIKES = str.maketrans(
    # Cyrillic, Greek, Armenian, and Latin's own relatives, in the order of the letters that they look like
    "аɑαᴀƅьсϲԁɗеєεҽғɡգһհіıιɩӏјκкɭʟмᴍոηпоοσօрρԛգгѕʂтτυսνѵԝωхχуγʏᴢđħĸłø",
    "aaaabbccddeeeefgghhiiiiljkkllmmnnnooooppqqrssttuuvvwwxxyyyzdhklo",
)


def plain(text: str) -> str:
    """Return a text in plain characters; it is at most four times as long."""
    if text.isascii():
        return text
    made = unicodedata.normalize("NFC", _NOT_ASCII.sub(_plain, _INDICATORS.sub(_indicated, text)))
    if made.isascii():
        return made
    return "".join([_latin(part) if not part.isascii() else part for part in re.split(r"(\W+)", made)])


def _plain(found: re.Match[str]) -> str:
    kept: list[str] = []
    room = 0  # for marks on the letter before
    for character in found[0]:
        for part, kind in _parts(character):
            if kind == "mark":
                if room:
                    kept.append(part)
                    room -= 1
            elif kind != "gone":
                kept.append(part)
                room = _MOST_MARKS if kind == "bearer" else 0
    return "".join(kept)


@cache
def marks() -> str:
    """Return the marks that stay with letters, as a regular expression's class has them between its brackets."""
    found = [chr(code) for code in range(0x300, 0x20000) if _kind(chr(code)) == "mark"]
    return re.escape("".join(found))


@lru_cache(maxsize=20_000)
def _parts(character: str) -> tuple[tuple[str, Kind], ...]:
    """Return what a character is made of, each part with its kind."""
    letter = _ENCLOSED.get(character)
    if letter is not None:
        return ((letter, "plain"),)
    unfolded = unicodedata.normalize("NFKD", character)
    if len(unfolded) > _MOST_UNFOLDED:
        unfolded = character
    return tuple((part, _kind(part)) for part in unfolded)


def _kind(character: str) -> Kind:
    category = unicodedata.category(character)
    if character in _BLANK or category in _INVISIBLE:
        return "gone"
    if category in ("Mn", "Mc"):
        return "mark"
    script = unicodedata.name(character, "").partition(" ")[0]
    return "bearer" if category[0] == "L" and script not in _DECORATED else "plain"


def _indicated(found: re.Match[str]) -> str:
    """Return letters for regional indicators that are no flags: those come in pairs."""
    run = found[0]
    return "".join(_LETTERS[ord(one) - 0x1F1E6] for one in run) if len(run) % 2 else run


def _latin(word: str) -> str:
    """Return a word in Latin letters where all of it looks like these; a word of another script stays itself."""
    read = word.casefold().translate(_LOOKALIKES)
    return read if read.isascii() else word
