"""A simulated search: made-up documents, queries with a true answer, and people who look at places and click.

P(click) = P(the place is looked at) x P(the item attracts for the query), both known. Lists are made by a ranking that
knows a part of the truth and varies from search to search, as rankings do that are worked on; so an item is seen at
several places, and good ones more often at the top.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import BadInputError

_SYLLABLES = tuple(a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u"))
_TOPIC_WORDS, _COMMON_WORDS = 60, 400
_NOISE = ("best", "full", "online", "new", "review")
_GOOD = 0.3  # an item that attracts at least so much answers the query, in the eyes of who judges


@dataclass(frozen=True)
class SearchSettings:
    """How large it is, and how people look.

    Attributes:
        documents, topics, queries, searches: How many; of the queries some are asked often and most seldom.
        judged: Share of the queries that people judged.
        slots: Length of a list.
        position_bias: Place k, from 0, is looked at with probability (1 + k) ** -position_bias.
        noise: How much lists vary, against what attracts.
        mistyped: Share of the queries with a letter too few.
        seed: The same settings and seed write the same bytes.
        start: The first day.
    """

    documents: int = 2000
    topics: int = 20
    queries: int = 800
    searches: int = 30_000
    judged: float = 0.6
    slots: int = 10
    position_bias: float = 0.8
    noise: float = 0.25
    mistyped: float = 0.05
    seed: int = 0
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        """Raises BadInputError for what cannot be simulated."""
        if not (50 <= self.documents <= 1_000_000 and 2 <= self.topics <= self.documents // 10):
            raise BadInputError("documents: 50 to a million; topics: from 2, with ten documents each at least")
        if not (10 <= self.queries <= 100_000 and 0 <= self.searches <= 10_000_000 and 1 <= self.slots <= 50):
            raise BadInputError("queries: 10 to 100,000; searches: up to ten million; slots: 1 to 50")
        if not (0 <= self.judged <= 1 and 0 <= self.mistyped <= 1 and 0 <= self.position_bias <= 5):
            raise BadInputError("judged and mistyped are shares; position_bias is 0 to 5")


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
        self.topic = rng.integers(settings.topics, size=settings.documents)
        self.quality = rng.beta(2, 3, settings.documents)
        self.titles = [self._draw(rng, topic, int(rng.integers(2, 5)), 0.9) for topic in self.topic.tolist()]
        self.texts = [self._draw(rng, topic, int(rng.integers(30, 61)), 0.4) for topic in self.topic.tolist()]
        self.wanted = rng.integers(settings.documents, size=settings.queries)
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


def simulate_searches(folder: Path, settings: SearchSettings | None = None) -> dict[str, int]:
    """Write `raw/{items,events,judgments}` and the truth beside them; returns rows by table.

    `truth.json.gz` has the true attraction of every item that was shown, and how places are looked at. No model may
    learn from it. Raises BadInputError where the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInputError(f"{folder} is not an empty folder; simulated data does not mix with other data")
    settings = settings or SearchSettings()
    world = SearchWorld(settings)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    attractions = {number: world.attraction(number) for number in range(settings.queries)}
    truth: dict[str, dict[str, float]] = {}
    rows = {
        "items": _write(raw / "items.jsonl.gz", _items(world)),
        "judgments": _write(raw / "judgments.jsonl.gz", _judgments(world, attractions)),
        "events": _write(raw / "events.jsonl.gz", _events(world, attractions, truth)),
    }
    told = {"examined": world.examined.tolist(), "attraction": truth, "simulated": True}
    (folder / "truth.json.gz").write_bytes(gzip.compress(json.dumps(told, sort_keys=True).encode(), mtime=0))
    settled = {name: str(value) for name, value in asdict(settings).items()}
    (folder / "simulation.json").write_text(json.dumps({"system": "search", "settings": settled}, indent=1))
    return rows


def _items(world: SearchWorld) -> Iterator[dict[str, Any]]:
    for number, title in enumerate(world.titles):
        topic = int(world.topic[number])
        yield {
            "item_id": f"d{number}",
            "title": title.title(),
            "text": world.texts[number],
            "tags": [f"topic {topic}"],
            "attributes": {"rating": round(float(world.quality[number]) * 10, 2), "kind": ("book", "film")[number % 2]},
            "simulated": True,
        }


def _judgments(world: SearchWorld, attractions: Mapping[int, NDArray[np.float64]]) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng([world.settings.seed, 2])
    for number, (_, query) in enumerate(world.queries):
        if rng.random() >= world.settings.judged:
            continue
        best = np.argsort(-attractions[number], kind="stable")[:20]
        for document in best.tolist():
            grade = int(attractions[number][document] >= _GOOD)
            yield {"query": query, "item_id": f"d{document}", "grade": grade, "simulated": True}


def _events(
    world: SearchWorld, attractions: Mapping[int, NDArray[np.float64]], truth: dict[str, dict[str, float]]
) -> Iterator[dict[str, Any]]:
    """Yield searches and their clicks; fills the truth of what was shown."""
    settings = world.settings
    rng = np.random.default_rng([settings.seed, 3])
    step = timedelta(days=14) / max(settings.searches, 1)
    pools = {query: np.argsort(-found, kind="stable")[: 3 * settings.slots] for query, found in attractions.items()}
    for number, query in enumerate(rng.choice(settings.queries, settings.searches, p=world.shares).tolist()):
        pool, attraction = pools[query], attractions[query]
        shown = pool[np.argsort(-(attraction[pool] + rng.normal(0, settings.noise, len(pool))))][: settings.slots]
        looks = rng.random(len(shown)) < world.examined[: len(shown)]
        clicks = looks & (rng.random(len(shown)) < attraction[shown])
        text, moment = world.queries[query][1], settings.start + number * step
        told = {"user_id": f"u{int(rng.integers(2000))}", "query": text, "request_id": f"s{number}"}
        context = {"context": {"simulated": True}}
        ids = [f"d{document}" for document in shown.tolist()]
        truth.setdefault(text, {}).update(zip(ids, attraction[shown].tolist(), strict=True))
        yield {"event_id": f"s{number}", "type": "query", "time": _iso(moment), **told, "shown": ids, **context}
        for place in np.flatnonzero(clicks).tolist():
            later = moment + timedelta(seconds=2 + 3 * place)
            made = {"event_id": f"s{number}-{place}", "type": "click", "time": _iso(later), **told}
            yield {**made, "item_id": ids[place], "position": place, **context}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as lines:
        for row in rows:
            lines.write(json.dumps(row, separators=(",", ":"), sort_keys=True).encode() + b"\n")
            count += 1
    return count
