"""An inverted index over several fields of documents, and BM25 over it (Robertson & Zaragoza, 2009).

The score of a document is the sum over the fields of the field's weight times BM25 of the query in that field, with
one inverse document frequency a term for all fields: a term is as rare as it is in whole documents.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import IntegrityError
from twinloop.text.analysis import ANALYSIS
from twinloop.text.packing import pack, unpack

Floats32 = NDArray[np.float32]
Ints32 = NDArray[np.int32]
_MOST_COUNTED = 255
_NOTHING = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Scoring:
    """Settings of BM25: `k1` saturates repetition; of each field its weight, and how much its length counts (`b`)."""

    weights: tuple[float, ...]
    b: tuple[float, ...]
    k1: float = 1.2


@dataclass(frozen=True)
class Postings:
    """What an index holds of some terms, one row a posting.

    Attributes:
        documents: int32[P].
        fields: int32[P], index of the field.
        terms: int32[P], which of the terms that were asked for.
        impacts: float32[P], the part of BM25 that is the document's own; times the term's rarity it is the score.
    """

    documents: Ints32
    fields: Ints32
    terms: Ints32
    impacts: Floats32


@dataclass(frozen=True)
class LexicalIndex:
    """Documents by term and field.

    Attributes:
        fields: Names.
        scoring: As it was chosen for these documents.
        terms: Sorted; the id of a term is its place.
        starts: int32[F, T + 1], where the postings of field and term begin; those of a field follow one another.
        documents: int32[P], rising within field and term.
        counts: uint8[P], how often the term is there, at most 255.
        lengths: uint16[F, N], words of each field.
        holding: int32[T], in how many documents the term is.
        title: int32, the terms of all first fields one after the other.
        title_starts: int32[N + 1].
    """

    fields: tuple[str, ...]
    scoring: Scoring
    terms: tuple[str, ...]
    starts: Ints32
    documents: Ints32
    counts: NDArray[np.uint8]
    lengths: NDArray[np.uint16]
    holding: Ints32
    title: Ints32
    title_starts: Ints32

    @property
    def size(self) -> int:
        """Number of documents."""
        return int(self.lengths.shape[1])

    @cached_property
    def ids(self) -> dict[str, int]:
        """Term -> id."""
        return {term: number for number, term in enumerate(self.terms)}

    @cached_property
    def rarity(self) -> Floats32:
        """log(1 + (N - n + .5) / (n + .5)) of each term, which is never below 0."""
        holding = self.holding.astype(np.float64)
        return np.log1p((self.size - holding + 0.5) / (holding + 0.5)).astype(np.float32)

    @cached_property
    def impacts(self) -> Floats32:
        """float32[P], weight x c (k1 + 1) / (c + k1 (1 - b + b length / mean length)) of each posting."""
        made = np.empty(len(self.documents), np.float32)
        for field in range(len(self.fields)):
            begin, end = int(self.starts[field, 0]), int(self.starts[field, -1])
            made[begin:end] = self._impacts(field, begin, end)
        return made

    def _impacts(self, field: int, begin: int, end: int) -> NDArray[np.float64]:
        lengths = self.lengths[field].astype(np.float64)
        k1, b = self.scoring.k1, self.scoring.b[field]
        norm = k1 * (1 - b + b * lengths / max(float(lengths.mean()) if len(lengths) else 0.0, 1e-9))
        counts = self.counts[begin:end].astype(np.float64)
        made: NDArray[np.float64] = self.scoring.weights[field] * counts * (k1 + 1)
        made /= counts + norm[self.documents[begin:end]]
        return made

    def postings(self, ids: Sequence[int]) -> Postings:
        """Return all postings of some terms, by term and field."""
        slices: list[slice] = []
        fields: list[int] = []
        asked: list[int] = []
        for place, term in enumerate(ids):
            for field in range(len(self.fields)):
                begin, end = int(self.starts[field, term]), int(self.starts[field, term + 1])
                if begin < end:
                    slices.append(slice(begin, end))
                    fields.append(field)
                    asked.append(place)
        if not slices:
            return Postings(_NOTHING, _NOTHING, _NOTHING, np.zeros(0, np.float32))
        sizes = [part.stop - part.start for part in slices]
        return Postings(
            documents=np.concatenate([self.documents[part] for part in slices]),
            fields=np.repeat(np.array(fields, np.int32), sizes),
            terms=np.repeat(np.array(asked, np.int32), sizes),
            impacts=np.concatenate([self.impacts[part] for part in slices]),
        )

    def title_of(self, document: int) -> Ints32:
        """Return the terms of a document's first field, in their order."""
        return self.title[self.title_starts[document] : self.title_starts[document + 1]]

    def packed(self) -> bytes:
        """Return the file of it."""
        arrays: dict[str, NDArray[Any]] = {
            "starts": self.starts,
            "documents": self.documents,
            "counts": self.counts,
            "lengths": self.lengths,
            "holding": self.holding,
            "title": self.title,
            "title_starts": self.title_starts,
            "terms": np.frombuffer("\n".join(self.terms).encode(), np.uint8),
        }
        scoring = {"weights": self.scoring.weights, "b": self.scoring.b, "k1": self.scoring.k1}
        return pack(arrays, {"fields": self.fields, "scoring": scoring, "analysis": ANALYSIS})

    @classmethod
    def unpacked(cls, body: bytes) -> LexicalIndex:
        """Return what `packed` wrote; raises IntegrityError, also where it was built by another analysis of texts."""
        fields, scoring = settings_of(body)
        arrays, facts = unpack(body, "the lexical index")
        built_by = facts.get("analysis", 1)
        if built_by != ANALYSIS:
            raise IntegrityError(
                f"the lexical index was built by version {built_by} of the analysis of texts, and this code asks by "
                f"version {ANALYSIS}: words of both need not be the same; build it anew (twinloop refresh search)"
            )
        try:
            text = arrays.pop("terms").tobytes().decode()
            made = cls(fields, scoring, tuple(text.split("\n")) if text else (), **arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise _another_version(error) from error
        made._check()
        return made

    def _check(self) -> None:
        """Raise IntegrityError where the arrays do not fit together: a wrong place would be read as another's."""
        fields, terms, size = len(self.fields), len(self.terms), self.size
        postings = len(self.documents)
        sound = (
            self.starts.shape == (fields, terms + 1)
            and len(self.scoring.weights) == len(self.scoring.b) == fields == len(self.lengths)
            and len(self.counts) == postings
            and len(self.holding) == terms
            and self.title_starts.shape == (size + 1,)
            and (postings == 0 or (int(self.documents.min()) >= 0 and int(self.documents.max()) < size))
            and bool((np.diff(self.starts, axis=1) >= 0).all())
            and int(self.starts.max(initial=0)) == postings
            and int(self.title_starts[-1]) == len(self.title)
        )
        if not sound:
            raise IntegrityError("the arrays of the lexical index do not fit together; build it anew")


def settings_of(body: bytes) -> tuple[tuple[str, ...], Scoring]:
    """Return the fields and settings of a packed index, whichever analysis it was built by; raises IntegrityError."""
    _, facts = unpack(body, "the lexical index")
    try:
        told = facts["scoring"]
        return tuple(facts["fields"]), Scoring(tuple(told["weights"]), tuple(told["b"]), float(told["k1"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _another_version(error) from error


def _another_version(error: Exception) -> IntegrityError:
    return IntegrityError(f"the lexical index is of another version: {error!r}; build it anew")


def build(fields: Sequence[str], documents: Iterable[Sequence[Sequence[str]]], scoring: Scoring) -> LexicalIndex:
    """Return the index of documents, each a list of terms a field; the first field is the title."""
    met: dict[str, int] = {}
    rows: list[list[int]] = [[] for _ in fields]  # of each field: term, document, count, and so on
    lengths: list[list[int]] = [[] for _ in fields]
    title: list[int] = []
    title_starts = [0]
    for number, texts in enumerate(documents):
        for field, terms in enumerate(texts):
            lengths[field].append(min(len(terms), 65_535))
            for term, count in Counter(terms).items():
                rows[field] += (met.setdefault(term, len(met)), number, min(count, _MOST_COUNTED))
        title += [met[term] for term in texts[0]]
        title_starts.append(len(title))
    ordered = sorted(met)
    rank = np.empty(len(met), np.int64)
    rank[[met[term] for term in ordered]] = np.arange(len(met))
    parts: list[NDArray[np.int64]] = []
    starts = np.zeros((len(fields), len(met) + 1), np.int32)
    offset = 0
    for field, flat in enumerate(rows):
        table = np.array(flat, np.int64).reshape(-1, 3)
        table[:, 0] = rank[table[:, 0]]
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        starts[field] = offset + np.searchsorted(table[:, 0], np.arange(len(met) + 1))
        offset += len(table)
        parts.append(table)
    everything = np.concatenate(parts) if parts else np.zeros((0, 3), np.int64)
    pairs = np.unique(everything[:, :2], axis=0)
    return LexicalIndex(
        fields=tuple(fields),
        scoring=scoring,
        terms=tuple(ordered),
        starts=starts,
        documents=everything[:, 1].astype(np.int32),
        counts=everything[:, 2].astype(np.uint8),
        lengths=np.array(lengths, np.uint16).reshape(len(fields), -1),
        holding=np.bincount(pairs[:, 0], minlength=len(met)).astype(np.int32),
        title=rank[title].astype(np.int32) if title else _NOTHING,
        title_starts=np.array(title_starts, np.int32),
    )


def bm25_reference(
    documents: Sequence[Sequence[Sequence[str]]], query: Sequence[tuple[str, float]], scoring: Scoring
) -> Floats32:
    """Return the scores of all documents once more, word by word from the formula: what an index is proven by.

    `query` are terms, each once, with their weights.
    """
    size, scores = len(documents), np.zeros(len(documents))
    means = [sum(len(texts[field]) for texts in documents) / max(size, 1) for field in range(len(scoring.weights))]
    for term, weight in query:
        holding = sum(any(term in terms for terms in texts) for texts in documents)
        if not holding:
            continue
        rarity = math.log1p((size - holding + 0.5) / (holding + 0.5))
        for number, texts in enumerate(documents):
            for field, terms in enumerate(texts):
                if not (count := min(terms.count(term), _MOST_COUNTED)):
                    continue
                norm = 1 - scoring.b[field] + scoring.b[field] * len(terms) / max(means[field], 1e-9)
                part = count * (scoring.k1 + 1) / (count + scoring.k1 * norm)
                scores[number] += weight * rarity * scoring.weights[field] * part
    return scores.astype(np.float32)


def facts_of(index: LexicalIndex) -> dict[str, Any]:
    """Return what a report says of an index."""
    return {"documents": index.size, "terms": len(index.terms), "postings": len(index.documents)}
