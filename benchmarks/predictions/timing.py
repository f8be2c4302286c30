"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def percentiles(
    call: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median and the 99th percentile of so many calls, in ms, after 20 that do not count."""
    for _ in range(20):
        call()
    taken = []
    for _ in range(times):
        started = clock()
        call()
        taken.append((clock() - started) * 1000)
    return {f"p{q}_ms": round(float(np.percentile(taken, q)), 3) for q in (50, 99)}
