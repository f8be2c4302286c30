"""Live calibration, made: what releases said lately, what came of it, and the offsets that serving is to add."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from twinloop.contracts.live import MOST_VERSIONS, LiveCalibration, LiveOffsets, LiveSettings, live_key
from twinloop.contracts.model import Contract
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.monitoring.calibration import fit
from twinloop.monitoring.matured import MOST_BYTES, Showings, matured
from twinloop.ports import ObjectStore


class LogRead(Contract):
    """What was read of the prediction log; see `matured.Read`."""

    objects: int = Field(ge=0)
    size: int = Field(ge=0, description="Bytes.")
    lines: int = Field(ge=0, description="Answers that could be used.")
    left_out: int = Field(ge=0, description="Answers of a fallback, or degraded, or that do not say what a model said.")
    damaged: int = Field(ge=0, description="Lines that are no answers.")
    whole: bool = Field(description="False: there is more of the window than may be read.")


class LiveAnswer(Contract):
    """What the function `monitor` answers."""

    calibration: LiveCalibration
    log: LogRead


def calibrate(
    system: System,
    objects: ObjectStore,
    *,
    now: datetime,
    memory_mb: int = 1024,
    threads: int = 2,
    most_bytes: int = MOST_BYTES,
) -> LiveAnswer:
    """Write `live/<system>/calibration.json`, and return it with what it is made of.

    Where nothing is known yet it has no releases in it, and serving adds nothing.

    Args:
        system: One whose predictions are calibrated live.
        objects: Where `lake/` and `predictions/` are, and `live/` goes.
        now: The moment, with a time zone.
        memory_mb: What DuckDB may use.
        threads: For DuckDB.
        most_bytes: Of the prediction log.

    Raises:
        BadInputError: The system is not calibrated live, or the lake's events lack a column.
        UnavailableError: The store does not answer.
    """
    settings = None if system.predictions is None else system.predictions.live
    if settings is None:
        raise BadInputError(f"{system.spec.name} says of no prediction that it is calibrated live (`Predictions.live`)")
    with tempfile.TemporaryDirectory(prefix="monitor-") as work:
        resources = {"memory_mb": memory_mb, "threads": threads, "most_bytes": most_bytes}
        showings, read = matured(system, objects, settings, now=now, work=Path(work), **resources)
    latest = sorted(showings, key=lambda version: (-int(showings[version].times_ms.max()), version))[:MOST_VERSIONS]
    made = LiveCalibration(
        system=system.spec.name,
        label=settings.label,
        made_at=now,
        versions={version: offsets(showings[version], settings) for version in sorted(latest)},
    )
    objects.write(live_key(made.system), made.model_dump_json().encode(), content_type="application/json")
    return LiveAnswer(calibration=made, log=LogRead(**asdict(read)))


def offsets(of: Showings, settings: LiveSettings) -> LiveOffsets:
    """Return how far off a release was in at least one showing."""
    found = fit(of.said, of.came, of.facts, settings)
    return LiveOffsets(
        since=datetime.fromtimestamp(int(of.times_ms.min()) / 1000, UTC),
        until=datetime.fromtimestamp(int(of.times_ms.max()) / 1000, UTC),
        rows=len(of.came),
        positives=int(of.came.sum()),
        expected=round(float(of.said.sum()), 3),
        offset=found.offset,
        by={fact: dict(values) for fact, values in found.by.items()},
    )
