"""From a request for recommendations to an answer, whatever of the house is standing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from twinloop.contracts.api import Arm, RecommendationsAnswer, RecommendationsRequest, RecommendedItem
from twinloop.contracts.history import History
from twinloop.contracts.system import Ranked
from twinloop.errors import BadInputError, TwinloopError, UnavailableError
from twinloop.serving.breaker import Breaker
from twinloop.serving.prediction_log import PredictionLog
from twinloop.serving.releases import LoadedRelease
from twinloop.serving.routing import in_challenger
from twinloop.serving.slots import Serving, Slots

_LOGGER = logging.getLogger(__name__)
_STORE_REST_S = 2.0


class ItemPredictor(Protocol):
    """What a system that recommends items makes of a release."""

    def rank(self, history: History, exclude: Sequence[str], limit: int, *, at_ms: int) -> Ranked:
        """Rank for a user who did this and asks at a moment; never returns excluded or seen items."""
        ...

    def popular(self, history: History, exclude: Sequence[str], limit: int) -> Ranked:
        """Return the trivial baseline's list; runs no model."""
        ...

    def title(self, item_id: str) -> str | None:
        """Return an item's title where it has one."""
        ...


class HistoryReader(Protocol):
    """The online store, as far as it is needed here."""

    def history(self, system: str, user_id: str) -> History:
        """Return what is known of the user, oldest first; raises TwinloopError."""
        ...


@dataclass(frozen=True)
class _Attempt:
    arm: Arm
    release: LoadedRelease
    degraded: bool


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
        store: The users' histories; None where there is no store.
        log: Where answers are noted.
        challenger_share: Share of the users who see the challenger, where there is one.
        new_id: A fresh prediction id.
        now: The moment, with a time zone.
        logger: Is told of everything that did not go as it should.
    """

    def __init__(
        self,
        system: str,
        slots: Slots,
        store: HistoryReader | None,
        log: PredictionLog,
        *,
        challenger_share: float = 0.1,
        new_id: Callable[[], str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        logger: logging.Logger = _LOGGER,
    ) -> None:
        self._system = system
        self._slots = slots
        self._store = store
        self._log = log
        self._share = challenger_share
        self._new_id = new_id
        self._now = now
        self._logger = logger
        self._store_rest = Breaker(_STORE_REST_S)

    def recommend(self, request: RecommendationsRequest) -> RecommendationsAnswer:
        """Return the answer; raises UnavailableError where not even a list of popular items can be read."""
        started = time.perf_counter()
        history, known = self._history(request.user_id)
        serving = self._slots.current()
        outcome = self._first_that_answers(request, history, serving)
        answer = self._answer(request, outcome, degraded=not known)
        self._log.write(
            {
                "prediction_id": answer.prediction_id,
                "time": self._now().astimezone(UTC).isoformat(timespec="milliseconds"),
                "system": self._system,
                "user_id": request.user_id,
                "context": request.context,
                "arm": answer.arm,
                "model_version": answer.model_version,
                "degraded": answer.degraded,
                "cold": answer.cold,
                "history_events": len(history),
                "items": [[item.item_id, item.score] for item in answer.items],
                "shadow": self._shadow(request, history, serving.shadow),
                "milliseconds": round((time.perf_counter() - started) * 1000, 3),
            }
        )
        return answer

    def _history(self, user_id: str) -> tuple[History, bool]:
        """Return the user's history, and whether that is what the store says."""
        if self._store is None or self._store_rest.open:
            return (), False
        try:
            return self._store.history(self._system, user_id), True
        except BadInputError:
            raise
        except TwinloopError as error:
            if isinstance(error, UnavailableError):
                self._store_rest.trip()
            self._logger.warning("history not read", extra={"why": str(error)})
            return (), False

    def _first_that_answers(self, request: RecommendationsRequest, history: History, serving: Serving) -> _Outcome:
        for attempt in self._attempts(request.user_id, serving):
            try:
                ranked = self._rank(attempt.release, request, history)
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

    def _rank(self, release: LoadedRelease, request: RecommendationsRequest, history: History) -> Ranked:
        at_ms = request.time_ms if request.time_ms is not None else int(self._now().timestamp() * 1000)
        ranked: Ranked = release.predictor.rank(history, request.exclude, request.limit, at_ms=at_ms)
        return ranked

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

    def _answer(self, request: RecommendationsRequest, outcome: _Outcome, *, degraded: bool) -> RecommendationsAnswer:
        attempt, ranked = outcome.attempt, outcome.ranked
        with_titles, with_reasons = "titles" in request.include, "reasons" in request.include
        title = attempt.release.predictor.title
        reason: Any = "popular" if outcome.baseline or ranked.cold else "history"
        items = tuple(
            RecommendedItem(
                item_id=item_id,
                rank=rank,
                score=score,
                title=title(item_id) if with_titles else None,
                reason=reason if with_reasons else None,
            )
            for rank, (item_id, score) in enumerate(zip(ranked.ids, ranked.scores.tolist(), strict=True), 1)
        )
        return RecommendationsAnswer(
            items=items,
            model_version=attempt.release.version,
            arm=attempt.arm,
            prediction_id=self._new_id(),
            degraded=degraded or attempt.degraded or ranked.degraded,
            cold=ranked.cold and not (outcome.baseline and outcome.known),
        )

    def _shadow(
        self, request: RecommendationsRequest, history: History, shadow: LoadedRelease | None
    ) -> dict[str, Any] | None:
        """Ask the shadow the same; nobody sees what it says but the log."""
        if shadow is None:
            return None
        started = time.perf_counter()
        try:
            ranked = self._rank(shadow, request, history)
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
