"""What was answered, kept for learning and for watching; losing a line never costs an answer.

Where somebody acts on a line, as on what waits for people, its loss is not silent: it is tried a few times whatever
failed before, and whoever writes it is told.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from twinloop.contracts.api import PredictionAnswer, PredictionRequest
from twinloop.ports import Log
from twinloop.serving.breaker import Breaker
from twinloop.serving.presets import Chosen

_LOGGER = logging.getLogger(__name__)
_REST_S = 10.0
_WAITS_S = (0.05, 0.2)  # before a line that is needed is sent again
_LONGEST_S = 1.0  # a stream that takes longer to fail is not asked again: somebody waits for the answer


class LineStream(Protocol):
    """Where lines go on their way to `predictions/`."""

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        """Send JSON lines; returns the positions of those that were not taken."""
        ...


def record(
    system: str,
    request: PredictionRequest,
    answer: PredictionAnswer,
    told: Mapping[str, Any],
    chosen: Chosen,
    *,
    subject: str,
    at: datetime,
    shadow: Mapping[str, Any] | None,
    milliseconds: float,
) -> dict[str, Any]:
    """Return what is logged of an answer: `told` is what the system says of it.

    `preset.drawn`: the policy chose the preset, with `preset.propensity`; otherwise the request named it, or asked for
    nothing to be tried.
    """
    return {
        "prediction_id": answer.prediction_id,
        "time": at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "system": system,
        "user_id": subject,
        "context": request.context,
        "arm": answer.arm,
        "model_version": answer.model_version,
        "degraded": answer.degraded,
        "preset": {"name": chosen.name, "propensity": chosen.propensity, "drawn": chosen.drawn},
        **told,
        "shadow": shadow,
        "milliseconds": round(milliseconds, 3),
    }


class PredictionLog:
    """Writes one JSON line per answer.

    Args:
        stream: None where no log is wanted.
        system: Whose predictions.
        logger: Is told of lines that were lost.
        breaker: Decides when a stream that failed is tried again.
        sleep: Waits for so many seconds.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        stream: LineStream | None,
        system: str,
        *,
        logger: Log = _LOGGER,
        breaker: Breaker | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._system = system
        self._logger = logger
        self._breaker = breaker or Breaker(_REST_S)
        self._sleep = sleep
        self._clock = clock

    def write(self, record: Mapping[str, Any], *, needed: bool = False) -> bool:
        """Write one record; returns whether nothing is lost (it was taken, or no log is wanted), and never raises.

        `needed`: somebody acts on this line. It is sent whether or not the stream failed just before, and again after
        .05 and .2 seconds, unless a second has gone by.
        """
        if self._stream is None:
            return True
        if self._breaker.open and not needed:
            return False
        try:
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        except Exception as error:  # noqa: BLE001 - the log is beside the point of the request
            return self._lost(f"{type(error).__name__}: {error}")
        started, why = self._clock(), ""
        for wait in (0.0, *_WAITS_S) if needed else (0.0,):
            if wait:
                if self._clock() - started + wait > _LONGEST_S:
                    break
                self._sleep(wait)
            why = self._failed(self._stream, line)
            if not why:
                return True
        return self._lost(why)

    def _failed(self, stream: LineStream, line: bytes) -> str:
        """Send a line; returns why it was not taken, empty where it was."""
        try:
            return "the stream did not take it" if stream.send(self._system, [line]) else ""
        except Exception as error:  # noqa: BLE001 - as above
            return f"{type(error).__name__}: {error}"

    def _lost(self, why: str) -> bool:
        self._breaker.trip()
        self._logger.warning("prediction not logged", extra={"why": why, "resting_s": _REST_S})
        return False
