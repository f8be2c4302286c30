"""From a query to candidates and to what is known of each: the same code for a ranker's training and for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.text.analysis import terms
from twinloop.text.documents import Documents
from twinloop.text.lexical import LexicalIndex, Postings
from twinloop.text.spelling import Spelling

MOST_WORDS = 32
_JOINED = 0.5  # what each of two words counts where the document writes them as one
_MISTYPED = (1.0, 0.8, 0.6)  # by how many edits
_NEVER_MET = 1.0  # how useful a word is that no query of the training had
_LONGEST_PHRASE = 16
_YEARS = (1000, 2999)

Floats32 = NDArray[np.float32]
Ints32 = NDArray[np.int32]
Score = Callable[[NDArray[np.int64], Floats32], Floats32]


@dataclass(frozen=True)
class Asked:
    """A word of a query: what was written, and the terms that answer it.

    Attributes:
        written: The word as it is looked up.
        ids: Terms of the index.
        shares: What each counts, 1 for the word itself.
        corrected: It was not known, and these are what was meant.
        weight: How rare it is, times how much it told in the queries of the training.
        rarity: How rare it is alone.
    """

    written: str
    ids: tuple[int, ...]
    shares: tuple[float, ...]
    corrected: bool
    weight: float
    rarity: float


@dataclass(frozen=True)
class Query:
    """A query as it was understood."""

    text: str
    words: tuple[str, ...]
    asked: tuple[Asked, ...]

    @property
    def corrected(self) -> bool:
        """Whether any word was not known, and taken for another."""
        return any(word.corrected for word in self.asked)


class Matched(NamedTuple):
    """Documents that hold something of the query.

    Attributes:
        postings: Of all its words; `terms` are places in `Query.asked`, and `impacts` the whole score.
        scores: float32[N], BM25.
        coverage: float32[N], which share of the query's weight a document holds, 0 to 1.
    """

    postings: Postings
    scores: Floats32
    coverage: Floats32


@dataclass(frozen=True)
class Matcher:
    """Asks an index.

    Attributes:
        index: Documents by term.
        documents: What else is known of them.
        spelling: What is meant by words that are not known; None corrects nothing.
        score: (documents int64[P], impacts float32[P]) -> float32[N], the sum by document: the index's model.
        useful: Term -> what it counts in a query against its rarity; see `training/query_words.py`.
    """

    index: LexicalIndex
    documents: Documents
    spelling: Spelling | None
    score: Score
    useful: Mapping[str, float] = field(default_factory=dict)

    def understand(self, text: str) -> Query:
        """Return a query's words and the terms that answer them; of a long one the first words."""
        written = terms(text, most=MOST_WORDS)
        unique = list(dict.fromkeys(written))
        joined = self._joined(written)
        asked: list[Asked] = []
        for word in unique:
            known = self.index.ids.get(word)
            if known is not None or word in joined:
                own = () if known is None else (known,)
                others = tuple(term for term in joined.get(word, ()) if term != known)
                asked.append(self._asked(word, own + others, (1.0,) * len(own) + (_JOINED,) * len(others), word))
                continue
            meant = None if self.spelling is None else self.spelling.meant(word)
            if meant is None:
                asked.append(self._asked(word, (), (), word))
                continue
            for ids in [(term,) for term in meant.terms] if meant.together else [meant.terms]:
                shares = (_MISTYPED[meant.distance],) * len(ids)
                asked.append(self._asked(word, ids, shares, self.index.terms[ids[0]], corrected=True))
        return Query(text, tuple(written), tuple(asked))

    def match(self, query: Query) -> Matched:
        """Return what the documents hold of a query."""
        index, pairs = self.index, [(place, term, share) for place, term, share in _pairs(query)]
        found = index.postings([term for _, term, _ in pairs])
        of_asked = np.array([place for place, _, _ in pairs], np.int32)
        factors = np.array([share * query.asked[place].weight for place, _, share in pairs], np.float32)
        # A term that is joined of two words, or meant by one, is as rare as itself.
        own = np.array([index.rarity[term] for _, term, _ in pairs], np.float32)
        rarity = np.array([query.asked[place].rarity for place, _, _ in pairs], np.float32)
        factors = factors * np.where(rarity > 0, own / np.maximum(rarity, 1e-9), 0)
        postings = Postings(
            found.documents,
            found.fields,
            of_asked[found.terms] if pairs else found.terms,
            found.impacts * factors[found.terms] if pairs else found.impacts,
        )
        scores = self.score(postings.documents.astype(np.int64), postings.impacts.astype(np.float32))
        held = np.zeros((len(query.asked), index.size), np.bool_)
        held[postings.terms, postings.documents] = True
        weights = np.array([word.weight for word in query.asked], np.float32)
        coverage = weights @ held / max(float(weights.sum()), 1e-9) if len(weights) else np.zeros(index.size)
        return Matched(postings, scores, coverage.astype(np.float32))

    def features(
        self, query: Query, matched: Matched, chosen: NDArray[np.int64], similarity: Floats32 | None
    ) -> Floats32:
        """Return what a ranker is asked with of the chosen documents, float32[K, names]; see `feature_names`.

        `similarity` is float32[K] of the chosen, None where there are no vectors: then it is NaN.
        """
        index, count, fields = self.index, len(chosen), len(self.index.fields)
        place = np.full(index.size, -1, np.int32)
        place[chosen] = np.arange(count)
        of = place[matched.postings.documents]
        here = of >= 0
        of, postings = of[here], matched.postings
        terms_of, fields_of, impacts = postings.terms[here], postings.fields[here], postings.impacts[here]
        by_field = np.zeros((fields, count), np.float32)
        np.add.at(by_field, (fields_of, of), impacts)
        held = np.zeros((len(query.asked), fields, count), np.bool_)
        held[terms_of, fields_of, of] = True
        rarity = np.array([word.rarity for word in query.asked], np.float32)
        weights = np.array([word.weight for word in query.asked], np.float32)
        anywhere: NDArray[np.bool_] = np.any(held, axis=1)
        title, elsewhere = held[:, 0], np.any(held[:, 1:], axis=1)
        lexical = matched.scores[chosen]
        alike = np.full(count, np.nan, np.float32) if similarity is None else similarity
        columns = [
            lexical,
            lexical / max(float(lexical.max(initial=0)), 1e-9),
            np.full(count, len(query.asked)),
            anywhere.sum(axis=0),
            _share(rarity, anywhere),
            _share(weights, anywhere),
            _share(weights, title),
            _share(weights, np.asarray(elsewhere)),
            alike,
            alike - (alike.max(initial=-1) if count else 0),
            *by_field,
            *(_share(weights, held[:, number]) for number in range(fields)),
            *self._of_titles(query, chosen),
            index.lengths[0, chosen],
            self._named_numbers(query, chosen),
            *(values[chosen] for values in self.documents.numbers.values()),
        ]
        return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)

    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the columns of `features`, in order."""
        fields = self.index.fields
        return (
            *("lexical", "lexical_of_best", "words", "words_held", "held_rarity", "held_weight", "held_title"),
            *("held_elsewhere", "similarity", "similarity_to_best"),
            *(f"score_{name}" for name in fields),
            *(f"held_{name}_weight" for name in fields),
            *("title_equal", "title_in_query", "query_in_title", "title_share", "title_run", "title_number_missing"),
            *("title_words", "number_named"),
            *(f"number_{name}" for name in self.documents.numbers),
        )

    def _of_titles(self, query: Query, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """How titles and the query share their words in order, float32[6, K]; see `feature_names`."""
        asked = [self._meant(query, word) for word in query.words[:_LONGEST_PHRASE]]
        made = np.zeros((6, len(chosen)), np.float32)
        if not asked:
            return made
        held, terms_of = set(asked), self.index.terms
        for number, document in enumerate(chosen.tolist()):
            title: list[int] = self.index.title_of(document)[:_LONGEST_PHRASE].tolist()
            if not title or held.isdisjoint(title):
                continue
            run = _longest_run(title, asked)
            missing = sum(term not in held and terms_of[term].isdigit() for term in set(title))
            made[:, number] = (
                title == asked,
                run == len(title),
                run == len(asked),
                sum(term in held for term in title) / len(title),
                run / len(title),
                missing,
            )
        return made

    def _meant(self, query: Query, word: str) -> int:
        """Return the term that a written word stands for; -1 where there is none."""
        known = self.index.ids.get(word)
        if known is not None:
            return known
        return next((asked.ids[0] for asked in query.asked if asked.written == word and asked.ids), -1)

    def _named_numbers(self, query: Query, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return whether one of a document's numbers is the year that the query names; NaN where it names none."""
        years = [int(word) for word in query.words if word.isdigit() and len(word) == 4]
        years = [year for year in years if _YEARS[0] <= year <= _YEARS[1]]
        if not years:
            return np.full(len(chosen), np.nan, np.float32)
        found = np.zeros(len(chosen), np.bool_)
        for values in self.documents.numbers.values():
            found |= np.isin(values[chosen], np.array(years, np.float32))
        return found.astype(np.float32)

    def _joined(self, written: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return word -> terms that are it and the word before or after it written as one."""
        found: dict[str, tuple[int, ...]] = {}
        for one, other in pairwise(written):
            term = self.index.ids.get(one + other)
            if term is not None and not (one + other).isdigit():
                found[one] = (*found.get(one, ()), term)
                found[other] = (*found.get(other, ()), term)
        return found

    def _asked(
        self, written: str, ids: tuple[int, ...], shares: tuple[float, ...], means: str, *, corrected: bool = False
    ) -> Asked:
        size = self.index.size
        rarity = float(self.index.rarity[ids[0]]) if ids else float(np.log1p((size + 0.5) / 0.5))
        return Asked(written, ids, shares, corrected, rarity * self.useful.get(means, _NEVER_MET), rarity)


def best(scores: Floats32, allowed: NDArray[np.bool_] | None, most: int, *, above: float) -> NDArray[np.int64]:
    """Return at most so many documents with the highest scores above a limit, best first; of equals the first."""
    kept = scores > above
    if allowed is not None:
        kept &= allowed
    places = np.flatnonzero(kept)
    if len(places) > most:
        # Equal scores at the border: whichever partition leaves is chance, so all of them are ordered.
        least = np.partition(scores[places], len(places) - most)[len(places) - most]
        places = places[scores[places] >= least]
    return places[np.argsort(-scores[places], kind="stable")][:most]


def _pairs(query: Query) -> list[tuple[int, int, float]]:
    return [
        (place, term, share)
        for place, word in enumerate(query.asked)
        for term, share in zip(word.ids, word.shares, strict=True)
    ]


def _share(weights: Floats32, held: NDArray[np.bool_]) -> Floats32:
    """Return which share of the weights each document holds, float32[K]."""
    made: Floats32 = (weights @ held / max(float(weights.sum()), 1e-9)).astype(np.float32)
    return made


def _longest_run(title: Sequence[int], asked: Sequence[int]) -> int:
    """Return the length of the longest run of words that both have."""
    most = 0
    last = [0] * (len(asked) + 1)
    for term in title:
        row = [0] * (len(asked) + 1)
        for place, word in enumerate(asked, 1):
            if term == word:
                row[place] = last[place - 1] + 1
                most = max(most, row[place])
        last = row
    return most
