"""Labelled events as requests with their truth, and the deployed API in a predictor's place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import POSITIVE, History
from twinloop.contracts.system import Asked, Ranked
from twinloop.systems.video.features import strength


def cases(rows: Iterable[Mapping[str, Any]], histories: Callable[[Sequence[str]], Iterable[History]]) -> Iterator[Case]:
    """Yield a case for each user who liked something new.

    Args:
        rows: Events as the lake has them.
        histories: User ids -> what was known of them before the file, in that order.

    Yields:
        Cases by user id. Relevant is what the user liked in the file and had not met before; the moment asked at is
        that of the first event they liked, as in a snapshot's cases.
    """
    liked: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if (strength(row) or 0.0) >= POSITIVE:
            moment = int(row["time"].timestamp() * 1000)
            first = liked[row["user_id"]].get(row["item_id"], moment)
            liked[row["user_id"]][row["item_id"]] = min(first, moment)
    users = sorted(liked)
    for user, history in zip(users, histories(users), strict=True):
        met = {entry.item_id for entry in history}
        relevant = [item for item in sorted(liked[user]) if item not in met]
        if relevant:
            entries = [[entry.item_id, entry.time_ms, entry.strength] for entry in history]
            request = {"user_id": user, "time_ms": min(liked[user].values()), "history": entries}
            yield Case(case_id=user, request=request, truth={"relevant": relevant})


class Remote:
    """The deployed API as `judge` asks it, for one case's user."""

    def __init__(self, ask: Callable[[Mapping[str, Any]], Mapping[str, Any]], case: Case) -> None:
        self._ask, self._user = ask, case.request["user_id"]

    def rank(self, history: object, exclude: object, limit: int, *, at_ms: int, asked: Asked) -> Ranked:
        """Return the API's list for the case's moment; it knows the history itself, and that is what is judged.

        As at the gate, nothing is tried out in it.
        """
        del history, exclude
        body = {"user_id": self._user, "limit": limit, "time_ms": at_ms, "explore": False}
        items = self._ask(body | ({"context": dict(asked.context)} if asked.context else {}))["items"]
        scores = np.array([item["score"] for item in items], dtype=np.float32)
        return Ranked(tuple(item["item_id"] for item in items), scores)
