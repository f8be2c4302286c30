"""What people say of texts, word by word: kept once, sent on as labels, and what several of them amount to.

Words are kept under `reviews/moderation/` and go as rows of `labels`, each with the text that it is about, to `raw/`,
where the ETL takes them in as it takes any other. Nothing is overwritten: reviewers who disagree are both kept, and an
appeal that is decided overrules them in what is learnt (see `features.EXAMPLES_SQL`).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from twinloop.contracts.events import Id, LabelName
from twinloop.contracts.model import Contract
from twinloop.errors import AlreadyExistsError, BadInputError, ConflictError
from twinloop.ports import ObjectStore

KEPT, RAW = "reviews/moderation/", "raw/moderation/"

Why = Literal["review", "conflict", "appeal"]


class Word(Contract):
    """What one person said of one text, or that its author appealed (then `labels` are none).

    `text_hash` is of the text as the log has it; empty where it has none.
    """

    item_id: Id
    kind: Literal["reviewer", "appeal", "appealed"]
    who: Id
    labels: dict[LabelName, int] = Field(default_factory=dict, max_length=100)
    time_ms: int
    note: str = Field("", max_length=2000)
    text_hash: str = Field("", max_length=64)


def new_word(**fields: Any) -> Word:
    """Return a person's word; raises BadInputError, by the field, for what is none."""
    try:
        word = Word(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadInputError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    if any(value not in (0, 1) for value in word.labels.values()):
        raise BadInputError("a label is 0 or 1 to a person")
    return word


def said(store: ObjectStore) -> dict[str, tuple[Word, ...]]:
    """Return all words by item, in the order of their time."""
    return _read(store, KEPT)


def said_of(store: ObjectStore, item_id: str) -> tuple[Word, ...]:
    """Return the words on all texts of an id, in the order of their time."""
    return _read(store, _folder(item_id)).get(item_id, ())


def _read(store: ObjectStore, prefix: str) -> dict[str, tuple[Word, ...]]:
    found: dict[str, list[Word]] = defaultdict(list)
    for key in store.keys(prefix):
        try:
            word = Word.model_validate_json(store.read(key).body)
        except ValidationError as error:
            raise BadInputError(f"{key} is no word of a reviewer; move it elsewhere") from error
        found[word.item_id].append(word)
    return {item: tuple(sorted(words, key=lambda word: (word.time_ms, word.who))) for item, words in found.items()}


def keep(store: ObjectStore, word: Word) -> None:
    """Write a word once; raises ConflictError where its author said something at the same moment."""
    key = f"{_folder(word.item_id)}{word.time_ms}-{digest(word.who)}-{word.kind}.json"
    try:
        store.write_new(key, word.model_dump_json().encode(), content_type="application/json")
    except AlreadyExistsError as error:
        raise ConflictError(f"{word.who!r} said something of {word.item_id!r} at this very moment already") from error


def send_labels(store: ObjectStore, word: Word, text: str) -> None:
    """Send a word on as rows of `labels`, with the text that it is about; empty where nobody knows it any more."""
    name = f"review/{digest(word.item_id)}-{word.time_ms}-{digest(word.who)}.jsonl"
    about = {"item_id": word.item_id, "source": word.kind, "time": word.time_ms, "reviewer_id": word.who}
    if text:  # so that the label has its text, whether or not the application loads its texts
        about["text"] = text
    rows = [{**about, "label": label, "value": value} for label, value in sorted(word.labels.items())]
    store.write(f"{RAW}labels/{name}", b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def waits_for(words: Sequence[Word], *, review: bool) -> Why | None:
    """Return what a text of these words waits for; None: nothing. `review`: whether policy sent it to people."""
    appeals = [word.time_ms for word in words if word.kind == "appealed"]
    decided = [word.time_ms for word in words if word.kind == "appeal"]
    if appeals and max(appeals) > max(decided, default=-1):
        return "appeal"
    if decided:
        return None
    if any(2 * sum(values) == len(values) for values in _votes(words).values()):
        return "conflict"
    return "review" if review and not words else None


def _votes(words: Iterable[Word]) -> dict[str, list[int]]:
    """Return the latest word of each reviewer on each label."""
    latest: dict[tuple[str, str], int] = {}
    for word in words:
        if word.kind == "reviewer":
            latest |= {(label, word.who): value for label, value in word.labels.items()}
    votes: dict[str, list[int]] = defaultdict(list)
    for (label, _), value in latest.items():
        votes[label].append(value)
    return votes


def violates(words: Iterable[Word]) -> bool:
    """Say whether a text has any label: by the latest decided appeal about it, or by more than half of reviewers."""
    words = tuple(words)
    has = {label: 2 * sum(values) > len(values) for label, values in _votes(words).items()}
    for word in words:
        if word.kind == "appeal":
            has |= {label: value == 1 for label, value in word.labels.items()}
    return any(has.values())


def digest(text: str) -> str:
    """Return 16 hex digits that stand for a text, an id or a name."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _folder(item_id: str) -> str:
    return f"{KEPT}{digest(item_id)}/"
