"""A log of moderation's decisions, and people who say something of its texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from twinloop.ports import MemoryObjectStore
from twinloop.systems.moderation import review
from twinloop.systems.moderation.review_queue import waiting

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def logged() -> MemoryObjectStore:
    """Two texts that policy sent to people, one of them without an id, and one that it allowed."""
    made = MemoryObjectStore()
    decisions = [
        {"item_id": "t1", "author_id": "a1", "action": "review", "because": ["spam"], "labels": {"spam": 0.6},
         "text": "megadeal"},
        {"item_id": "t2", "author_id": "a2", "action": "allow", "because": [], "labels": {"spam": 0.1}},
        {"item_id": None, "author_id": None, "action": "review", "because": ["spam"], "labels": {"spam": 0.5},
         "text": "nameless"},
    ]  # fmt: skip
    line = {"prediction_id": "p1", "time": "2026-03-04T10:00:00.000+00:00", "policy_version": "default-1"}
    body = json.dumps({**line, "decisions": decisions}).encode() + b"\n"
    made.write("predictions/moderation/2026/03/04/lines", body)
    return made


def at(minutes: int) -> datetime:
    """Return a moment so long after `NOW`."""
    return NOW + timedelta(minutes=minutes)


def waits(store: MemoryObjectStore, minutes: int = 100) -> dict[str, str]:
    """Return what waits, item by item, and what for."""
    return {one.item_id: one.why for one in waiting(store, now=at(minutes))}


def decide(store: MemoryObjectStore, item: str, labels: Mapping[str, int], **how: Any) -> list[str]:
    """Decide, tell the author's record, and return what was told."""
    events = review.decide(store, item, labels, **how)
    review.mark_told(store, events)
    return [event["type"] for event in events]


def add(store: MemoryObjectStore, minutes: int, *decisions: Mapping[str, Any]) -> None:
    """Log decisions."""
    time = at(minutes).isoformat(timespec="milliseconds")
    line = {"prediction_id": f"p{minutes}", "time": time, "policy_version": "default-1", "decisions": decisions}
    store.write(f"predictions/moderation/2026/03/04/lines{minutes:05}", json.dumps(line).encode())


def made(item_id: str, text: str, action: str = "review") -> dict[str, Any]:
    """Return a decision as the log has it."""
    of = {"item_id": item_id, "author_id": "a1", "action": action, "because": ["spam"], "labels": {"spam": 0.6}}
    return of if action == "allow" else of | {"text": text}
