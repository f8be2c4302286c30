"""Where a document says what was asked for: the best passage, and the places of the words in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from twinloop.text.analysis import is_mark, nfc, words

_LONGEST_READ = 10_000
_MOST_MARKS = 8


class Passage(NamedTuple):
    """A piece of a text, and in it the words that were asked for: [start, end) in characters, rising."""

    text: str
    marks: tuple[tuple[int, int], ...]


def passage(text: str, wanted: Collection[str], *, length: int = 200) -> Passage:
    """Return the passage of at most `length` characters, and an ellipsis where it is cut, with the most wanted terms.

    It holds as many different terms as can be, then as many words, and is the first such. Words are not cut apart, nor
    letters from their marks.
    """
    text = nfc(text[:_LONGEST_READ])
    found = [word for word in words(text) if word.term in wanted]
    if len(text) <= length:
        return Passage(text, tuple((word.start, word.end) for word in found))
    best, start = (0, 0), 0
    for first, word in enumerate(found):
        last = first
        while last + 1 < len(found) and found[last + 1].end - word.start <= length:
            last += 1
        here = found[first : last + 1]
        score = (len({one.term for one in here}), len(here))
        if score > best:
            best, start = score, max(0, min(word.start, here[-1].end - length // 2 - (here[-1].end - word.start) // 2))
    start = _word_begin(text, start)
    end = _word_end(text, min(start + length, len(text)), start)
    before, after = ("…" if start else ""), ("…" if end < len(text) else "")
    shift = len(before) - start
    marks = tuple((word.start + shift, word.end + shift) for word in found if start <= word.start and word.end <= end)
    return Passage(f"{before}{text[start:end]}{after}", marks)


def _word_begin(text: str, place: int) -> int:
    """Return where the word begins in which a place is, unless it is very long."""
    begin = place
    while begin > 0 and place - begin < 40 and not text[begin - 1].isspace():
        begin -= 1
    return begin if begin == 0 or text[begin - 1].isspace() else _letter_begin(text, place, 0)


def _word_end(text: str, place: int, start: int) -> int:
    if place >= len(text) or text[place].isspace():
        return place
    cut = text.rfind(" ", start, place)
    return cut if cut > start + (place - start) // 2 else _letter_begin(text, place, start)


def _letter_begin(text: str, place: int, least: int) -> int:
    """Return where the letter begins whose marks a place is among, unless it has very many."""
    begin = place
    while begin > least and place - begin < _MOST_MARKS and is_mark(text[begin]):
        begin -= 1
    return place if begin == least or is_mark(text[begin]) else begin
