"""The registry as rows that a command line or a page can show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from twinloop.errors import IntegrityError, NotFoundError
from twinloop.registry import names
from twinloop.registry.aliases import Move
from twinloop.registry.registry import Registry


@dataclass(frozen=True)
class Measured:
    """A metric's mean over the judged cases and its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class ReleaseRow:
    """One release: what it is, who points to it, how it was judged, and why it came or did not come to serve.

    `why` is the reason of the latest move that brought an alias here; otherwise the verdict when it was judged;
    for a release that cannot be read, the fault.
    """

    version: str
    rung: str
    created_at: datetime | None
    aliases: tuple[str, ...]
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    latency_p99_ms: float | None = None
    size_mb: float | None = None
    why: str = ""
    usable: bool = True


def release_rows(registry: Registry) -> list[ReleaseRow]:
    """Return every release, newest first."""
    pointing: dict[str, list[str]] = {}
    for alias in names.ALIASES:
        if state := registry.alias(alias):
            pointing.setdefault(state.version, []).append(alias)
    # A champion that stays, and `previous` moves, has not arrived.
    arrivals = {move.version: move for move in registry.history() if move.version and move.version != move.came_from}
    return [_row(registry, version, pointing.get(version, []), arrivals) for version in reversed(registry.versions())]


def _row(registry: Registry, version: str, aliases: list[str], arrivals: Mapping[str, Move]) -> ReleaseRow:
    try:
        manifest = registry.release(version)
        metrics = _metrics_file(registry, version)
    except IntegrityError as error:
        return ReleaseRow(version, "?", None, tuple(aliases), why=str(error), usable=False)
    arrived = arrivals.get(version) if aliases else None
    return ReleaseRow(
        version=version,
        rung=manifest.rung,
        created_at=manifest.created_at,
        aliases=tuple(aliases),
        metrics=_measured(metrics.get("metrics")) or {n: Measured(v, v, v) for n, v in manifest.metrics.items()},
        latency_p99_ms=_number(metrics.get("latency_p99_ms")),
        size_mb=_number(metrics.get("size_mb")),
        why=arrived.why if arrived else manifest.verdict,
    )


def _metrics_file(registry: Registry, version: str) -> dict[str, Any]:
    try:
        found = json.loads(registry.release_file(version, "metrics.json"))
    except (NotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _measured(metrics: object) -> dict[str, Measured]:
    if not isinstance(metrics, dict):
        return {}
    found = {}
    for name, entry in metrics.items():
        values = [_number(entry.get(part)) for part in ("mean", "low", "high")] if isinstance(entry, dict) else [None]
        if None not in values:
            found[str(name)] = Measured(*(value for value in values if value is not None))
    return found


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
