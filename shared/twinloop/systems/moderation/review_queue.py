"""Which texts wait for people: what the policy acted upon, by the log of predictions, and what was said of it since.

A word is about one text. Where an author changes what stands under an id, the new text waits by itself.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from twinloop.errors import BadInputError, NotFoundError
from twinloop.monitoring.log import log_keys
from twinloop.ports import ObjectStore
from twinloop.systems.moderation.words import Why, Word, digest, said, waits_for

DAYS = 14  # of the log that are looked at
_MOST_LINES = 200_000


@dataclass(frozen=True)
class Waiting:
    """A text that waits for somebody.

    Attributes:
        item_id: Its id; where the request told none, the prediction's with its place.
        why: What for: a first decision, one between reviewers who disagree, or one about an appeal.
        text: What the log has of it.
        author_id: Who wrote it.
        because: Labels that asked for the review.
        labels: Probabilities of the labels.
        policy_version: By which policy.
        time: When it was decided about.
        words: What people have said of it.

    An id has one of these at a time: of several texts that wait under it, an appeal's before others, then the latest.
    """

    item_id: str
    why: Why
    text: str
    author_id: str | None
    because: tuple[str, ...]
    labels: Mapping[str, float]
    policy_version: str
    time: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class LoggedText:
    """A text that was decided about under an id: its latest logged decision, and what people said of this text."""

    entry: Mapping[str, Any]
    reviewed: bool
    words: tuple[Word, ...] = ()

    @property
    def why(self) -> Why | None:
        """What it waits for; None: nothing."""
        return waits_for(self.words, review=self.reviewed)

    @property
    def told(self) -> bool:
        """Whether the log has its text."""
        return bool(self.entry.get("text"))

    @property
    def text_hash(self) -> str:
        """What tells the texts of an id apart; empty where the log has no text."""
        return _hash(self.entry)


_ORDER: dict[Why | None, int] = {"appeal": 0, "conflict": 1, "review": 2, None: 3}


def waiting(store: ObjectStore, *, now: datetime, days: int = DAYS) -> list[Waiting]:
    """Return what waits for people: appeals first, then disagreements, then first decisions, the oldest first.

    Raises BadInputError for a log that is none, or of too many lines.
    """
    words = said(store)
    found = []
    for item_id, versions in _logged(store, now=now, days=days).items():
        one = in_question(_with_words(versions, words.get(item_id, ())))
        if one.why is not None:
            found.append(_waiting(item_id, one.why, one))
    return sorted(found, key=lambda one: (_ORDER[one.why], one.time, one.item_id))


def in_question(versions: Sequence[LoggedText]) -> LoggedText:
    """Return which text of an id is meant: one that waits, or else one whose text is known; of these the latest."""
    latest_first = sorted(versions, key=lambda one: str(one.entry["time"]), reverse=True)
    return min(latest_first, key=lambda one: (_ORDER[one.why], not one.told))


def texts_of(
    store: ObjectStore,
    item_id: str,
    words: Sequence[Word],
    *,
    now: datetime,
    days: int,
    enough: Callable[[LoggedText], bool],
) -> list[LoggedText]:
    """Return the texts of an id, from the log's end back to one that is enough; raises NotFoundError for none."""
    appealed = waits_for(words, review=False) == "appeal"  # then it may be about a text before the latest one

    def found(one: LoggedText) -> bool:
        [full] = _with_words([one], words)
        return full.why == "appeal" or (not appealed and enough(full))

    versions = _logged(store, now=now, days=days, only=item_id, enough=found).get(item_id)
    if not versions:
        raise NotFoundError(f"no decision about {item_id!r} is in the log of the last {days} days; look at more --days")
    return _with_words(versions, words)


def _logged(
    store: ObjectStore,
    *,
    now: datetime,
    days: int,
    only: str | None = None,
    enough: Callable[[LoggedText], bool] | None = None,
) -> dict[str, list[LoggedText]]:
    """Return the texts that were decided about under each id; raises BadInputError for a log that is none.

    Args:
        store: Of the log, which is read from its end.
        now: The log's end; a stream writes by its own clock, which may be a day ahead.
        days: How far back.
        only: The one id that matters; then any number of lines is read.
        enough: Asked of each text of that id; where it holds nothing before is read.
    """
    found: dict[str, dict[str, LoggedText]] = defaultdict(dict)
    lines = 0
    for key in log_keys(store, "moderation", now - timedelta(days=days), now + timedelta(days=1)):
        here = set()
        for line in _lines(store.read(key).body, key):
            lines += 1
            if lines > _MOST_LINES and only is None:
                raise BadInputError(f"the log has more than {_MOST_LINES} lines; look at fewer days")
            for place, one in enumerate(line.get("decisions") or ()):
                item_id = one.get("item_id") or f"{line['prediction_id']}-{place}"
                if only is None or item_id == only:
                    entry = {**one, "policy_version": line.get("policy_version", ""), "time": line["time"]}
                    here.add(_hash(entry))
                    _add(found[item_id], entry)
        if only is not None and enough is not None and any(enough(found[only][text]) for text in here):
            break
    return {item_id: list(versions.values()) for item_id, versions in found.items()}


def _add(versions: dict[str, LoggedText], entry: Mapping[str, Any]) -> None:
    text = _hash(entry)
    before = versions.get(text)
    latest = entry if before is None or before.entry["time"] <= entry["time"] else before.entry
    # What was sent to people once waits for them, whatever another policy says of it later.
    reviewed = entry["action"] == "review" or (before is not None and before.reviewed)
    versions[text] = LoggedText(latest, reviewed)


def _with_words(versions: Iterable[LoggedText], words: Iterable[Word]) -> list[LoggedText]:
    by_text: dict[str, list[Word]] = defaultdict(list)
    for word in words:
        by_text[word.text_hash].append(word)
    return [replace(one, words=tuple(by_text.get(one.text_hash, ()))) for one in versions]


def _waiting(item_id: str, why: Why, one: LoggedText) -> Waiting:
    entry = one.entry
    return Waiting(
        item_id=item_id,
        why=why,
        text=entry.get("text", ""),
        author_id=entry.get("author_id"),
        because=tuple(entry.get("because", ())),
        labels=entry.get("labels", {}),
        policy_version=entry["policy_version"],
        time=entry["time"],
        words=one.words,
    )


def _hash(entry: Mapping[str, Any]) -> str:
    return digest(entry["text"]) if entry.get("text") else ""


def _lines(body: bytes, key: str) -> Iterator[dict[str, Any]]:
    try:
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        for line in body.splitlines():
            if line.strip():
                yield json.loads(line)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise BadInputError(f"{key} is no log of predictions: {error}") from error
