"""Normalised texts cut into the pieces of a vocabulary, for jobs and serving.

It takes texts as `disguises.py` normalises them, `wordpiece.py` those as they were written. A picture is told
by its name in Unicode, for vocabularies of words know few of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from twinloop.text.disguises import ACCOUNT, URL, tokens
from twinloop.text.wordpiece import Vocabulary

_SHARED = 8  # the part of a row that stands in the row before it, too: as of windows of 400 characters 50 do
_NAME_WORDS = 4  # of a picture's name: `face with tears of joy` without its end says as much
_TOLD = {URL: ("http",), ACCOUNT: ("user",)}

Ints = NDArray[np.int64]


class NormalisedWordPiece(Vocabulary):
    """A vocabulary that cuts normalised texts."""

    def ids(self, text: str, *, most: int) -> list[int]:
        """Return the places of a normalised text's pieces between those of its begin and end: the first row."""
        return next(self.rows(text, most=most))

    def rows(self, text: str, *, most: int) -> Iterator[list[int]]:
        """Yield rows of at most `most` places that hold all pieces of a normalised text; of the empty text, one.

        A row shares an eighth of its places with the one before it. The first row is what jobs learn from.
        """
        room, shared = most - 2, most // _SHARED
        found: list[int] = []
        for token in tokens(text):
            for word in _TOLD.get(token) or _words(token):
                found += self.cut(word)
            while len(found) > room:
                yield [self.begin, *found[:room], self.end]
                found = found[room - shared :]
        yield [self.begin, *found, self.end]


def _words(token: str) -> Sequence[str]:
    """Return what is cut of a token: itself, its parts around apostrophes, or the words of a picture's name."""
    if len(token) == 1 and not token.isascii() and unicodedata.category(token) == "So":
        return unicodedata.name(token, "").lower().split()[:_NAME_WORDS] or (token,)
    if not token.isascii():  # BERT's own vocabularies know words without marks
        token = "".join([c for c in unicodedata.normalize("NFD", token) if unicodedata.category(c) != "Mn"])
        token = unicodedata.normalize("NFC", token)
    if "'" in token:
        return token.replace("'", " ' ").split()
    return (token,)


def padded_pieces(rows: Sequence[Sequence[int]]) -> Ints:
    """Return int64[N, T]; -1 is where a row has ended."""
    found = np.full((len(rows), max((len(row) for row in rows), default=1)), -1, np.int64)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found
