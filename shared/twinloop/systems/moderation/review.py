"""People's part: which texts wait for them, what they say, who disagrees, and how all of it becomes labels.

What the policy sends to `review` is in the log of predictions, with its text. What people say is kept word by word
under `reviews/moderation/`, written once, and goes as rows of `labels` and `items` to `raw/`, where the ETL takes it in
as it takes any other. Nothing is overwritten: reviewers who disagree are both kept, and an appeal that is decided
overrules them in what is learnt (see `features.EXAMPLES_SQL`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError

from twinloop.contracts.events import Id, LabelName
from twinloop.contracts.model import Contract
from twinloop.errors import AlreadyExistsError, BadInputError, ConflictError, NotFoundError
from twinloop.ports import ObjectStore

LOG, KEPT, RAW = "predictions/moderation/", "reviews/moderation/", "raw/moderation/"
DAYS = 14  # of the log that are looked at
_MOST_LINES = 200_000

Source = Literal["reviewer", "appeal"]
Why = Literal["review", "conflict", "appeal"]


class Word(Contract):
    """What one person said of one text, or that its author appealed (then `labels` are none)."""

    item_id: Id
    kind: Literal["reviewer", "appeal", "appealed"]
    who: Id
    labels: dict[LabelName, int] = Field(default_factory=dict, max_length=100)
    time_ms: int
    note: str = Field("", max_length=2000)


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


@dataclass
class _Said:
    """Words by item, in the order of their time."""

    words: dict[str, list[Word]] = field(default_factory=lambda: defaultdict(list))

    def of(self, item_id: str) -> tuple[Word, ...]:
        return tuple(self.words.get(item_id, ()))


def waiting(store: ObjectStore, *, now: datetime, days: int = DAYS) -> list[Waiting]:
    """Return what waits for people: appeals first, then disagreements, then first decisions, the oldest first."""
    said = _said(store)
    found = []
    for item_id, entry in logged(store, now=now, days=days).items():
        words = said.of(item_id)
        why = _why(entry["action"], words)
        if why is not None:
            found.append(_waiting(item_id, why, entry, words))
    order: dict[Why, int] = {"appeal": 0, "conflict": 1, "review": 2}
    return sorted(found, key=lambda one: (order[one.why], one.time, one.item_id))


def logged(store: ObjectStore, *, now: datetime, days: int = DAYS) -> dict[str, dict[str, Any]]:
    """Return the latest logged decision about each text, by its id; raises BadInputError for a log that is none."""
    found: dict[str, dict[str, Any]] = {}
    lines = 0
    for back in range(days, -2, -1):  # a stream writes by its own clock, which may be past midnight already
        prefix = f"{LOG}{now.astimezone(UTC) - timedelta(days=back):%Y/%m/%d}/"
        for key in sorted(store.keys(prefix)):
            for line in _lines(store.read(key).body, key):
                lines += 1
                if lines > _MOST_LINES:
                    raise BadInputError(f"the log has more than {_MOST_LINES} lines; look at fewer days")
                for place, one in enumerate(line.get("decisions") or ()):
                    item_id = one.get("item_id") or f"{line['prediction_id']}-{place}"
                    entry = {**one, "policy_version": line.get("policy_version", ""), "time": line["time"]}
                    before = found.get(item_id)
                    if before is None or before["time"] <= entry["time"]:
                        # Who was reviewed once is known by their text, whatever was decided later.
                        found[item_id] = {"text": (before or {}).get("text", ""), **entry}
    return found


def decide(
    store: ObjectStore,
    item_id: str,
    labels: Mapping[str, int],
    *,
    who: str,
    now: datetime,
    source: Source = "reviewer",
    note: str = "",
) -> list[dict[str, Any]]:
    """Keep what a person says of a text, send it on as labels, and return the events to tell of its author.

    Raises:
        NotFoundError: No decision about such a text is logged.
        BadInputError: There is no label, or a value is neither 0 nor 1.
        ConflictError: An appeal is to be decided that nobody made, or by who decided before.
    """
    if not labels:
        raise BadInputError("say of at least one label whether the text has it: hate=1, or hate=0")
    entry, said = _entry(store, item_id, now), _said(store).of(item_id)
    if source == "appeal":
        if not any(word.kind == "appealed" for word in said):
            raise ConflictError(f"nobody appealed about {item_id!r}")
        if any(word.kind == "reviewer" and word.who == who for word in said):
            raise ConflictError(f"{who!r} decided about {item_id!r} before; somebody else decides the appeal")
    word = _word(item_id=item_id, kind=source, who=who, labels=dict(labels), time_ms=_ms(now), note=note)
    was = _violates(said)
    _keep(store, word)
    _send(store, word, entry)
    now_bad = _violates((*said, word))
    if not entry.get("author_id") or now_bad == was:
        return []
    kind = "violation" if now_bad else "restoration"
    return [
        {
            "event_id": f"{kind}-{_digest(item_id)}-{word.time_ms}",
            "type": kind,
            "time": word.time_ms,
            "user_id": entry["author_id"],
            "item_id": item_id,
            "actor_id": who,
        }
    ]


def appeal(store: ObjectStore, item_id: str, *, who: str, now: datetime, note: str = "") -> None:
    """Keep that somebody appealed; raises NotFoundError, and ConflictError where an appeal waits already."""
    _entry(store, item_id, now)
    if _why("allow", _said(store).of(item_id)) == "appeal":
        raise ConflictError(f"an appeal about {item_id!r} waits to be decided already")
    _keep(store, _word(item_id=item_id, kind="appealed", who=who, time_ms=_ms(now), note=note))


def agreement(store: ObjectStore) -> list[Agreement]:
    """Return how far people agree, label by label."""
    return agreement_of(word for words in _said(store).words.values() for word in words)


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


def _why(action: str, words: Sequence[Word]) -> Why | None:
    """Return what a text waits for; None: nothing."""
    appeals = [word.time_ms for word in words if word.kind == "appealed"]
    decided = [word.time_ms for word in words if word.kind == "appeal"]
    if appeals and max(appeals) > max(decided, default=-1):
        return "appeal"
    if decided:
        return None
    latest: dict[tuple[str, str], int] = {}
    for word in words:
        for label, value in word.labels.items():
            latest[label, word.who] = value
    votes: dict[str, list[int]] = defaultdict(list)
    for (label, _), value in latest.items():
        votes[label].append(value)
    if any(2 * sum(values) == len(values) for values in votes.values()):
        return "conflict"
    return "review" if action == "review" and not words else None


def _violates(words: Sequence[Word]) -> bool:
    """Say whether a text breaks the rules: by the latest decided appeal, otherwise by more than half of reviewers."""
    appeals = [word for word in words if word.kind == "appeal"]
    if appeals:
        return any(appeals[-1].labels.values())
    latest = {word.who: any(word.labels.values()) for word in words if word.kind == "reviewer"}
    return 2 * sum(latest.values()) > len(latest) > 0


def _entry(store: ObjectStore, item_id: str, now: datetime) -> dict[str, Any]:
    entry = logged(store, now=now).get(item_id)
    if entry is None:
        raise NotFoundError(f"no decision about {item_id!r} is in the log of the last {DAYS} days")
    return entry


def _waiting(item_id: str, why: Why, entry: Mapping[str, Any], words: tuple[Word, ...]) -> Waiting:
    return Waiting(
        item_id=item_id,
        why=why,
        text=entry.get("text", ""),
        author_id=entry.get("author_id"),
        because=tuple(entry.get("because", ())),
        labels=entry.get("labels", {}),
        policy_version=entry["policy_version"],
        time=entry["time"],
        words=words,
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
    key = f"{KEPT}{_digest(word.item_id)}/{word.time_ms}-{_digest(word.who)}-{word.kind}.json"
    try:
        store.write_new(key, word.model_dump_json().encode(), content_type="application/json")
    except AlreadyExistsError as error:
        raise ConflictError(f"{word.who!r} said something of {word.item_id!r} at this very moment already") from error


def _send(store: ObjectStore, word: Word, entry: Mapping[str, Any]) -> None:
    name = f"review/{_digest(word.item_id)}-{word.time_ms}-{_digest(word.who)}.jsonl"
    if entry.get("text"):  # so that the label has its text, whether or not the application loads its texts
        item = {"item_id": word.item_id, "text": entry["text"], "author_id": entry.get("author_id")}
        store.write(f"{RAW}items/{name}", json.dumps(item).encode() + b"\n")
    rows = [
        {"item_id": word.item_id, "label": label, "value": value, "source": word.kind, "time": word.time_ms,
         "reviewer_id": word.who}
        for label, value in sorted(word.labels.items())
    ]  # fmt: skip
    store.write(f"{RAW}labels/{name}", b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def _said(store: ObjectStore) -> _Said:
    said = _Said()
    for key in store.keys(KEPT):
        try:
            word = Word.model_validate_json(store.read(key).body)
        except ValidationError as error:
            raise BadInputError(f"{key} is no word of a reviewer; move it elsewhere") from error
        said.words[word.item_id].append(word)
    for words in said.words.values():
        words.sort(key=lambda word: (word.time_ms, word.who))
    return said


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
