"""Which topics go together: how much more often somebody who likes one says yes to events about another.

Topics are words, and people who like hiking may go to events about birds. For each pair of a topic that is liked and
one of an event, the lift is the mean of (yes - share of yeses in the list), shrunk towards 0 as if `prior` more
rows had shown nothing.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import IntegrityError

FILE = "tastes.json.gz"
MOST_TOPICS = 300
_DIGITS = 6
_MOST_BYTES = 20_000_000
_BLOCKS = 5

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Topics = Sequence[Collection[str]]


@dataclass(frozen=True)
class Tastes:
    """Lifts of pairs of topics.

    Attributes:
        names: The topics that are known.
        lifts: float64[liked, of the event], in the order of the names.
    """

    names: tuple[str, ...]
    lifts: Floats

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def of(self, liked: Collection[str], topics: Topics) -> Floats:
        """Return how much events suit somebody, float64[events]: the mean over pairs; 0 where no pair is known."""
        mine = [self._place[name] for name in liked if name in self._place]
        if not mine:
            return np.zeros(len(topics))
        by_topic = self.lifts[mine].mean(axis=0)
        found = ([self._place[name] for name in of if name in self._place] for of in topics)
        return np.array([by_topic[places].mean() if places else 0.0 for places in found], np.float64)

    def pack(self) -> bytes:
        """Return the bytes of FILE; the same lifts give the same ones."""
        body = {"names": self.names, "lifts": np.round(self.lifts, _DIGITS).tolist()}
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return gzip.compress(text.encode("utf-8", errors="surrogatepass"), mtime=0)


def unpack(data: bytes) -> Tastes:
    """Return what `Tastes.pack` wrote; raises IntegrityError where it is something else."""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        body = json.loads(unpacker.decompress(data, _MOST_BYTES).decode("utf-8", errors="surrogatepass"))
        names = tuple(map(str, body["names"]))
        lifts = np.array(body["lifts"], np.float64).reshape(len(names), len(names))
        if not np.isfinite(lifts).all():
            raise ValueError("a lift that is no number")
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{FILE} of the release cannot be read ({error!r}); learn anew") from error
    return Tastes(names, lifts)


@dataclass(frozen=True)
class Answers:
    """Rows of lists to learn tastes from.

    Attributes:
        liked: Of each row, what the user likes. topics: What the event is about.
        centred: float64[N], yes (1 or 0) less the share of yeses in the list.
        lists: int64[N], the number of the list of each row.
    """

    liked: Topics
    topics: Topics
    centred: Floats
    lists: Ints


def fit(answers: Answers, *, prior: float = 50.0) -> tuple[Tastes, Floats]:
    """Return tastes, and of each row what the others say of it, float64[N], which is what models learn from.

    A row must not find its own answer in its column: it is told what the other fifths of the lists say.

    Args:
        answers: What was said.
        prior: How many rows that show nothing a pair is shrunk by.
    """
    counts = Counter(topic for of in (*answers.topics, *answers.liked) for topic in of)
    names = tuple(sorted(name for name, _ in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:MOST_TOPICS]))
    blank = Tastes(names, np.zeros((len(names), len(names))))
    liked, about = _shares(blank, answers.liked), _shares(blank, answers.topics)
    block = answers.lists % _BLOCKS
    sums = [_sums(liked, about, answers.centred, block == number) for number in range(_BLOCKS)]
    above, below = (sum((pair[part] for pair in sums), start=np.zeros_like(blank.lifts)) for part in (0, 1))
    told = np.zeros(len(answers.centred))
    for number, (mine, weight) in enumerate(sums):
        rows, lifts = block == number, (above - mine) / (below - weight + prior)
        told[rows] = np.einsum("nt,nt->n", liked[rows] @ lifts, about[rows])
    return Tastes(names, np.round(above / (below + prior), _DIGITS)), told


def _shares(tastes: Tastes, topics: Topics) -> Floats:
    """Return the known topics of rows as shares that add up to 1, float64[N, topics]; nothing where none is known."""
    place = {name: column for column, name in enumerate(tastes.names)}
    found = np.zeros((len(topics), len(tastes.names)))
    for row, of in enumerate(topics):
        columns = [place[name] for name in of if name in place]
        if columns:
            found[row, columns] = 1 / len(columns)
    return found


def _sums(liked: Floats, about: Floats, centred: Floats, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    mine, theirs = liked[rows], about[rows]
    return mine.T @ (theirs * centred[rows, None]), mine.T @ theirs
