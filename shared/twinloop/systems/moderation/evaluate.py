"""Labelled texts as requests with their truth, and the deployed API in a predictor's place.

A labelled file is one of the table `items` whose rows have `labels` besides: {"label": 0, 1, or the share of people who
saw it}. A label that is not named was not asked about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import History
from twinloop.errors import BadInputError
from twinloop.systems.moderation.features import slices_of

if TYPE_CHECKING:
    from twinloop.systems.moderation.serve import DecidedText


def cases(rows: Iterable[Mapping[str, Any]], histories: Callable[[Sequence[str]], Iterable[History]]) -> Iterator[Case]:
    """Yield a case for each text with labels; raises BadInputError where labels are none."""
    del histories  # a text is judged by itself
    for row in rows:
        try:
            labels = json.loads(row.get("extra") or "{}").get("labels") or {}
            labels = json.loads(labels) if isinstance(labels, str) else labels
            truth = {str(name): float(value) for name, value in labels.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise BadInputError(f"item {row['item_id']!r}: labels are an object of numbers: {error}") from error
        if not all(0 <= value <= 1 for value in truth.values()):
            raise BadInputError(f"item {row['item_id']!r}: labels are from 0 to 1, not {truth}")
        if truth and row["text"].strip():
            request = {"text": row["text"]}
            yield Case(case_id=row["item_id"], request=request, truth={"labels": truth}, slices=slices_of(row["text"]))


class Remote:
    """The deployed API as `judge` asks it."""

    def __init__(self, ask: Callable[[Mapping[str, Any]], Mapping[str, Any]], case: Case) -> None:
        del case
        self._ask = ask

    def look(self, text: str) -> DecidedText:
        """Return the API's decision about a text that nobody in particular wrote."""
        from twinloop.systems.moderation.policy import Decision  # noqa: PLC0415 - see the package's __init__
        from twinloop.systems.moderation.serve import DecidedText  # noqa: PLC0415

        told = self._ask({"text": text, "explore": False})["decisions"][0]
        return DecidedText(Decision(told["action"], tuple(told["because"])), dict(told["labels"]))
