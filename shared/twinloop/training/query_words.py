"""What a word tells in a query: `movie` and `netflix` are rare in documents, and say little of which is wanted.

For every word of the training's queries: in which share of them does a document that answers hold it, against the mean
of all words. Beta-smoothed towards that mean, so that a word met once is nearly like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twinloop.text.analysis import terms
from twinloop.text.matching import MOST_WORDS, Matcher
from twinloop.training.judged_queries import Labelled

_PRIOR = 3.0
_LEAST, _MOST = 0.05, 1.5


@dataclass(frozen=True)
class Useful:
    """Counts by word: in how many queries it was, and in how many an answer held it.

    Attributes:
        asked, held: By word.
        mean: Share of all of them.
        own: Of each query, word -> whether its answers hold it.
    """

    asked: Mapping[str, float]
    held: Mapping[str, float]
    mean: float
    own: tuple[Mapping[str, float], ...]

    def weights(self) -> dict[str, float]:
        """Return what each word counts, 1 for one like all."""
        return {word: self._weight(self.held[word], self.asked[word]) for word in sorted(self.asked)}

    def without(self, query: int) -> dict[str, float]:
        """Return the same of a query's own words as if it had not been met: what a new query would be asked with."""
        own = self.own[query]
        return {word: self._weight(self.held[word] - held, self.asked[word] - 1) for word, held in own.items()}

    def _weight(self, held: float, asked: float) -> float:
        share = (held + _PRIOR * self.mean) / (asked + _PRIOR)
        return round(min(max(share / max(self.mean, 1e-9), _LEAST), _MOST), 6)


def learn_terms(matcher: Matcher, queries: Sequence[Labelled]) -> Useful:
    """Return the counts of queries with known answers."""
    index, places = matcher.index, matcher.documents.places
    asked: defaultdict[str, float] = defaultdict(float)
    held: defaultdict[str, float] = defaultdict(float)
    own: list[dict[str, float]] = []
    for query in queries:
        right = {places[item]: grade for item, grade in query.grades.items() if item in places}
        told: dict[str, float] = {}
        for word in dict.fromkeys(terms(query.text, most=MOST_WORDS)):
            known = index.ids.get(word)
            if not right or known is None:
                continue
            having = set(index.postings([known]).documents.tolist()).intersection(right)
            told[word] = sum(right[document] for document in having) / sum(right.values())
            asked[word] += 1
            held[word] += told[word]
        own.append(told)
    shares = np.array(list(held.values())).sum() / max(sum(asked.values()), 1e-9) if asked else 1.0
    return Useful(dict(asked), dict(held), float(shares), tuple(own))
