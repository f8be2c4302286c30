"""Words cut into pieces of a vocabulary (WordPiece, Schuster and Nakajima 2012; as BERT has it), for jobs and serving.

It takes texts as `features/text.py` normalises them. A picture is told by its name in Unicode, for vocabularies of
words know few of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import IntegrityError
from twinloop.features.text import ACCOUNT, URL, tokens

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
_LONGEST_WORD = 60  # what is longer is no word, and would take as many looks as it has letters squared
_NAME_WORDS = 4  # of a picture's name: `face with tears of joy` without its end says as much
_TOLD = {URL: ("http",), ACCOUNT: ("user",)}

Ints = NDArray[np.int64]


class WordPieces:
    """A vocabulary that cuts words.

    Args:
        vocabulary: A piece a line; its place is its number. Pieces that go on a word begin with `##`.

    Raises:
        IntegrityError: It is no such vocabulary.
    """

    def __init__(self, vocabulary: bytes) -> None:
        try:
            pieces = vocabulary.decode().rstrip("\n").split("\n")
        except UnicodeDecodeError as error:
            raise IntegrityError("the vocabulary is not UTF-8") from error
        self._places = {piece.rstrip("\r"): place for place, piece in enumerate(pieces)}
        missing = [piece for piece in (PAD, UNKNOWN, BEGIN, END) if piece not in self._places]
        if missing:
            raise IntegrityError(f"the vocabulary lacks {', '.join(missing)}")
        self._unknown, self._begin, self._end = (self._places[piece] for piece in (UNKNOWN, BEGIN, END))
        self._cut = lru_cache(maxsize=20_000)(self._cut_anew)

    def __len__(self) -> int:
        return len(self._places)

    def pieces(self, text: str, most: int) -> list[int]:
        """Return the places of a normalised text's pieces between those of its begin and end, `most` at most."""
        found = [self._begin]
        for token in tokens(text):
            for word in _TOLD.get(token) or _words(token):
                found += self._cut(word)
            if len(found) >= most:
                break
        return [*found[: most - 1], self._end]

    def _cut_anew(self, word: str) -> tuple[int, ...]:
        if len(word) > _LONGEST_WORD:
            return (self._unknown,)
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            end = len(word)
            while end > start and prefix + word[start:end] not in self._places:
                end -= 1
            if end == start:
                return (self._unknown,)
            found.append(self._places[prefix + word[start:end]])
            start = end
        return tuple(found)


def _words(token: str) -> Sequence[str]:
    """Return what is cut of a token: itself, its parts around apostrophes, or the words of a picture's name."""
    if len(token) == 1 and not token.isascii() and unicodedata.category(token) == "So":
        return unicodedata.name(token, "").lower().split()[:_NAME_WORDS] or (token,)
    if "'" in token or "_" in token:
        spaced = token.replace("'", " ' ").replace("_", " _ ")
        return spaced.split()
    return (token,)


def padded_pieces(rows: Sequence[Sequence[int]]) -> Ints:
    """Return int64[N, T]; -1 is where a row has ended."""
    found = np.full((len(rows), max((len(row) for row in rows), default=1)), -1, np.int64)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found
