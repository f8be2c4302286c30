"""How right what is said of showings is: metrics, slices, and intervals by users drawn anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from benchmarks.ads.models import LINEAR, RUNGS, Row, Tested
from benchmarks.clicks import WORLDS, Floats
from benchmarks.judged import rounded
from numpy.typing import NDArray

from twinloop.evaluation.probability import auc, calibration_ratio, ece, log_loss, log_losses, normalised_entropy
from twinloop.systems.ads.features import slices_of
from twinloop.training.clicks import Rows

LIVE = ", calibrated live"
LEAST = 1000  # showings of a slice that is told


def judged(test: Tested, said: dict[str, Floats], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the metrics of every row, predicted over observed of its slices, and how much better a rung is than LR."""
    clicked = test.rows.clicked.astype(np.float64)
    worlds = users_drawn(test.rows)
    slices = sliced(test.table, names)
    found: dict[str, Any] = {}
    for name, row in said.items():
        drawn = [row @ world / (clicked @ world) for world in worlds]
        found[name] = {
            "log_loss": log_loss(clicked, row),
            "ne": normalised_entropy(clicked, row),
            "auc": auc(clicked, row),
            "ece": ece(clicked, row),
            "predicted / observed": calibration_ratio(clicked, row),
            **interval("predicted / observed", np.array(drawn)),
            "by slice": {
                label: calibration_ratio(clicked[mine], row[mine])
                for label, mine in slices.items()
                if mine.sum() >= LEAST and clicked[mine].any()
            },
        }
    ours = [name for name in said if name.removesuffix(LIVE) in RUNGS]
    for reference in [name for name in said if name not in ours or name == LINEAR]:
        for rung in ours:
            if rung == reference:
                continue
            more = log_losses(clicked, said[reference]) - log_losses(clicked, said[rung])
            found[rung] |= gain_of(f"better than {reference} by", more, worlds)
    sizes = {label: int(mine.sum()) for label, mine in slices.items() if mine.sum() >= LEAST}
    about = {"test": len(clicked), "clicks": int(clicked.sum()), "slices": sizes}
    return about | {"rows": {name: rounded(row) for name, row in found.items()}}


def sliced(table: pd.DataFrame, names: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """Return which showings are in each slice: by facts of the moment, and as the gate calls users' activity."""
    slices: dict[str, NDArray[np.bool_]] = {}
    for name in names:
        if name == "activity":
            shown = table["user_impressions_30d"].tolist()
            values = pd.Series([slices_of({"known": {"user_impressions_30d": of}})[name] for of in shown])
        else:
            values = table[f"context_{name}"].fillna("unknown").reset_index(drop=True)
        slices |= {
            f"{name} {value}".replace('"', ""): (values == value).to_numpy() for value in sorted(values.unique())
        }
    return slices


def users_drawn(rows: Rows) -> list[NDArray[np.int64]]:
    """Return worlds of users drawn anew: in each, how often every showing counts."""
    users = np.unique(rows.users, return_inverse=True)[1]
    draw, many = np.random.default_rng(20260101), int(users.max()) + 1
    return [np.bincount(draw.integers(0, many, many), minlength=many)[users] for _ in range(WORLDS)]


def gain_of(name: str, more: Floats, worlds: list[NDArray[np.int64]]) -> Row:
    """Return the mean of what is more, and its interval."""
    drawn = np.array([np.average(more, weights=world) for world in worlds])
    return {name: float(more.mean())} | interval(name, drawn)


def interval(name: str, drawn: Floats) -> Row:
    """Return the 95 % interval of what was drawn."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {f"{name} low": float(low), f"{name} high": float(high)}
