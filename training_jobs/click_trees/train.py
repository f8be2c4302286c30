"""Boosted trees of clicks: what is known, and how often each id was shown and clicked (Chen and Guestrin, KDD 2016)."""

import os
import sys

from pydantic import Field

from twinloop.training.calibration import sampling_offset
from twinloop.training.click_graph import Shifted, write_click
from twinloop.training.click_trees import fit_trees
from twinloop.training.clicks import ClickConfig, Rows, describe, open_clicks
from twinloop.training.job import Job, run_job


class Config(ClickConfig):
    """Hyperparameters."""

    rounds: int = Field(600, ge=1, le=10_000, description="Trees, at most; validation decides how many.")
    patience: int = Field(30, ge=1, description="Trees that do not help before it ends.")
    eta: float = Field(0.05, gt=0, le=1)
    max_depth: int = Field(5, ge=1, le=12)
    min_child_weight: float = Field(20, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.5, gt=0, le=1)
    prior_weight: float = Field(20.0, gt=0, description="Showings of an id that the rate of all is worth.")


def train(config: Config, job: Job) -> None:
    """Choose the trees on half of validation, calibrate on the other half, fit on all of it, export, prove."""
    clicks = open_clicks(job.snapshot)
    early, choosing, held_out = clicks.parts()
    job.say(describe((early, choosing, held_out)))
    fields = ("eta", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "seed")
    told = {name: getattr(config, name) for name in fields} | {"nthread": os.cpu_count() or 1}
    settings = {"patience": config.patience, "weight": config.prior_weight}
    thin = (config.negatives, config.seed)
    rounds = config.rounds
    if len(choosing):
        # What is held out is thinned as well: its log loss is compared with that of the same kind of rows.
        _, rounds = fit_trees(
            early.thinned(*thin), clicks.buckets, told, rounds=rounds, held_out=choosing.thinned(*thin), **settings
        )
        job.say(f"{rounds} trees were best")

    def fitted(rows: Rows) -> Shifted:
        model, _ = fit_trees(rows.thinned(*thin), clicks.buckets, told, rounds=rounds, **settings)
        return Shifted(model, sampling_offset(config.negatives))

    learnt = Rows.join(early, choosing)
    write_click(
        job,
        config,
        clicks,
        fitted(learnt),
        framework="xgboost",
        held_out=held_out,
        learnt=learnt,
        more={"trees": float(rounds)},
        again=fitted,
    )


if __name__ == "__main__":
    sys.exit(run_job("click_trees", Config, train))
