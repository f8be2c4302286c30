"""From a request for predictions to an answer, whatever of the house is standing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from twinloop.contracts.api import Arm, PredictionAnswer
from twinloop.contracts.endpoint import Endpoint, Found, Origin, Question
from twinloop.errors import UnavailableError
from twinloop.ports import Log
from twinloop.serving.prediction_log import PredictionLog, record
from twinloop.serving.presets import Chosen, choose
from twinloop.serving.reading import Read, Reader
from twinloop.serving.releases import LoadedRelease
from twinloop.serving.routing import in_challenger
from twinloop.serving.slots import Serving, Slots

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Attempt:
    arm: Arm
    release: LoadedRelease
    degraded: bool


@dataclass(frozen=True)
class _Outcome:
    attempt: _Attempt
    found: Found
    baseline: bool


class Answering:
    """Answers requests of one system.

    Args:
        system: Its name.
        endpoint: How its predictors are asked, and what is told.
        slots: What to serve with.
        reader: Where what is known of users and items is read.
        log: Where answers are noted.
        presets: Names of the system's settings of its policy, the default first.
        challenger_share: Share of the users who see the challenger, where there is one.
        preset_mix: Share of the requests that get one of all presets by chance; what presets do can be told from it.
        explore: Whether answers may leave anything to chance.
        new_id: A fresh prediction id.
        now: The moment, with a time zone.
        logger: Is told of everything that did not go as it should.
    """

    def __init__(
        self,
        system: str,
        endpoint: Endpoint,
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
        logger: Log = _LOGGER,
    ) -> None:
        self._system = system
        self._endpoint = endpoint
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

    def answer(self, request: Any) -> PredictionAnswer:
        """Return the answer to a request of the endpoint's contract.

        Raises:
            BadInputError: The request asks for what there is not.
            UnavailableError: Not even the trivial baseline can be read.
        """
        started = time.perf_counter()
        endpoint, prediction_id = self._endpoint, self._new_id()
        subject = endpoint.subject(request)
        seed = f"{subject}\0{prediction_id}" if self._explore and request.explore else ""
        chosen = choose(self._presets, request.preset, seed, self._mix)
        serving = self._slots.current()
        history, whole, known = (
            self._reader.read(subject, known=_asks_known(serving)) if _asks_history(serving) else Read((), whole=True)
        )
        at_ms = request.time_ms if request.time_ms is not None else milliseconds(self._now())
        others = self._reader.others(endpoint.others(request))
        question = Question(request, history, known, at_ms, chosen.name, seed, others=others)
        outcome = self._first_that_answers(question, subject, serving)
        attempt, found = outcome.attempt, outcome.found
        origin = Origin(
            predictor=attempt.release.predictor,
            model_version=attempt.release.version,
            arm=attempt.arm,
            prediction_id=prediction_id,
            degraded=not whole or attempt.degraded or found.degraded,
            preset=None if outcome.baseline else chosen.name,
            baseline=outcome.baseline,
        )
        answer = endpoint.tell(question, found, origin)
        needed = endpoint.acted_on(answer)
        written = self._log.write(
            record(
                self._system,
                request,
                answer,
                endpoint.log(question, found, answer),
                Chosen(None, 1.0, drawn=False) if outcome.baseline else chosen,
                subject=subject,
                at=self._now(),
                shadow=self._shadow(question, serving),
                milliseconds=(time.perf_counter() - started) * 1000,
            ),
            needed=needed,
        )
        return answer if written or not needed else answer.model_copy(update={"degraded": True})

    def _first_that_answers(self, question: Question, subject: str, serving: Serving) -> _Outcome:
        for attempt in self._attempts(subject, serving):
            try:
                found = self._endpoint.ask(attempt.release.predictor, self._live(question, attempt.release, serving))
            except Exception as error:  # noqa: BLE001 - whatever a model does, the next in the chain answers
                self._failed(attempt.release, error)
            else:
                return _Outcome(attempt, found, baseline=False)
        release = self._slots.baseline()
        if release is not None:
            try:
                found = self._endpoint.fall_back(release.predictor, question)
            except Exception as error:  # noqa: BLE001 - the caller is told that nothing can answer
                self._failed(release, error)
            else:
                return _Outcome(_Attempt("control", release, degraded=True), found, baseline=True)
        raise UnavailableError(
            f"there is no model of {self._system!r} that could answer yet; run `twinloop learn {self._system}`"
        )

    def _attempts(self, subject: str, serving: Serving) -> Iterator[_Attempt]:
        champion, challenger = serving.champion, serving.challenger
        tried = False
        if challenger is not None and in_challenger(subject, challenger.experiment, self._share):
            yield _Attempt("challenger", challenger, degraded=False)
            tried = True
        if champion is not None:
            yield _Attempt("champion", champion, degraded=tried or champion.version != serving.wanted)
        standby = self._slots.standby()
        if standby is not None:
            yield _Attempt("control", standby, degraded=True)

    def _live(self, question: Question, release: LoadedRelease, serving: Serving) -> Question:
        """Return the question with what is known of how far off this very release was lately."""
        live = None if serving.live is None else serving.live.offsets(release.version, self._now())
        return question if live is None else replace(question, live=live)

    def _shadow(self, question: Question, serving: Serving) -> dict[str, Any] | None:
        """Ask the shadow the same; nobody sees what it says but the log."""
        shadow = serving.shadow
        if shadow is None:
            return None
        started = time.perf_counter()
        try:
            asked = self._live(replace(question, unseen=True), shadow, serving)
            found = self._endpoint.ask(shadow.predictor, asked)
        except Exception as error:  # noqa: BLE001 - a shadow may fail; that is what it is for
            self._failed(shadow, error)
            return {"model_version": shadow.version, "failed": type(error).__name__}
        return {
            "model_version": shadow.version,
            **self._endpoint.log_shadow(found),
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
    """Say whether more than a history is read: a release wants it, or none is loaded that could say.

    Then the release before, or a baseline, is loaded to answer, and its policy may need what is known.
    """
    releases = serving.releases
    return not releases or any(getattr(release.predictor, "asks_known", False) for release in releases)


def _asks_history(serving: Serving) -> bool:
    """Say whether anything need be read of who asks: not where every release says that it depends on nobody's past."""
    releases = serving.releases
    return not releases or any(getattr(release.predictor, "asks_history", True) for release in releases)
