"""What is done with a ranking before it is told: places changed to learn of them, and facets counted."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_COVERAGE = 0.5
"""Which share of a query's weight a document must hold to be counted as a match, in totals and facets."""


class Order(NamedTuple):
    """An order of places, and with which probability each item is at its place; None where nothing was drawn."""

    places: NDArray[np.int64]
    propensities: tuple[float, ...] | None


def swapped(count: int, share: float, seed: str) -> Order:
    """Return an order in which neighbours have changed places with a probability each.

    Pairs begin at the first or at the second place, which is drawn, too, so that every item is seen at its own place
    and at the one beside it (FairPairs; Radlinski & Joachims, AAAI 2006). Without a seed nothing is drawn.
    """
    places = np.arange(count)
    if not seed or share <= 0 or count < 2:
        return Order(places, None)
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}\0swap".encode()).digest()[:16]))
    begin = int(random.integers(2))
    for first in range(begin, count - 1, 2):
        if random.random() < share:
            places[[first, first + 1]] = places[[first + 1, first]]
    propensities = []
    for place, item in enumerate(places.tolist()):
        if place == item:  # it was in no pair, as the first and the last are half of the time, or its pair stayed
            alone = 0.5 if place in (0, count - 1) else 0.0
            propensities.append(alone + (1 - alone) * (1 - share))
        else:
            propensities.append(0.5 * share)
    return Order(places, tuple(propensities))


def matches(coverage: NDArray[np.float32], found: NDArray[np.bool_], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which documents count as matches: those that hold enough of the query, or, if none does, all found."""
    holding = allowed & (coverage >= LEAST_COVERAGE)
    return holding if holding.any() else allowed & found
