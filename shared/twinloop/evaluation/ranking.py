"""Metrics of ranked lists with binary relevance. Higher is better; all lie in [0, 1].

`ranked` is a list of distinct ids, best first; `relevant` the set of ids that turned out to be right, not empty.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence

from twinloop.errors import BadInputError


def ndcg_at_k(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Discounted gain of the first k, over that of the best possible order.

    DCG = sum over hits of 1 / log2(place + 1), places from 1 (Järvelin and Kekäläinen, TOIS 2002, binary gains); the
    ideal list has min(k, number of relevant) hits.
    """
    wanted = _checked(ranked, relevant, k)
    gained = sum(1 / math.log2(place + 1) for place, item in enumerate(ranked[:k], 1) if item in wanted)
    return gained / sum(1 / math.log2(place + 1) for place in range(1, min(k, len(wanted)) + 1))


def recall_at_k(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Hits among the first k, over min(k, number of relevant), so that a perfect list always scores 1."""
    wanted = _checked(ranked, relevant, k)
    return sum(item in wanted for item in ranked[:k]) / min(k, len(wanted))


def hit_rate_at_k(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """1 where any of the first k is relevant, otherwise 0."""
    wanted = _checked(ranked, relevant, k)
    return float(any(item in wanted for item in ranked[:k]))


def mrr(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int | None = None) -> float:
    """1 / place of the first relevant item among the first k (None: all), 0 where there is none (Voorhees, 1999)."""
    wanted = _checked(ranked, relevant, k if k is not None else 1)
    for place, item in enumerate(ranked[:k], 1):
        if item in wanted:
            return 1 / place
    return 0.0


def coverage(lists: Iterable[Sequence[Hashable]], catalogue: int) -> float:
    """Share of the catalogue's `catalogue` items that appear in any of the lists (Ge et al., RecSys 2010)."""
    if catalogue < 1:
        raise BadInputError("a catalogue has at least one item")
    return len({item for ranked in lists for item in ranked}) / catalogue


def _checked(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> frozenset[Hashable]:
    wanted = frozenset(relevant)
    if k < 1:
        raise BadInputError(f"k is at least 1, not {k}")
    if not wanted:
        raise BadInputError("a case without relevant items cannot be scored; leave it out")
    if len(set(ranked)) != len(ranked):
        raise BadInputError("a ranked list names an item twice; its score would count it twice")
    return wanted
