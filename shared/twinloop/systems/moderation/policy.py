"""Moderation's rules over what the model says: data with a version, and pure functions of it.

A policy is a JSON file beside the model (`policy.json`); where there is none, the model's own thresholds and the
defaults below are it. Changing it makes a release of the same model, which the registry promotes and rolls back like
any other (`twinloop review policy`): nothing is trained again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from twinloop.contracts.events import LabelName
from twinloop.contracts.model import Contract
from twinloop.contracts.thresholds import LabelTold
from twinloop.errors import BadInputError, IntegrityError
from twinloop.systems.moderation.spec import MEDIA_FILE

Action = Literal["allow", "limit", "review", "remove"]
ACTIONS: tuple[Action, ...] = ("allow", "limit", "review", "remove")
HASH_BITS = 64
MOST_HASHES = 1_000_000

Hashes = NDArray[np.uint64]


class LabelPolicy(Contract):
    """From which probability on a label asks for an action; None: never."""

    limit: float | None = Field(None, ge=0, le=1, description="Shown to fewer people.")
    review: float | None = Field(None, ge=0, le=1, description="A person decides.")
    remove: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _harder_later(self) -> Self:
        given = [value for value in (self.limit, self.review, self.remove) if value is not None]
        if given != sorted(given):
            raise ValueError("limit, review and remove begin at probabilities that do not fall")
        return self

    def action(self, p: float) -> Action:
        """Return the hardest action that a probability asks for."""
        given: dict[Action, float | None] = {"remove": self.remove, "review": self.review, "limit": self.limit}
        return next((action for action, least in given.items() if least is not None and p >= least), "allow")


class AuthorPolicy(Contract):
    """How an author's record counts: from so many violations or reports on, texts are looked at more strictly."""

    violations: int = Field(3, ge=1, description="In 90 days.")
    reports: int = Field(10, ge=1, description="In 7 days.")
    stricter: float = Field(0.5, ge=0, le=5, description="Added to the log-odds of every label, before thresholds.")


class MediaPolicy(Contract):
    """What is done about media that is known to be bad, by perceptual hashes of 64 bits."""

    distance: int = Field(4, ge=0, le=16, description="Bits that may differ from a hash of the list.")
    action: Action = "remove"


class Policy(Contract):
    """What is done about texts. Its version is a hash of all of it."""

    name: str = Field("default", min_length=1, max_length=100)
    labels: dict[LabelName, LabelPolicy] = Field(max_length=100)
    author: AuthorPolicy = Field(default_factory=AuthorPolicy)
    media: MediaPolicy = Field(default_factory=MediaPolicy)
    without_model: Action = Field("review", description="Where no model can say anything of a text.")

    @property
    def version(self) -> str:
        """Return what every decision is stored with: the name and 12 hex digits of the content's SHA-256."""
        return f"{self.name}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]}"


class Decision(NamedTuple):
    """What is done about a text, and why: `because` are labels that ask for it, `media`, `no_model` or `too_long`."""

    action: Action
    because: tuple[str, ...]


def of_thresholds(labels: Mapping[str, LabelTold]) -> Policy:
    """Return the policy that a model's own thresholds make."""
    return Policy(
        labels={
            label: LabelPolicy(
                **{name: told.thresholds[name].at for name in ("limit", "review", "remove") if name in told.thresholds}
            )
            for label, told in labels.items()
        }
    )


def completed(policy: Policy, labels: Mapping[str, LabelTold]) -> Policy:
    """Return a policy that speaks of every label of a model: of those it does not name, by the model's thresholds.

    A label that is named with nothing asks for nothing.
    """
    missing = {label: told for label, told in labels.items() if label not in policy.labels}
    if not missing:
        return policy
    return policy.model_copy(update={"labels": {**policy.labels, **of_thresholds(missing).labels}})


def check_labels(policy: Policy, labels: Collection[str]) -> None:
    """Raises BadInputError where a policy does not speak of exactly the labels of a model."""
    known = ", ".join(labels)
    unknown = sorted(set(policy.labels) - set(labels))
    if unknown:
        raise BadInputError(f"the model knows no label {', '.join(unknown)}; it knows {known}")
    missing = [label for label in labels if label not in policy.labels]
    if missing:
        raise BadInputError(
            f"the policy says nothing of {', '.join(missing)}; where nothing is to be done about a label, say "
            f'"{missing[0]}": {{}}'
        )


def read_policy(body: bytes) -> Policy:
    """Return a policy from JSON; raises BadInputError with the field and the reason."""
    try:
        return Policy.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInputError(f"the policy is not valid: {where}: {first['msg']}") from error


def decide(
    policy: Policy,
    probabilities: Mapping[str, float],
    *,
    violations: float = 0.0,
    reports: float = 0.0,
    cut: bool = False,
) -> Decision:
    """Return what is done about a text that the model says this of; the hardest action of any label counts.

    `cut`: the model has not read its end, so a person does, unless the action is harder anyway.
    """
    strict = violations >= policy.author.violations or reports >= policy.author.reports
    asked: dict[str, Action] = {}
    for label, p in probabilities.items():
        if label in policy.labels:
            asked[label] = policy.labels[label].action(_shifted(p, policy.author.stricter) if strict else p)
    hardest: Action = max(asked.values(), key=ACTIONS.index, default="allow")
    because = () if hardest == "allow" else tuple(sorted(label for label, a in asked.items() if a == hardest))
    decision = Decision(hardest, because)
    return harder(decision, Decision("review", ("too_long",))) if cut else decision


def harder(one: Decision, other: Decision) -> Decision:
    """Return the decision with the harder action, the first of equals."""
    return other if ACTIONS.index(other.action) > ACTIONS.index(one.action) else one


def _shifted(p: float, log_odds: float) -> float:
    odds = p * math.exp(log_odds)  # times 1 - p, which stands in the denominator, too: so 0 and 1 need no rule
    return odds / (1 - p + odds)


def read_hashes(lines: Sequence[str]) -> bytes:
    """Return `media_hashes.bin` of hashes in hexadecimal, one a line; raises BadInputError."""
    found = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                found.add(media_hash(text))
            except BadInputError as error:
                raise BadInputError(f"line {number}: {error}") from error
    if len(found) > MOST_HASHES:
        raise BadInputError(f"{len(found)} hashes; at most {MOST_HASHES} are taken")
    return np.array(sorted(found), "<u8").tobytes()


def media_hash(text: str) -> int:
    """Return a perceptual hash of 64 bits; raises BadInputError for what are not 16 hexadecimal digits."""
    if len(text) != HASH_BITS // 4 or not all(c in "0123456789abcdefABCDEF" for c in text):
        raise BadInputError(f"a media hash is {HASH_BITS // 4} hexadecimal digits, not {text[:40]!r}")
    return int(text, 16)


def unpack_hashes(body: bytes) -> Hashes:
    """Return the hashes of `media_hashes.bin`; raises IntegrityError."""
    if len(body) % 8:
        raise IntegrityError(f"{MEDIA_FILE} is damaged: {len(body)} bytes are no whole number of hashes")
    return np.frombuffer(body, "<u8").astype(np.uint64)


def known_bad(hashes: Hashes, asked: Sequence[int], distance: int) -> frozenset[int]:
    """Return those of the hashes asked about that differ from one of the list in so few bits."""
    if not len(hashes):
        return frozenset()
    return frozenset(one for one in asked if int(np.bitwise_count(hashes ^ np.uint64(one)).min()) <= distance)
