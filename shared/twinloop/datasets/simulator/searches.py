"""A simulated search: made-up documents, queries with a true answer, and people who look at places and click.

P(click) = P(the place is looked at) x P(the item attracts for the query), both known. Lists are made by a ranking that
knows a part of the truth and varies from search to search, as rankings do that are worked on; so an item is seen at
several places, and good ones more often at the top.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.datasets.simulator.settings import SearchSettings

_SYLLABLES = tuple(a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u"))
_TOPIC_WORDS, _COMMON_WORDS = 60, 400
_NOISE = ("best", "full", "online", "new", "review")
_DEPTH = 3  # lists are filled from so many times their length of what attracts most
_DAY_MS, _FIRST_CLICK_MS, _NEXT_CLICK_MS = 86_400_000, 2000, 3000

GOOD = 0.3
"""An item that attracts at least so much answers the query, in the eyes of who judges."""
JUDGED = 20
"""Documents a query that are judged: those that attract most."""


class Searches(NamedTuple):
    """Some lists that were shown, one after the other: S of them.

    Attributes:
        number: Which search of the simulation it is, int64[S].
        query: Number of the query, int64[S].
        user: int64[S].
        time_ms: int64[S].
        shown: Documents, best first, int64[S, slots].
        attraction: How likely each is clicked by who looks, float64[S, slots].
        clicked: bool[S, slots].
    """

    number: NDArray[np.int64]
    query: NDArray[np.int64]
    user: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    shown: NDArray[np.int64]
    attraction: NDArray[np.float64]
    clicked: NDArray[np.bool_]

    def click_ms(self, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how long after the list was shown a place is clicked: people read downwards."""
        return _FIRST_CLICK_MS + _NEXT_CLICK_MS * place


class SearchWorld:
    """Documents and queries with what is true of them."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        rng = np.random.default_rng([settings.seed, 1])
        made = dict.fromkeys(self._word(rng) for _ in range(4 * (settings.topics * _TOPIC_WORDS + _COMMON_WORDS)))
        words = list(made)
        cut = settings.topics * _TOPIC_WORDS
        self._common = words[cut : cut + _COMMON_WORDS]
        self.words = [words[start : start + _TOPIC_WORDS] for start in range(0, cut, _TOPIC_WORDS)]
        self.topic = rng.integers(settings.topics, size=settings.items)
        self.quality = rng.beta(2, 3, settings.items)
        self.titles = [self._draw(rng, topic, int(rng.integers(2, 5)), 0.9) for topic in self.topic.tolist()]
        self.texts = [self._draw(rng, topic, int(rng.integers(30, 61)), 0.4) for topic in self.topic.tolist()]
        self.wanted = rng.integers(settings.items, size=settings.queries)
        self.queries = [self._query(rng, int(document)) for document in self.wanted]
        shares = 1 / np.arange(1, settings.queries + 1) ** 0.8
        self.shares = shares / shares.sum()

    @cached_property
    def examined(self) -> NDArray[np.float64]:
        """How likely each place is looked at, float64[slots]."""
        return np.asarray((1.0 + np.arange(self.settings.slots)) ** -self.settings.position_bias)

    def attraction(self, query: int) -> NDArray[np.float64]:
        """Return how likely somebody who looks clicks each document, float64[documents].

        The wanted one attracts most; of the others those do whose titles hold words of the query, more of the same
        topic, and better ones more.
        """
        asked = set(self._plain[query].split())
        shared = np.array([len(asked.intersection(title)) for title in self._title_words], np.float64)
        same = self.topic == self.topic[self.wanted[query]]
        alike = np.clip(shared / max(len(asked), 1), 0, 1) * (0.2 + 0.8 * same)
        found: NDArray[np.float64] = 0.02 + 0.4 * alike * self.quality
        found[self.wanted[query]] = 0.7
        return found

    @cached_property
    def pools(self) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The documents that attract most for each query, best first, with how much."""
        most = max(_DEPTH * self.settings.slots, JUDGED)
        found = []
        for query in range(self.settings.queries):
            attraction = self.attraction(query)
            best = np.argsort(-attraction, kind="stable")[:most]
            found.append((best, attraction[best]))
        return found

    def judgments(self) -> Iterator[tuple[int, int, int]]:
        """Yield query, document and grade: 1 for what answers the query, 0 for what does not."""
        rng = np.random.default_rng([self.settings.seed, 2])
        for query, (documents, attraction) in enumerate(self.pools):
            if rng.random() < self.settings.judged:
                grades = (attraction >= GOOD).astype(int).tolist()
                yield from ((query, *told) for told in zip(documents[:JUDGED].tolist(), grades[:JUDGED], strict=True))

    def searches(self, piece: int = 20_000) -> Iterator[Searches]:
        """Yield what was searched, shown and clicked, in the order of time, some at a time."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, 3])
        start_ms, step_ms = settings.start.timestamp() * 1000, settings.days * _DAY_MS / max(settings.searches, 1)
        asked = rng.choice(settings.queries, settings.searches, p=self.shares)
        for begin in range(0, settings.searches, piece):
            rows = [self._search(rng, query) for query in asked[begin : begin + piece].tolist()]
            user, shown, attraction, clicked = zip(*rows, strict=True)
            number = np.arange(begin, begin + len(rows))
            yield Searches(
                number=number,
                query=asked[begin : begin + piece],
                user=np.array(user, np.int64),
                time_ms=(start_ms + number * step_ms).astype(np.int64),
                shown=np.stack(shown),
                attraction=np.stack(attraction),
                clicked=np.stack(clicked),
            )

    def _search(
        self, rng: np.random.Generator, query: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return who searches, what is shown, how much each attracts, and which are clicked."""
        slots = self.settings.slots
        whole, attracting = self.pools[query]
        documents, attraction = whole[: _DEPTH * slots], attracting[: _DEPTH * slots]
        order = np.argsort(-(attraction + rng.normal(0, self.settings.noise, len(documents))))[:slots]
        looks = rng.random(slots) < self.examined
        clicked = looks & (rng.random(slots) < attraction[order])
        return int(rng.integers(self.settings.users)), documents[order], attraction[order], clicked

    @cached_property
    def _title_words(self) -> list[set[str]]:
        return [set(title.split()) for title in self.titles]

    @cached_property
    def _plain(self) -> list[str]:
        return [" ".join(word for word in plain.split() if word not in _NOISE) for plain, _ in self.queries]

    def _query(self, rng: np.random.Generator, document: int) -> tuple[str, str]:
        """Return a query for a document, as it should be written and as it is."""
        title = self.titles[document].split()
        words = [word for word in title if rng.random() < 0.8] or title[:1]
        if rng.random() < 0.3:
            words.append(str(rng.choice(self.words[int(self.topic[document])])))
        if rng.random() < 0.3:
            words.append(str(rng.choice(_NOISE)))
        plain = " ".join(words)
        if rng.random() < self.settings.mistyped and len(words[0]) > 5:
            place = int(rng.integers(1, len(words[0]) - 1))
            words[0] = words[0][:place] + words[0][place + 1 :]
        return plain, " ".join(words)

    def _draw(self, rng: np.random.Generator, topic: int, count: int, of_topic: float) -> str:
        own = rng.random(count) < of_topic
        return " ".join(
            str(rng.choice(self.words[topic])) if mine else self._common[int(rng.integers(len(self._common)))]
            for mine in own.tolist()
        )

    @staticmethod
    def _word(rng: np.random.Generator) -> str:
        return "".join(_SYLLABLES[place] for place in rng.integers(len(_SYLLABLES), size=int(rng.integers(2, 5))))
