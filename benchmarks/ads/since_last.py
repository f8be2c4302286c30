"""`since_last`: going on from yesterday's champion, beside starting anew and beside that champion.

300,000 simulated events of 28 days: a champion knows all but the last day; the job goes on from it, and starts anew,
one after the other on the same machine. What all three say of the test showings is held side by side, and how fast the
job chose to go on, by log loss of users that it had not learnt from.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import clicks
from benchmarks.ads.models import LINEAR, Row, Tested, says, told, trained
from benchmarks.ads.scores import gain_of, users_drawn
from benchmarks.ads.simulated import simulated_ads
from benchmarks.judged import rounded

from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings
from twinloop.evaluation.probability import log_losses
from twinloop.systems.ads.system import SYSTEM
from twinloop.training.clicks import open_clicks

SINCE_LAST = 300_000  # events


def on_since_last(work: Path, rungs: tuple[str, ...], simulated: int) -> dict[str, Any]:
    """What going on from the champion of a day ago costs and says, against starting anew and against that champion."""
    del rungs, simulated
    world = WorldSettings(days=28)
    raw = simulated_ads(work, world, AdsSettings(events=SINCE_LAST))
    last_day = int(f"{world.end - timedelta(days=1):%Y%m%d}")  # late clicks may come after the end
    before = clicks.snapshot(work / "before", raw, SYSTEM, until=last_day)
    made = clicks.snapshot(work / "made", raw, SYSTEM)
    champion = work / "champion"
    trained(before, champion, LINEAR)
    seconds = {
        "going on": trained(made, work / "on", LINEAR, champion=champion / "click"),
        "from the start": trained(made, work / "anew", LINEAR),
    }
    test = Tested(*told(made, "test"))
    clicked = test.rows.clicked.astype(np.float64)
    losses = {
        name: log_losses(clicked, says(work / folder, test.rows))
        for name, folder in (("from the start", "anew"), ("going on", "on"), ("the champion as it was", "champion"))
    }
    worlds = users_drawn(test.rows)
    found: dict[str, Row] = {}
    for name, mine in losses.items():
        found[name] = {"log_loss": float(mine.mean())}
        if name != "going on":
            found[name] |= gain_of("worse than going on by", mine - losses["going on"], worlds)
    about = {"train": len(open_clicks(made).read("train")), "test": len(clicked), "clicks": int(clicked.sum())}
    times = {"job_s": seconds, "times cheaper": round(seconds["from the start"] / seconds["going on"], 1)}
    metrics = json.loads((work / "on" / "click" / "metrics.json").read_text())
    chosen = {
        name: metrics[name] for name in sorted(metrics) if name.startswith(("learning_rate", "log_loss_at_", "late_"))
    }
    chosen = {"chosen by users not learnt from": rounded(chosen)}
    return about | times | chosen | {"rows": {name: rounded(row) for name, row in found.items()}}
