"""Queries that found nothing, out of the log of answers: what to add to the catalogue, or to teach the index."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_MOST_QUERIES = 100_000  # different ones that are counted; a log of random text must not fill the memory


@dataclass(frozen=True)
class ZeroResults:
    """How often nothing was found.

    Attributes:
        searches: First pages that were asked for.
        zero: Of these, how many found nothing.
        filtered: Of `zero`, how many had filters, which may be why.
        queries: The most frequent queries that found nothing and had no filters, with how often.
        corrected: The most frequent corrections, (word, taken for), with how often.
    """

    searches: int
    zero: int
    filtered: int
    queries: tuple[tuple[str, int], ...]
    corrected: tuple[tuple[tuple[str, str], int], ...]

    @property
    def share(self) -> float:
        """Which share of the searches found nothing."""
        return self.zero / self.searches if self.searches else 0.0


def zero_results(lines: Iterable[bytes | str], *, most: int = 20) -> ZeroResults:
    """Return the report on lines of the log; lines of other systems, and what is no line of a log, are passed over."""
    searches = zero = filtered = 0
    queries: Counter[str] = Counter()
    corrected: Counter[tuple[str, str]] = Counter()
    for line in lines:
        try:
            row = json.loads(line)
            if row["system"] != "search" or row["offset"]:
                continue
            query, nothing, filters = " ".join(str(row["query"]).lower().split()), bool(row["zero"]), row["filtered"]
            pairs = [(str(word), str(term)) for word, term in row["corrections"]]
        except (ValueError, KeyError, TypeError):
            continue
        searches += 1
        for pair in pairs:
            if pair in corrected or len(corrected) < _MOST_QUERIES:
                corrected[pair] += 1
        if nothing:
            zero += 1
            filtered += bool(filters)
            if not filters and (query in queries or len(queries) < _MOST_QUERIES):
                queries[query] += 1
    return ZeroResults(searches, zero, filtered, tuple(queries.most_common(most)), tuple(corrected.most_common(most)))
