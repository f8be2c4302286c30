"""From a request for recommendations to an answer, whatever of the house is standing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from twinloop.contracts.api import Arm, ReasonGiven, RecommendationsAnswer, RecommendationsRequest, RecommendedItem
from twinloop.contracts.history import History
from twinloop.contracts.system import Asked, Knowledge, Ranked, Reason
from twinloop.errors import UnavailableError
from twinloop.serving.prediction_log import PredictionLog, record
from twinloop.serving.presets import Chosen, choose
from twinloop.serving.reading import Reader
from twinloop.serving.releases import LoadedRelease
from twinloop.serving.routing import in_challenger
from twinloop.serving.slots import Serving, Slots

_LOGGER = logging.getLogger(__name__)


class ItemPredictor(Protocol):
    """What a system that recommends items makes of a release."""

    def rank(self, history: History, exclude: Sequence[str], limit: int, *, at_ms: int, asked: Asked) -> Ranked:
        """Rank for a user who did this and asks at a moment; never returns excluded or seen items.

        A predictor whose `asks_known` is true is given `known`, a Knowledge, as well.
        """
        ...

    def popular(self, history: History, exclude: Sequence[str], limit: int) -> Ranked:
        """Return the trivial baseline's list; runs no model."""
        ...

    def title(self, item_id: str) -> str | None:
        """Return an item's title where it has one."""
        ...


@dataclass(frozen=True)
class _Attempt:
    arm: Arm
    release: LoadedRelease
    degraded: bool


@dataclass(frozen=True)
class _Question:
    """A request with what belongs to it before a model is asked."""

    request: RecommendationsRequest
    history: History
    known: Knowledge | None
    at_ms: int
    asked: Asked


@dataclass(frozen=True)
class _Outcome:
    attempt: _Attempt
    ranked: Ranked
    baseline: bool
    known: bool  # whether the user has a history


class Recommender:
    """Answers requests of one system.

    Args:
        system: Its name.
        slots: What to serve with.
        reader: Where what is known of users and items is read.
        log: Where answers are noted.
        presets: Names of the system's settings of re-ranking, the default first.
        challenger_share: Share of the users who see the challenger, where there is one.
        preset_mix: Share of the requests that get one of all presets by chance; what presets do can be told from it.
        explore: Whether lists may hold items to be tried out.
        new_id: A fresh prediction id.
        now: The moment, with a time zone.
        logger: Is told of everything that did not go as it should.
    """

    def __init__(
        self,
        system: str,
        slots: Slots,
        reader: Reader,
        log: PredictionLog,
        *,
        presets: Sequence[str] = (),
        challenger_share: float = 0.1,
        preset_mix: float = 0.0,
        explore: bool = True,
        new_id: Callable[[], str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        logger: logging.Logger = _LOGGER,
    ) -> None:
        self._system = system
        self._slots = slots
        self._reader = reader
        self._log = log
        self._presets = tuple(presets)
        self._share = challenger_share
        self._mix = preset_mix
        self._explore = explore
        self._new_id = new_id
        self._now = now
        self._logger = logger

    def recommend(self, request: RecommendationsRequest) -> RecommendationsAnswer:
        """Return the answer.

        Raises:
            BadInputError: The request asks for what there is not.
            UnavailableError: Not even a list of popular items can be read.
        """
        started = time.perf_counter()
        prediction_id = self._new_id()
        seed = f"{request.user_id}\0{prediction_id}" if self._explore and request.explore else ""
        chosen = choose(self._presets, request.preset, seed, self._mix)
        serving = self._slots.current()
        history, whole, known = self._reader.read(request.user_id, known=_asks_known(serving))
        at_ms = request.time_ms if request.time_ms is not None else milliseconds(self._now())
        asked = Asked(chosen.name, seed, request.context, "reasons" in request.include)
        question = _Question(request, history, known, at_ms, asked)
        outcome = self._first_that_answers(question, serving)
        answer = self._answer(question, outcome, prediction_id, degraded=not whole)
        self._log.write(
            record(
                self._system,
                request,
                answer,
                outcome.ranked,
                Chosen(None, 1.0, drawn=False) if outcome.baseline else chosen,
                at=self._now(),
                history_events=len(history),
                shadow=self._shadow(question, serving.shadow),
                milliseconds=(time.perf_counter() - started) * 1000,
            )
        )
        return answer

    def _first_that_answers(self, question: _Question, serving: Serving) -> _Outcome:
        request, history = question.request, question.history
        for attempt in self._attempts(request.user_id, serving):
            try:
                ranked = _ranked(attempt.release, question)
            except Exception as error:  # noqa: BLE001 - whatever a model does, the next in the chain answers
                self._failed(attempt.release, error)
            else:
                return _Outcome(attempt, ranked, baseline=False, known=bool(history))
        release = self._slots.baseline()
        if release is not None:
            try:
                ranked = release.predictor.popular(history, request.exclude, request.limit)
            except Exception as error:  # noqa: BLE001 - the caller is told that nothing can answer
                self._failed(release, error)
            else:
                return _Outcome(_Attempt("control", release, degraded=True), ranked, baseline=True, known=bool(history))
        raise UnavailableError(
            f"there is no model of {self._system!r} that could answer yet; run `twinloop learn {self._system}`"
        )

    def _attempts(self, user_id: str, serving: Serving) -> Iterator[_Attempt]:
        champion, challenger = serving.champion, serving.challenger
        tried = False
        if challenger is not None and in_challenger(user_id, challenger.version, self._share):
            yield _Attempt("challenger", challenger, degraded=False)
            tried = True
        if champion is not None:
            yield _Attempt("champion", champion, degraded=tried or champion.version != serving.wanted)
        standby = self._slots.standby()
        if standby is not None:
            yield _Attempt("control", standby, degraded=True)

    def _answer(
        self, question: _Question, outcome: _Outcome, prediction_id: str, *, degraded: bool
    ) -> RecommendationsAnswer:
        attempt, ranked, include = outcome.attempt, outcome.ranked, question.request.include
        title = attempt.release.predictor.title
        usual: Any = "popular" if outcome.baseline or ranked.cold else "history"
        items = tuple(
            RecommendedItem(
                item_id=item_id,
                rank=place + 1,
                score=score,
                p_click=ranked.p_click[place] if ranked.p_click else None,
                watch_s=ranked.watch_s[place] if ranked.watch_s else None,
                title=title(item_id) if "titles" in include else None,
                reason=None if "reasons" not in include else "new" if any(ranked.tried[place : place + 1]) else usual,
                reasons=_given(ranked.reasons[place]) if ranked.reasons else None,
            )
            for place, (item_id, score) in enumerate(zip(ranked.ids, ranked.scores.tolist(), strict=True))
        )
        return RecommendationsAnswer(
            items=items,
            model_version=attempt.release.version,
            arm=attempt.arm,
            prediction_id=prediction_id,
            degraded=degraded or attempt.degraded or ranked.degraded,
            cold=ranked.cold and not (outcome.baseline and outcome.known),
            preset=None if outcome.baseline else question.asked.preset,
        )

    def _shadow(self, question: _Question, shadow: LoadedRelease | None) -> dict[str, Any] | None:
        """Ask the shadow the same; nobody sees what it says but the log."""
        if shadow is None:
            return None
        started = time.perf_counter()
        try:
            ranked = _ranked(shadow, replace(question, asked=replace(question.asked, reasons=False)))
        except Exception as error:  # noqa: BLE001 - a shadow may fail; that is what it is for
            self._failed(shadow, error)
            return {"model_version": shadow.version, "failed": type(error).__name__}
        return {
            "model_version": shadow.version,
            "items": [list(pair) for pair in zip(ranked.ids, ranked.scores.tolist(), strict=True)],
            "milliseconds": round((time.perf_counter() - started) * 1000, 3),
        }

    def _failed(self, release: LoadedRelease, error: Exception) -> None:
        self._logger.error(
            "release did not answer", extra={"version": release.version, "why": f"{type(error).__name__}: {error}"}
        )


def milliseconds(moment: datetime) -> int:
    """Return a moment with a time zone as epoch milliseconds."""
    return int(moment.timestamp() * 1000)


def _asks_known(serving: Serving) -> bool:
    """Say whether any release that may be asked wants more than a history."""
    releases = (serving.champion, serving.challenger, serving.shadow)
    return any(release is not None and _wants(release) for release in releases)


def _wants(release: LoadedRelease) -> bool:
    return bool(getattr(release.predictor, "asks_known", False))  # who asks for nothing need not say so


def _ranked(release: LoadedRelease, question: _Question) -> Ranked:
    request = question.request
    more = {"known": question.known} if _wants(release) else {}
    ranked: Ranked = release.predictor.rank(
        question.history, request.exclude, request.limit, at_ms=question.at_ms, asked=question.asked, **more
    )
    return ranked


def _given(reasons: Sequence[Reason]) -> tuple[ReasonGiven, ...]:
    return tuple(ReasonGiven(code=r.code, text=r.text, item_id=r.item_id, weight=r.weight) for r in reasons)
