"""What clicks say once the places of a list are taken out: the position-based model.

P(click) = P(examined at the place) x P(attracted by the item for the query) (Craswell et al., WSDM 2008; Chuklin,
Markov and de Rijke, Click Models for Web Search, 2015, section 4.2). Examination is told apart from attraction only
where items of one query have been seen at several places; a policy that lets neighbours change places sees to that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_PLACES = 50
_ROUNDS = 2000
_CLOSE = 1e-7
_LEAST = 1e-4
_GREATEST = 10.0
# Prior of attraction: two looks' worth of doubt around the mean.
_DOUBT = 2.0


class Seen(NamedTuple):
    """How often an item of a query was shown at a place, and clicked there; places count from 0."""

    query: str
    item: str
    place: int
    shown: int
    clicked: int


@dataclass(frozen=True)
class Observed:
    """What places do.

    Attributes:
        examined: float64[places], how likely a place is looked at, the first taken for certain.
        mean: The mean attraction.
        rounds: Until neither kind of factor moved.
    """

    examined: NDArray[np.float64]
    mean: float
    rounds: int


def estimate(seen: Sequence[Seen]) -> Observed:
    """Return how likely each place is looked at, from items of one query that were shown at several places.

    Clicks are expected to be shown x examined(place) x attraction(query, item). The two kinds of factors are solved in
    turn for a Poisson likelihood, in which those of the items cancel: what it says of places is consistent however few
    looks each item had (Hausman, Hall & Griliches, Econometrica 1984; it asks only that the mean be right, Wooldridge,
    Journal of Econometrics 1999). EM of the Bernoulli model is not: with few looks an item it lays much of what items
    differ in on the places. Places of which nothing is known are looked at like the last one that is.

    Raises ValueError where nothing was shown.
    """
    table = _Table.of(seen)
    clicks_at = np.bincount(table.place, table.clicked, MOST_PLACES)
    clicks_of = np.bincount(table.pair, table.clicked, table.pairs)
    known = np.bincount(table.place, table.shown, MOST_PLACES) > 0
    examined, rounds, moved = np.ones(MOST_PLACES), 0, 1.0
    while rounds < _ROUNDS and moved >= _CLOSE:
        rounds += 1
        looks = np.bincount(table.pair, table.shown * examined[table.place], table.pairs)
        attractive = clicks_of / np.maximum(looks, 1e-12)
        expected = np.bincount(table.place, table.shown * attractive[table.pair], MOST_PLACES)
        fresh = np.where(expected > 0, clicks_at / np.maximum(expected, 1e-12), examined)
        # A scale that goes from one factor to the other changes no click; the best seen place fixes it.
        first = int(np.argmax(known))
        fresh = np.clip(fresh / max(float(fresh[first]), _LEAST), _LEAST, _GREATEST)
        moved, examined = float(np.abs(fresh - examined).max()), fresh
    examined = np.minimum(examined, 1.0)
    for place in range(1, MOST_PLACES):
        if not known[place]:
            examined[place] = examined[place - 1]
    looked = float((table.shown * examined[table.place]).sum())
    return Observed(examined, min(float(table.clicked.sum()) / max(looked, 1e-9), 1.0), rounds)


def attraction(seen: Sequence[Seen], observed: Observed) -> Mapping[tuple[str, str], float]:
    """Return (query, item) -> how likely somebody who looks clicks it: clicks over expected looks, shrunk to the mean.

    That is the estimate by inverse examination: an item that was only shown far down counts by what was seen of it.
    """
    table = _Table.of(seen)
    looks = table.shown * observed.examined[table.place]
    clicks = np.bincount(table.pair, table.clicked, table.pairs)
    sums = np.bincount(table.pair, looks, table.pairs)
    values = np.clip((clicks + _DOUBT * observed.mean) / (sums + _DOUBT), 0, 1)
    return dict(zip(table.names, values.tolist(), strict=True))


@dataclass(frozen=True)
class _Table:
    names: tuple[tuple[str, str], ...]
    pair: NDArray[np.int64]
    place: NDArray[np.int64]
    shown: NDArray[np.float64]
    clicked: NDArray[np.float64]

    @property
    def pairs(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, seen: Sequence[Seen]) -> _Table:
        kept = [one for one in seen if 0 <= one.place < MOST_PLACES and one.shown > 0]
        if not kept:
            raise ValueError("nothing was shown at a place that is known")
        numbers: dict[tuple[str, str], int] = {}
        pair = [numbers.setdefault((one.query, one.item), len(numbers)) for one in kept]
        return cls(
            tuple(numbers),
            np.array(pair, np.int64),
            np.array([one.place for one in kept], np.int64),
            np.array([one.shown for one in kept], np.float64),
            np.array([min(one.clicked, one.shown) for one in kept], np.float64),
        )
