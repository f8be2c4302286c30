"""Labelled events as requests with their truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import Asked
from twinloop.systems.video.evaluate import Remote, cases

KNOWN = {"a": (HistoryEntry("i1", 5, 1.0),), "b": ()}


def event(user: str, item: str, second: int, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "time": datetime.fromtimestamp(second, UTC), "type": "like"} | more


def test_what_is_new_to_its_user_is_what_is_right() -> None:
    rows = [
        event("b", "i9", 30),
        event("a", "i3", 20),
        event("a", "i2", 25),
        event("a", "i3", 10),  # liked twice is liked once
        event("a", "i1", 7),  # met before
        event("a", "i4", 12, type="rating", rating=2.0),  # not liked
        event("c", "i1", 12, type="impression"),
    ]
    asked: list[str] = []

    def histories(users: Any) -> Any:
        asked.extend(users)
        return (KNOWN[user] for user in users)

    first, second = cases(rows, histories)
    assert asked == ["a", "b"]
    assert first.case_id == "a"
    assert first.truth == {"relevant": ["i2", "i3"]}
    assert first.request == {"user_id": "a", "time_ms": 7000, "history": [["i1", 5, 1.0]]}
    assert (second.case_id, second.truth, second.request["history"]) == ("b", {"relevant": ["i9"]}, [])


def test_who_met_everything_is_no_case() -> None:
    assert list(cases([event("a", "i1", 7)], lambda users: (KNOWN[user] for user in users))) == []


def test_the_api_answers_in_a_predictors_place() -> None:
    (case,) = cases([event("b", "i9", 30)], lambda users: (KNOWN[user] for user in users))
    bodies = []

    def ask(body: Any) -> dict[str, Any]:
        bodies.append(body)
        return {"items": [{"item_id": "i9", "score": 2.0}, {"item_id": "i3", "score": 1.0}]}

    ranked = Remote(ask, case).rank((), (), 20, at_ms=case.request["time_ms"], asked=Asked())
    assert bodies == [{"user_id": "b", "limit": 20, "time_ms": 30_000, "explore": False}]
    assert ranked.ids == ("i9", "i3")
    assert ranked.scores.tolist() == [2.0, 1.0]
