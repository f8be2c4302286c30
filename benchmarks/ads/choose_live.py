"""`--choose-live`: what live calibration would be set to, by days before the test days.

The window and ridges of live calibration were chosen on 27 and 28 April, by this: `logistic`, trained on 25-26 April,
is calibrated live through both days, and trained on 25-27 April through the last one; of all settings whose log loss of
all these showings is within a standard error of the best one's (users resampled), the one whose worst page on either
walk is nearest to as many clicks as came. The test days were not looked at for it.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
from benchmarks.ads.kuairand_days import on_days
from benchmarks.ads.live import calibrated_live
from benchmarks.ads.models import LINEAR
from benchmarks.ads.scores import sliced
from benchmarks.clicks import FIRST_TEST_DAY

from twinloop.evaluation.probability import calibration_ratio, log_losses
from twinloop.systems.ads.features import LIVE as LIVE_SETTINGS

LEAST_OF_A_DAY = 400
WALKS = {20220427: 2, 20220428: 1}  # first day -> how many


def choose_live(work: Path) -> None:
    """Print how settings of live calibration do on the days before the test days, and which one is taken."""
    walks = []
    for first, many in WALKS.items():
        (work / str(first)).mkdir()
        days = on_days(work / str(first), (LINEAR,), first, FIRST_TEST_DAY)
        clicked = days.test.rows.clicked.astype(np.float64)
        slices = sliced(days.test.table, ("page",)).values()
        walks.append((days, clicked, [mine for mine in slices if mine.sum() >= many * LEAST_OF_A_DAY]))
    # Of a user who is in both walks, each has its own release: they are not drawn together.
    users = np.concatenate([days.test.rows.users * len(walks) + n for n, (days, _, _) in enumerate(walks)])
    users = np.unique(users, return_inverse=True)[1]
    rows = {}
    for window, ridge, of_value in itertools.product(
        (3.0, 6.0, 12.0, 24.0, 48.0), (50.0, 200.0, 1000.0), (50.0, 200.0, 500.0, 1000.0)
    ):
        settings = dataclasses.replace(LIVE_SETTINGS, window_hours=window, ridge=ridge, ridge_of_value=of_value)
        found, worst = [], 0.0
        for days, clicked, pages in walks:
            row = calibrated_live(days.test, days.said[LINEAR], settings)
            found.append(log_losses(clicked, row))
            worst = max(worst, *(abs(np.log(calibration_ratio(clicked[mine], row[mine]))) for mine in pages))
        rows[window, ridge, of_value] = np.concatenate(found), worst
    best = min(rows, key=lambda key: rows[key][0].mean())
    draw, many = np.random.default_rng(20260101), int(users.max()) + 1
    worlds = [np.bincount(draw.integers(0, many, many), minlength=many)[users] for _ in range(200)]
    near = {}
    for key, (losses, worst) in sorted(rows.items(), key=lambda row: row[1][0].mean()):
        more = losses - rows[best][0]
        error = float(np.std([np.average(more, weights=world) for world in worlds]))
        if more.mean() <= error:
            near[key] = worst
        print(
            f"{key}: log loss {losses.mean():.5f}, above the best {more.mean():.5f} +- {error:.5f}, worst {worst:.4f}"
        )
    alone = [log_losses(clicked, days.said[LINEAR]) for days, clicked, _ in walks]
    print(f"alone: log loss {np.concatenate(alone).mean():.5f}")
    print(f"window in hours, ridge, ridge of a value: {min(near, key=lambda key: near[key])}")
