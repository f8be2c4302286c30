"""People's part: which texts wait for them, what they say, who disagrees, and how all of it becomes labels.

What the policy acts upon is in the log of predictions, with its text. What people say is kept word by word under
`reviews/moderation/`, written once, and goes as rows of `labels`, each with the text that it is about, to `raw/`, where
the ETL takes it in as it takes any other. Nothing is overwritten: reviewers who disagree are both kept, and an appeal
that is decided overrules them in what is learnt (see `features.EXAMPLES_SQL`).

A word is about one text. Where an author changes what stands under an id, the new text waits by itself.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError

from twinloop.contracts.events import Id, LabelName
from twinloop.contracts.model import Contract
from twinloop.errors import AlreadyExistsError, BadInputError, ConflictError, NotFoundError
from twinloop.monitoring.log import log_keys
from twinloop.ports import ObjectStore

KEPT, TOLD, RAW = "reviews/moderation/", "reviews/moderation-told/", "raw/moderation/"
DAYS = 14  # of the log that are looked at
_MOST_LINES = 200_000

Source = Literal["reviewer", "appeal"]
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
class Agreement:
    """How far reviewers agree about a label.

    `alpha` is Krippendorff's for nominal data: 1 is always, 0 as often as by chance; None where nobody could disagree.
    `overturned`: texts where a decided appeal says otherwise than most reviewers, of all with a decided appeal.
    """

    label: str
    texts: int
    twice: int
    disagreed: int
    alpha: float | None
    appeals: int
    overturned: int


@dataclass(frozen=True)
class _Version:
    """A text that was decided about under an id: its latest logged decision, and what people said of this text."""

    entry: Mapping[str, Any]
    reviewed: bool
    words: tuple[Word, ...] = ()

    @property
    def why(self) -> Why | None:
        """What it waits for; None: nothing."""
        return _why(self.words, review=self.reviewed)

    @property
    def told(self) -> bool:
        """Whether the log has its text."""
        return bool(self.entry.get("text"))


_ORDER: dict[Why | None, int] = {"appeal": 0, "conflict": 1, "review": 2, None: 3}


def waiting(store: ObjectStore, *, now: datetime, days: int = DAYS) -> list[Waiting]:
    """Return what waits for people: appeals first, then disagreements, then first decisions, the oldest first.

    Raises BadInputError for a log that is none, or of too many lines.
    """
    said = _said(store, KEPT)
    found = []
    for item_id, versions in _logged(store, now=now, days=days).items():
        one = _in_question(_with_words(versions, said.get(item_id, ())))
        if one.why is not None:
            found.append(_waiting(item_id, one.why, one))
    return sorted(found, key=lambda one: (_ORDER[one.why], one.time, one.item_id))


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
    said = _said(store, _folder(item_id)).get(item_id, ())
    one = _in_question(_versions(store, item_id, said, now=now, days=days, enough=lambda one: one.why is not None))
    if source == "appeal":
        _check_appeal(one, item_id, said, who)
    word = _word(item_id=item_id, kind=source, who=who, labels=dict(labels), time_ms=_ms(now), note=note,
                 text_hash=_hash(one.entry))  # fmt: skip
    _keep(store, word)
    _send(store, word, one.entry)
    return [event for event in _events((*one.words, word), one.entry) if not _is_told(store, event)]


def mark_told(store: ObjectStore, events: Iterable[Mapping[str, Any]]) -> None:
    """Keep that the API took these events, so that they are not told again."""
    for event in events:
        store.write(f"{TOLD}{event['event_id']}.json", json.dumps(event).encode(), content_type="application/json")


def appeal(store: ObjectStore, item_id: str, *, who: str, now: datetime, note: str = "", days: int = DAYS) -> None:
    """Keep that somebody appealed; raises NotFoundError, and ConflictError where an appeal waits already."""
    said = _said(store, _folder(item_id)).get(item_id, ())
    versions = _versions(store, item_id, said, now=now, days=days, enough=lambda one: one.told)
    one = max(versions, key=lambda one: (one.told, str(one.entry["time"])))
    if one.why == "appeal":
        raise ConflictError(f"an appeal about {item_id!r} waits to be decided already")
    _keep(
        store,
        _word(item_id=item_id, kind="appealed", who=who, time_ms=_ms(now), note=note, text_hash=_hash(one.entry)),
    )


def agreement(store: ObjectStore) -> list[Agreement]:
    """Return how far people agree, label by label."""
    return agreement_of(word for words in _said(store, KEPT).values() for word in words)


def agreement_of(words: Iterable[Word]) -> list[Agreement]:
    """Return how far people agree; of each person the latest word on a text and label counts."""
    reviewers: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    appeals: dict[str, dict[str, int]] = defaultdict(dict)
    for word in sorted(words, key=lambda word: word.time_ms):
        for label, value in word.labels.items():
            if word.kind == "reviewer":
                reviewers[label][word.item_id][word.who] = value
            else:
                appeals[label][word.item_id] = value
    found = []
    for label in sorted({*reviewers, *appeals}):
        texts = {item: tuple(values.values()) for item, values in reviewers[label].items()}
        twice = [values for values in texts.values() if len(values) > 1]
        decided = appeals[label]
        overturned = sum(item in texts and (2 * sum(texts[item]) > len(texts[item])) != value
                         for item, value in decided.items())  # fmt: skip
        found.append(
            Agreement(
                label=label,
                texts=len(texts),
                twice=len(twice),
                disagreed=sum(len(set(values)) > 1 for values in twice),
                alpha=alpha(twice),
                appeals=len(decided),
                overturned=overturned,
            )
        )
    return found


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Return Krippendorff's alpha of nominal values, each unit's by those who were asked (Krippendorff 2011).

    None where no unit has two values, or all values are one: then nothing says what chance would do.
    """
    paired = [values for values in units if len(values) > 1]
    counts: dict[int, int] = defaultdict(int)
    for values in paired:
        for value in values:
            counts[value] += 1
    total = sum(counts.values())
    if total < 2 or len(counts) < 2:
        return None
    observed = sum(
        sum(a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j) / (len(values) - 1)
        for values in paired
    )
    expected = sum(counts[a] * counts[b] for a in counts for b in counts if a != b) / (total - 1)
    return 1 - observed / expected


def _logged(
    store: ObjectStore,
    *,
    now: datetime,
    days: int,
    only: str | None = None,
    enough: Callable[[_Version], bool] | None = None,
) -> dict[str, list[_Version]]:
    """Return the texts that were decided about under each id; raises BadInputError for a log that is none.

    Args:
        store: Of the log, which is read from its end.
        now: The log's end; a stream writes by its own clock, which may be a day ahead.
        days: How far back.
        only: The one id that matters; then any number of lines is read.
        enough: Asked of each text of that id; where it holds nothing before is read.
    """
    found: dict[str, dict[str, _Version]] = defaultdict(dict)
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


def _add(versions: dict[str, _Version], entry: Mapping[str, Any]) -> None:
    text = _hash(entry)
    before = versions.get(text)
    latest = entry if before is None or before.entry["time"] <= entry["time"] else before.entry
    # What was sent to people once waits for them, whatever another policy says of it later.
    reviewed = entry["action"] == "review" or (before is not None and before.reviewed)
    versions[text] = _Version(latest, reviewed)


def _with_words(versions: Iterable[_Version], words: Iterable[Word]) -> list[_Version]:
    by_text: dict[str, list[Word]] = defaultdict(list)
    for word in words:
        by_text[word.text_hash].append(word)
    return [replace(one, words=tuple(by_text.get(_hash(one.entry), ()))) for one in versions]


def _in_question(versions: Sequence[_Version]) -> _Version:
    """Return which text of an id is meant: one that waits, or else one whose text is known; of these the latest."""
    latest_first = sorted(versions, key=lambda one: str(one.entry["time"]), reverse=True)
    return min(latest_first, key=lambda one: (_ORDER[one.why], not one.told))


def _versions(
    store: ObjectStore,
    item_id: str,
    said: Sequence[Word],
    *,
    now: datetime,
    days: int,
    enough: Callable[[_Version], bool],
) -> list[_Version]:
    """Return the texts of an id, from the log's end back to one that is enough; raises NotFoundError for none."""
    appealed = _why(said, review=False) == "appeal"  # then it may be about a text before the latest one

    def found(one: _Version) -> bool:
        [full] = _with_words([one], said)
        return full.why == "appeal" or (not appealed and enough(full))

    versions = _logged(store, now=now, days=days, only=item_id, enough=found).get(item_id)
    if not versions:
        raise NotFoundError(f"no decision about {item_id!r} is in the log of the last {days} days; look at more --days")
    return _with_words(versions, said)


def _why(words: Sequence[Word], *, review: bool) -> Why | None:
    """Return what a text waits for; None: nothing."""
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


def _violates(words: Iterable[Word]) -> bool:
    """Say whether a text has any label: by the latest decided appeal about it, or by more than half of reviewers."""
    words = tuple(words)
    has = {label: 2 * sum(values) > len(values) for label, values in _votes(words).items()}
    for word in words:
        if word.kind == "appeal":
            has |= {label: value == 1 for label, value in word.labels.items()}
    return any(has.values())


def _events(words: Sequence[Word], entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what became of an author by the words on a text, in their order: each time that it turned."""
    if not entry.get("author_id"):
        return []
    found, was = [], False
    for place, word in enumerate(words, 1):
        bad = _violates(words[:place])
        if bad != was:
            kind = "violation" if bad else "restoration"
            found.append(
                {
                    "event_id": f"{kind}-{_digest(word.item_id)}-{word.time_ms}",
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


def _check_appeal(one: _Version, item_id: str, said: Sequence[Word], who: str) -> None:
    if one.why != "appeal":
        raise ConflictError(f"nobody appealed about {item_id!r}, or the appeal is decided")
    if who == one.entry.get("author_id") or any(word.who == who for word in said):
        raise ConflictError(f"{who!r} is a party to {item_id!r}, or decided before; somebody else decides the appeal")


def _waiting(item_id: str, why: Why, one: _Version) -> Waiting:
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


def _word(**fields: Any) -> Word:
    try:
        word = Word(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadInputError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    if any(value not in (0, 1) for value in word.labels.values()):
        raise BadInputError("a label is 0 or 1 to a person")
    return word


def _keep(store: ObjectStore, word: Word) -> None:
    key = f"{_folder(word.item_id)}{word.time_ms}-{_digest(word.who)}-{word.kind}.json"
    try:
        store.write_new(key, word.model_dump_json().encode(), content_type="application/json")
    except AlreadyExistsError as error:
        raise ConflictError(f"{word.who!r} said something of {word.item_id!r} at this very moment already") from error


def _send(store: ObjectStore, word: Word, entry: Mapping[str, Any]) -> None:
    name = f"review/{_digest(word.item_id)}-{word.time_ms}-{_digest(word.who)}.jsonl"
    about = {"item_id": word.item_id, "source": word.kind, "time": word.time_ms, "reviewer_id": word.who}
    if entry.get("text"):  # so that the label has its text, whether or not the application loads its texts
        about["text"] = entry["text"]
    rows = [{**about, "label": label, "value": value} for label, value in sorted(word.labels.items())]
    store.write(f"{RAW}labels/{name}", b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def _folder(item_id: str) -> str:
    return f"{KEPT}{_digest(item_id)}/"


def _said(store: ObjectStore, prefix: str) -> dict[str, tuple[Word, ...]]:
    """Return words by item, in the order of their time."""
    said: dict[str, list[Word]] = defaultdict(list)
    for key in store.keys(prefix):
        try:
            word = Word.model_validate_json(store.read(key).body)
        except ValidationError as error:
            raise BadInputError(f"{key} is no word of a reviewer; move it elsewhere") from error
        said[word.item_id].append(word)
    return {item: tuple(sorted(words, key=lambda word: (word.time_ms, word.who))) for item, words in said.items()}


def _hash(entry: Mapping[str, Any]) -> str:
    """Return what tells the texts of an id apart; empty where the log has no text."""
    return _digest(entry["text"]) if entry.get("text") else ""


def _lines(body: bytes, key: str) -> Iterator[dict[str, Any]]:
    try:
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        for line in body.splitlines():
            if line.strip():
                yield json.loads(line)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise BadInputError(f"{key} is no log of predictions: {error}") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
