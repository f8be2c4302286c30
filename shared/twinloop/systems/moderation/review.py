"""People decide and appeal: each word is kept, sent on to be learnt, and what it makes of an author is told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from twinloop.errors import BadInputError, ConflictError
from twinloop.ports import ObjectStore
from twinloop.systems.moderation.review_queue import DAYS, LoggedText, in_question, texts_of
from twinloop.systems.moderation.words import Word, digest, keep, new_word, said_of, send_labels, violates

TOLD = "reviews/moderation-told/"

Source = Literal["reviewer", "appeal"]


def decide(
    store: ObjectStore,
    item_id: str,
    labels: Mapping[str, int],
    *,
    who: str,
    now: datetime,
    source: Source = "reviewer",
    note: str = "",
    days: int = DAYS,
) -> list[dict[str, Any]]:
    """Keep what a person says of a text, send it on as labels, and return the events to tell of its author.

    These are all that `mark_told` has not been given: whoever could not tell them says the same once more. Their ids
    are always the same, so nothing counts twice.

    Raises:
        NotFoundError: No decision about such a text is logged.
        BadInputError: There is no label, or a value is neither 0 nor 1.
        ConflictError: An appeal is to be decided that does not wait, or by who may not: the author, whoever appealed,
            or whoever decided before.
    """
    if not labels:
        raise BadInputError("say of at least one label whether the text has it: hate=1, or hate=0")
    said = said_of(store, item_id)
    one = in_question(texts_of(store, item_id, said, now=now, days=days, enough=lambda one: one.why is not None))
    if source == "appeal":
        _check_appeal(one, item_id, said, who)
    word = new_word(item_id=item_id, kind=source, who=who, labels=dict(labels), time_ms=_ms(now), note=note,
                    text_hash=one.text_hash)  # fmt: skip
    keep(store, word)
    send_labels(store, word, one.entry.get("text") or "")
    return [event for event in _events((*one.words, word), one.entry) if not _is_told(store, event)]


def mark_told(store: ObjectStore, events: Iterable[Mapping[str, Any]]) -> None:
    """Keep that the API took these events, so that they are not told again."""
    for event in events:
        store.write(f"{TOLD}{event['event_id']}.json", json.dumps(event).encode(), content_type="application/json")


def appeal(store: ObjectStore, item_id: str, *, who: str, now: datetime, note: str = "", days: int = DAYS) -> None:
    """Keep that somebody appealed; raises NotFoundError, and ConflictError where an appeal waits already."""
    said = said_of(store, item_id)
    texts = texts_of(store, item_id, said, now=now, days=days, enough=lambda one: one.told)
    one = max(texts, key=lambda one: (one.told, str(one.entry["time"])))
    if one.why == "appeal":
        raise ConflictError(f"an appeal about {item_id!r} waits to be decided already")
    keep(
        store,
        new_word(item_id=item_id, kind="appealed", who=who, time_ms=_ms(now), note=note, text_hash=one.text_hash),
    )


def _events(words: Sequence[Word], entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what became of an author by the words on a text, in their order: each time that it turned."""
    if not entry.get("author_id"):
        return []
    found, was = [], False
    for place, word in enumerate(words, 1):
        bad = violates(words[:place])
        if bad != was:
            kind = "violation" if bad else "restoration"
            found.append(
                {
                    "event_id": f"{kind}-{digest(word.item_id)}-{word.time_ms}",
                    "type": kind,
                    "time": word.time_ms,
                    "user_id": entry["author_id"],
                    "item_id": word.item_id,
                    "actor_id": word.who,
                }
            )
        was = bad
    return found


def _is_told(store: ObjectStore, event: Mapping[str, Any]) -> bool:
    return any(store.keys(f"{TOLD}{event['event_id']}.json"))


def _check_appeal(one: LoggedText, item_id: str, said: Sequence[Word], who: str) -> None:
    if one.why != "appeal":
        raise ConflictError(f"nobody appealed about {item_id!r}, or the appeal is decided")
    if who == one.entry.get("author_id") or any(word.who == who for word in said):
        raise ConflictError(f"{who!r} is a party to {item_id!r}, or decided before; somebody else decides the appeal")


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
