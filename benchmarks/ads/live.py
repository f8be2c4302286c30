"""Live calibration over days of showings: at the beginning of every hour, by what was clicked until then."""

from __future__ import annotations

import json

import numpy as np
from benchmarks.ads.models import Tested
from benchmarks.clicks import Floats

from twinloop.contracts.live import LiveSettings
from twinloop.contracts.segments import segment_value
from twinloop.monitoring.calibration import shifted
from twinloop.monitoring.live import offsets
from twinloop.monitoring.matured import Showings
from twinloop.systems.ads.system import SYSTEM

HOUR_MS = 3_600_000


def calibrated_live(test: Tested, said: Floats, settings: LiveSettings) -> Floats:
    """Return what would have been said with offsets made every hour, of showings whose outcome was known by then."""
    assert SYSTEM.outcomes is not None
    times, came, moved = test.rows.times, test.rows.clicked.astype(np.float64), said.copy()
    told_of = [name for name in settings.facts if f"context_{name}" in test.table]
    facts = {name: [_fact(value) for value in test.table[f"context_{name}"]] for name in told_of}
    contexts = [dict(zip(told_of, values, strict=True)) for values in zip(*facts.values(), strict=True)]
    for now in range(int(times.min() // HOUR_MS) * HOUR_MS, int(times.max()) + 1, HOUR_MS):
        until = now - SYSTEM.outcomes.window_ms
        past = np.flatnonzero((times <= until) & (times > until - settings.window_ms))
        if not len(past):
            continue
        known = {name: [values[place] for place in past.tolist()] for name, values in facts.items()}
        made = offsets(Showings(said[past], came[past], times[past], known), settings)
        for place in np.flatnonzero((times >= now) & (times < now + HOUR_MS)).tolist():
            moved[place] = shifted(said[place], made.of(contexts[place]))
    return moved


def _fact(value: object) -> str | None:
    """Return a fact of the context, JSON text, as serving has it."""
    return segment_value(json.loads(value)) if isinstance(value, str) else None
