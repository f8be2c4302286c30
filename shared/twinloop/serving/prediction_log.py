"""What was answered, kept for learning and for watching; losing a line never costs an answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from twinloop.contracts.api import PredictionAnswer, PredictionRequest
from twinloop.ports import Log
from twinloop.serving.breaker import Breaker
from twinloop.serving.presets import Chosen

_LOGGER = logging.getLogger(__name__)
_REST_S = 10.0


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
    """

    def __init__(
        self,
        stream: LineStream | None,
        system: str,
        *,
        logger: Log = _LOGGER,
        breaker: Breaker | None = None,
    ) -> None:
        self._stream = stream
        self._system = system
        self._logger = logger
        self._breaker = breaker or Breaker(_REST_S)

    def write(self, record: Mapping[str, Any]) -> bool:
        """Write one record; returns whether it was taken, and never raises."""
        if self._stream is None or self._breaker.open:
            return False
        try:
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
            lost = self._stream.send(self._system, [line])
        except Exception as error:  # noqa: BLE001 - the log is beside the point of the request
            return self._lost(f"{type(error).__name__}: {error}")
        return self._lost("the stream did not take it") if lost else True

    def _lost(self, why: str) -> bool:
        self._breaker.trip()
        self._logger.warning("prediction not logged", extra={"why": why, "resting_s": _REST_S})
        return False
