"""The parts by name, and what was measured of them."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.ads.gate import on_kuairand_gate
from benchmarks.ads.kuairand_days import on_kuairand
from benchmarks.ads.models import RUNGS
from benchmarks.ads.open_bandit import on_open_bandit
from benchmarks.ads.simulated import on_simulated
from benchmarks.ads.since_last import on_since_last

FRESH = 20260111  # a seed of its own: nothing was developed on that world
SIMULATED = 1_000_000
PARTS: dict[str, Callable[[Path, tuple[str, ...], int], dict[str, Any]]] = {
    "kuairand": on_kuairand,
    "kuairand_gate": on_kuairand_gate,
    "simulated": on_simulated,
    "simulated_few": functools.partial(
        on_simulated, users=50, items=50, click_rate=0.1, taste_turn_days=3_600.0, seed=FRESH
    ),
    "since_last": on_since_last,
    "open_bandit": on_open_bandit,
}


def measure(
    only: list[str] | None = None,
    rungs: tuple[str, ...] = RUNGS,
    *,
    simulated: int = SIMULATED,
    work: Path | None = None,
) -> dict[str, Any]:
    """Return what was measured by data set; of one that is missing, why."""
    found: dict[str, Any] = {"command": "python -m benchmarks.ads", "systems": ["ads"]}
    for name in only or PARTS:
        with _folder(work, name) as folder:
            found[name] = PARTS[name](folder, rungs, simulated)
            print(json.dumps({name: found[name]}, indent=1), flush=True)
    return found


@contextlib.contextmanager
def _folder(work: Path | None, name: str) -> Iterator[Path]:
    """A new folder of this name in `work`; where there is none, one that is gone afterwards."""
    if work is not None:
        (work / name).mkdir(parents=True)
        yield work / name
        return
    with tempfile.TemporaryDirectory(prefix="ads-") as folder:
        yield Path(folder)
