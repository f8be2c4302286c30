"""How a system's predictions are asked for and told: what the rails need to know of its verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from twinloop.contracts.api import Arm, PredictionAnswer, PredictionRequest
from twinloop.contracts.history import History
from twinloop.contracts.live import LiveOffsets

if TYPE_CHECKING:
    from twinloop.contracts.system import Knowledge


class Found(Protocol):
    """What a release makes of a question; the rest of it is the system's own."""

    @property
    def degraded(self) -> bool:
        """Whether it is worse than usual."""
        ...


@dataclass(frozen=True)
class Question:
    """A request with what belongs to it before a release is asked.

    Attributes:
        request: Of the endpoint's contract.
        history: What the subject did, oldest first.
        known: What the store says; None where no release asks for it.
        at_ms: The moment, epoch milliseconds.
        preset: Settings of the policy; None where the system has none.
        seed: Of everything that is drawn at random: equal seeds draw equally. Empty: nothing is drawn.
        unseen: Nobody but the log will see what is made of it.
        live: How far off the release that is asked was lately; None where nobody knows.
        others: What the store says of each of `Endpoint.others`, without items; empty where nobody is named.
    """

    request: Any
    history: History
    known: Knowledge | None
    at_ms: int
    preset: str | None
    seed: str
    unseen: bool = False
    live: LiveOffsets | None = None
    others: Mapping[str, Knowledge] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """Where an answer comes from.

    Attributes:
        predictor: The system's own, of the release that answered.
        model_version: That release.
        arm: In which role it did.
        prediction_id: Of the answer.
        degraded: Whether anything was not as usual.
        preset: The settings that were used; None for the baseline, which knows no policy.
        baseline: The trivial baseline answered.
    """

    predictor: Any
    model_version: str
    arm: Arm
    prediction_id: str
    degraded: bool
    preset: str | None
    baseline: bool

    def told(self) -> dict[str, Any]:
        """Return what every answer says of itself: the fields of `PredictionAnswer`."""
        return {
            "model_version": self.model_version,
            "arm": self.arm,
            "prediction_id": self.prediction_id,
            "degraded": self.degraded,
            "preset": self.preset,
        }


def _answer(predictor: Any, question: Question) -> Found:
    found: Found = predictor.answer(question)
    return found


def _base(predictor: Any, question: Question) -> Found:
    found: Found = predictor.base(question)
    return found


def _nothing(told: Any) -> Mapping[str, Any]:
    del told
    return {}


def _never(answer: Any) -> bool:
    del answer
    return False


def _nobody(request: Any) -> Sequence[str]:
    del request
    return ()


@dataclass(frozen=True)
class Endpoint:
    """POST /v1/<system>/<verb>. The rails choose who answers, and log it; the system asks its predictor and tells.

    Attributes:
        summary: What it is for, in a sentence.
        request: The body's contract.
        answer: The answer's.
        subject: Request -> the id of whom or what it is about: its history is read, and it sees one arm.
        tell: (question, found, origin) -> the answer.
        log: (question, found, answer) -> what the log holds of it, beside who asked, who answered and when.
        ask: (predictor, question) -> what the release makes of it; by default its `answer(question)`. Whatever it
            raises, the next release is asked.
        fall_back: The same by the trivial baseline, which runs no model; by default `base(question)`.
        log_shadow: What a shadow made of the question -> what the log holds of that.
        counts: Answer -> what is counted of it, by name.
        acted_on: Answer -> whether somebody acts on its line in the log. Then an answer whose line could not be
            written is marked as degraded.
        others: Request -> ids of users of whom what is known is read in one batch, for requests that are about many.
    """

    summary: str
    request: type[PredictionRequest]
    answer: type[PredictionAnswer]
    subject: Callable[[Any], str]
    tell: Callable[[Question, Any, Origin], PredictionAnswer]
    log: Callable[[Question, Any, Any], Mapping[str, Any]]
    ask: Callable[[Any, Question], Found] = _answer
    fall_back: Callable[[Any, Question], Found] = _base
    log_shadow: Callable[[Any], Mapping[str, Any]] = _nothing
    counts: Callable[[Any], Mapping[str, int]] = _nothing
    acted_on: Callable[[Any], bool] = _never
    others: Callable[[Any], Sequence[str]] = _nobody
