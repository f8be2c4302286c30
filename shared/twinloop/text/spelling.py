"""Words that a query has and no document does: what was meant by them.

A word's neighbours are found by the pairs of letters that it shares with the words of the index, and are then compared
by the restricted Damerau-Levenshtein distance (a letter more, less, another, or two swapped).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from twinloop.errors import IntegrityError
from twinloop.text.lexical import LexicalIndex
from twinloop.text.packing import pack, unpack

_COMPARED = 48
_SHORTEST = 4  # shorter words have too many neighbours to tell which was meant
_SHORTEST_FOR_TWO = 8
_SHORTEST_PART = 3
_EITHER = 3


class Meant(NamedTuple):
    """What may have been meant.

    Attributes:
        terms: Of the index: either of them, the nearest and then most frequent first; or all, where `together`.
        distance: Edits from what was written.
        together: They were written as one word.
    """

    terms: tuple[int, ...]
    distance: int
    together: bool = False


class Spelling:
    """Corrections towards the terms of an index.

    Args:
        index: Of whose terms.
        body: What `pack_pairs` made of the same terms; raises IntegrityError where it is of others.
    """

    def __init__(self, index: LexicalIndex, body: bytes) -> None:
        self._terms, self._holding, self._ids = index.terms, index.holding, index.ids
        arrays, facts = unpack(body, "the table of spellings")
        try:
            pairs, self._starts, self._lists = facts["pairs"], arrays["starts"], arrays["lists"]
        except KeyError as error:
            raise IntegrityError(f"the table of spellings lacks {error}; build it anew") from error
        most = int(self._lists.max(initial=-1))
        if self._starts.shape != (len(pairs) + 1,) or int(self._starts[-1]) != len(self._lists):
            raise IntegrityError("the table of spellings does not fit together; build it anew")
        if facts.get("terms") != len(self._terms) or most >= len(self._terms):
            raise IntegrityError("the table of spellings is of other terms than the index; build both anew")
        self._numbers: dict[str, int] = {pair: number for number, pair in enumerate(pairs)}

    def meant(self, word: str) -> Meant | None:
        """Return what was meant by a word that is no term of the index; None where nothing is near enough."""
        if any(character.isdigit() for character in word) or len(word) < _SHORTEST:
            return None  # another number is another thing
        allowed = 2 if len(word) >= _SHORTEST_FOR_TWO else 1
        near: list[tuple[int, int, int]] = []
        for term in self._neighbours(word, allowed):
            there = self._terms[term]
            if there[0] != word[0] and len(word) < _SHORTEST_FOR_TWO:
                continue  # the first letter is seldom wrong, and a short word has few others
            distance = edits(word, there, allowed)
            if distance <= allowed:
                near.append((distance, -int(self._holding[term]), term))
        near.sort()
        parts = self._parts(word)
        if parts is not None and (not near or near[0][0] > 1):
            return Meant(parts, 1, together=True)
        if not near:
            return None
        # Which of the nearest was meant the other words of the query say: documents that hold them all come first.
        return Meant(tuple(term for distance, _, term in near if distance == near[0][0])[:_EITHER], near[0][0])

    def _parts(self, word: str) -> tuple[int, int] | None:
        """Return the two terms that were written as one word, the division whose rarer part is most frequent."""
        best: tuple[int, tuple[int, int]] | None = None
        for place in range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1):
            first, second = self._ids.get(word[:place]), self._ids.get(word[place:])
            if first is not None and second is not None:
                found = min(int(self._holding[first]), int(self._holding[second]))
                if best is None or found > best[0]:
                    best = found, (first, second)
        return None if best is None else best[1]

    def _neighbours(self, word: str, allowed: int) -> list[int]:
        """Return the terms that share the most pairs of letters, of about the same length."""
        lists = [
            self._lists[self._starts[number] : self._starts[number + 1]]
            for pair in _pairs(word)
            if (number := self._numbers.get(pair)) is not None
        ]
        if not lists:
            return []
        shared = np.bincount(np.concatenate(lists), minlength=len(self._terms))
        # An edit touches two pairs, or three where letters are swapped.
        near = np.flatnonzero(shared >= max(len(_pairs(word)) - 3 * allowed, 1))
        near = near[np.argsort(-shared[near], kind="stable")]
        chosen: list[int] = []
        for term in near.tolist():
            if abs(len(self._terms[term]) - len(word)) <= allowed:
                chosen.append(term)
                if len(chosen) == _COMPARED:
                    break
        return chosen


def edits(one: str, other: str, most: int) -> int:
    """Return the restricted Damerau-Levenshtein distance of two words; `most` + 1 where it is greater than `most`."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        row = [i] + [0] * len(other)
        for j, right in enumerate(other, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)


def _pairs(word: str) -> set[str]:
    edged = f"^{word}$"
    return {edged[place : place + 2] for place in range(len(edged) - 1)}


def pack_pairs(terms: Sequence[str]) -> bytes:
    """Return the table of which terms have which pairs of letters, of words that could be meant."""
    lists: dict[str, list[int]] = {}
    for number, term in enumerate(terms):
        if len(term) >= _SHORTEST - 1 and not any(character.isdigit() for character in term):
            for pair in sorted(_pairs(term)):
                lists.setdefault(pair, []).append(number)
    sizes = [len(found) for found in lists.values()]
    flat = [number for found in lists.values() for number in found]
    arrays = {"starts": np.cumsum([0, *sizes]).astype(np.int32), "lists": np.array(flat, np.int32)}
    return pack(arrays, {"pairs": list(lists), "terms": len(terms)})
