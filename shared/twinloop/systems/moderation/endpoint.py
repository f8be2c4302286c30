"""POST /v1/moderation/decisions: of a text, or of up to a hundred, how likely each label is, and what is done."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from twinloop.contracts.api import ApiRequest, Id, PredictionAnswer, PredictionRequest
from twinloop.contracts.endpoint import Endpoint, Origin, Question
from twinloop.contracts.model import Contract
from twinloop.systems.moderation.words import digest
from twinloop.text.disguises import ACCOUNT, NAMED, URL, normalise

if TYPE_CHECKING:  # functions that only know of rows carry no numpy
    from twinloop.systems.moderation.serve import Decided

MOST_TEXTS, MOST_CHARACTERS, MOST_MEDIA = 100, 100_000, 20
MOST_DIFFERENT_MEDIA = 200  # of a request: each is held against up to a million, in about a millisecond
_LOGGED_CHARACTERS = 10_000
_MOST_PASSAGES = 5
_ADDRESS, _NAME = (re.compile(rf"{token}((?: {NAMED}[^ ]+)*)") for token in (URL, ACCOUNT))

LongText = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
MediaHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{16}$")]


class AskedText(ApiRequest):
    """A text to decide about."""

    text: LongText = Field(description="May be empty, where media are what it is about.")
    item_id: Id | None = Field(None, description="Comes back with the decision, and is what reviewers decide about.")
    author_id: Id | None = Field(None, description="Whose record counts; nobody's where it is not told.")
    media_hashes: tuple[MediaHash, ...] = Field(
        (), max_length=MOST_MEDIA, description="Perceptual hashes of the media beside it: 64 bits, hexadecimal."
    )


class DecisionsRequest(PredictionRequest):
    """Ask about one text, by its fields, or about several, by `items`."""

    text: LongText | None = Field(None, description="The one text.")
    item_id: Id | None = None
    author_id: Id | None = None
    media_hashes: tuple[MediaHash, ...] = Field((), max_length=MOST_MEDIA)
    items: tuple[AskedText, ...] | None = Field(
        None, min_length=1, max_length=MOST_TEXTS, description="Several texts instead, answered in this order."
    )

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        if (self.text is None) == (self.items is None):
            raise PydanticCustomError("text_or_items", "give either text, or items")
        if self.items is not None and (self.item_id or self.author_id or self.media_hashes):
            raise PydanticCustomError("within_items", "with items, say item_id, author_id and media_hashes in each")
        ids = [one.item_id for one in self.items or () if one.item_id]
        if len(set(ids)) < len(ids):
            raise PydanticCustomError("item_twice", "an item_id may stand for one text only; here one stands for two")
        return self

    @field_validator("items")
    @classmethod
    def _few_media(cls, items: tuple[AskedText, ...] | None) -> tuple[AskedText, ...] | None:
        different = {one.lower() for asked in items or () for one in asked.media_hashes}
        if len(different) > MOST_DIFFERENT_MEDIA:
            raise PydanticCustomError(
                "media_hashes",
                "media_hashes of all items are {found} different ones; at most {most} are looked up in a request",
                {"found": len(different), "most": MOST_DIFFERENT_MEDIA},
            )
        return items

    @property
    def asked(self) -> tuple[AskedText, ...]:
        """Every text that is asked about."""
        if self.items is not None:
            return self.items
        return (
            AskedText(
                text=self.text or "", item_id=self.item_id, author_id=self.author_id, media_hashes=self.media_hashes
            ),
        )


class DecisionTold(Contract):
    """What is done about one text."""

    item_id: str | None = None
    action: Literal["allow", "limit", "review", "remove"]
    because: tuple[str, ...] = Field(description="The labels that ask for it, or `media`, `no_model` or `too_long`.")
    labels: dict[str, float] = Field(description="Probability of each label; empty where the model was not asked.")


class DecisionsAnswer(PredictionAnswer):
    """Decisions in the order of the texts, and by which policy."""

    policy_version: str
    decisions: tuple[DecisionTold, ...]


def _subject(request: DecisionsRequest) -> str:
    first = request.asked[0]
    if first.author_id or first.item_id:
        return str(first.author_id or first.item_id)
    return hashlib.sha256(first.text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _others(request: DecisionsRequest) -> Sequence[str]:
    return [one.author_id for one in request.asked if one.author_id]


def _tell(question: Question, decided: Decided, origin: Origin) -> DecisionsAnswer:
    return DecisionsAnswer(
        policy_version=decided.policy_version,
        decisions=tuple(
            DecisionTold(item_id=asked.item_id, action=one.decision.action, because=one.decision.because,
                         labels=one.labels)
            for asked, one in zip(question.request.asked, decided.texts, strict=True)
        ),
        **origin.told(),
    )  # fmt: skip


def _log(question: Question, decided: Decided, answer: DecisionsAnswer) -> dict[str, Any]:
    """Return what is logged: of each text the decision; the text itself where it is acted upon.

    A person is to read it then, at once or because its author appeals. Of a long text that is the beginning, and where
    the worst lies beyond, the windows in which it does, as the model read them.
    """
    del answer
    told = []
    for asked, one in zip(question.request.asked, decided.texts, strict=True):
        entry: dict[str, Any] = {
            "item_id": asked.item_id,
            "author_id": asked.author_id,
            "action": one.decision.action,
            "because": list(one.decision.because),
            "labels": {label: round(p, 6) for label, p in one.labels.items()},
        }
        if one.decision.action != "allow":
            entry |= _logged_text(asked.text, one.worst)
        told.append(entry)
    return {"policy_version": decided.policy_version, "decisions": told}


def _logged_text(text: str, worst: Sequence[str]) -> dict[str, Any]:
    if len(text) <= _LOGGED_CHARACTERS:
        return {"text": text}
    beginning = text[:_LOGGED_CHARACTERS]
    there = normalise(beginning)
    passages = [_readable(window) for window in worst if window not in there]
    return {
        "text": beginning,
        "passages": passages[:_MOST_PASSAGES],
        "characters": len(text),
        "text_hash": digest(text),  # a text is the same, whichever of its windows another model finds worst
    }


def _readable(window: str) -> str:
    """Return a window with addresses and names as people write them; read again it means the same."""
    text = _ADDRESS.sub(lambda found: "https://" + ".".join(found[1].replace(NAMED, "").split() or ["_"]), window)
    text = _NAME.sub(lambda found: "@" + "_".join(found[1].replace(NAMED, "").split() or ["_"]), text)
    return text.replace(NAMED, "")


def _log_shadow(decided: Decided) -> dict[str, Any]:
    return {
        "policy_version": decided.policy_version,
        "decisions": [
            {"action": one.decision.action, "labels": {label: round(p, 6) for label, p in one.labels.items()}}
            for one in decided.texts
        ],
    }


def _counts(answer: DecisionsAnswer) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for one in answer.decisions:
        name = f"Action_{one.action}"
        counts[name] = counts.get(name, 0) + 1
    return {"Texts": len(answer.decisions), **counts}


def _acted_on(answer: DecisionsAnswer) -> bool:
    return any(one.action != "allow" for one in answer.decisions)


DECISIONS = Endpoint(
    summary="How likely a text, or each of up to 100, has each label, and what is done about it by which policy.",
    request=DecisionsRequest,
    answer=DecisionsAnswer,
    subject=_subject,
    tell=_tell,
    log=_log,
    log_shadow=_log_shadow,
    counts=_counts,
    acted_on=_acted_on,
    others=_others,
)
