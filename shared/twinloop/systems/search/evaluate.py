"""Labelled judgments as requests with their truth, and the deployed API in a predictor's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import History
from twinloop.systems.search.features import labelled_case


def cases(rows: Iterable[Mapping[str, Any]], histories: Callable[[Sequence[str]], Iterable[History]]) -> Iterator[Case]:
    """Yield a case for each query of which a judged document is an answer, by query.

    Args:
        rows: Judgments as the lake has them.
        histories: Not asked: what is found depends on nobody's history.
    """
    del histories
    grades: dict[str, dict[str, float]] = {}
    written: dict[str, str] = {}
    for row in rows:
        query = " ".join(row["query"].lower().split())
        written.setdefault(query, row["query"])
        of = grades.setdefault(query, {})
        of[row["item_id"]] = max(float(row["grade"]), of.get(row["item_id"], 0.0))
    for query in sorted(grades):
        right = {item: grade for item, grade in grades[query].items() if grade > 0}
        if right:
            yield labelled_case(query, written[query], right)


class Remote:
    """The deployed API as `judge` asks it."""

    def __init__(self, ask: Callable[[Mapping[str, Any]], Mapping[str, Any]], case: Case) -> None:
        self._ask = ask
        del case

    def rank(self, text: str, *, limit: int = 10) -> tuple[str, ...]:
        """Return the API's list; as at the gate, nothing is tried out in it."""
        answer = self._ask({"query": text, "limit": limit, "explore": False, "include": []})
        return tuple(item["item_id"] for item in answer["items"])
