"""DCN-v2 of clicks: vectors of hashed ids and known features, crossed (Wang et al., WWW 2021)."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from pydantic import Field

from twinloop.training.calibration import sampling_offset
from twinloop.training.click_graph import Shifted, write_click
from twinloop.training.clicks import ClickConfig, Rows, describe, open_clicks
from twinloop.training.cross_network import Learner, Shape, best_epochs
from twinloop.training.job import Job, run_job


class Config(ClickConfig):
    """Hyperparameters."""

    dim: int = Field(8, ge=1, le=128, description="Of an id's vector.")
    crosses: int = Field(2, ge=1, le=8, description="Cross layers.")
    hidden: int = Field(64, ge=1, le=2_048, description="Width of the deep layers.")
    dropout: float = Field(0.0, ge=0, lt=1)
    least: int = Field(3, ge=1, description="Times that an id must have been met to have a vector of its own.")
    hide: float = Field(0.0, ge=0, lt=1, description="Share of ids that training hides, so that unknown ones mean it.")
    learning_rate: float = Field(2e-3, gt=0, le=1)
    weight_decay: float = Field(1e-2, ge=0)
    ridge: float = Field(600.0, ge=0, description="Of an id's vector, however often it was met.")
    ridge_plain: float = Field(60.0, ge=0, description="Of an id's own weight.")
    weaker: float = Field(0.1, ge=0, le=1, description="Share of both ridges, taken where it helps. 1: not tried.")
    batch: int = Field(1_024, ge=16, le=65_536, description="Impressions in a step, at most.")
    epoch_rows: int = Field(1_000_000, ge=1, description="Impressions in an epoch, at most.")
    epochs: int = Field(15, ge=1, le=1_000, description="At most; validation decides how many.")
    patience: int = Field(2, ge=1, description="Epochs without gain before it ends.")
    half_life_days: float = Field(
        4.0, ge=0, le=3_650, description="Of an impression's weight; taken where it helps on validation. 0: not tried."
    )
    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")

    def shape(self) -> Shape:
        """Return the settings of the network."""
        named = ("dim", "crosses", "hidden", "dropout", "least", "hide")
        named += ("learning_rate", "weight_decay", "ridge", "ridge_plain", "batch", "patience")
        return Shape(rows=self.epoch_rows, **{name: getattr(self, name) for name in named})

    def others(self, shape: Shape) -> Iterator[Callable[[Shape], Shape]]:
        """Yield what is tried beside the shape, one after the other, each on top of what helped before."""
        if self.half_life_days:
            yield lambda before: replace(before, half_life_days=self.half_life_days)
        if self.weaker < 1:
            weak, plain = self.weaker * shape.ridge, self.weaker * shape.ridge_plain
            yield lambda before: replace(before, ridge=weak, ridge_plain=plain)


def train(config: Config, job: Job) -> None:
    """Choose epochs, half-life and ridge on half of validation, calibrate on the other, fit on all, export, prove."""
    torch.set_num_threads(config.threads)
    clicks = open_clicks(job.snapshot)
    early, choosing, held_out = clicks.parts()
    job.say(describe((early, choosing, held_out)))
    offset, thin = sampling_offset(config.negatives), (config.negatives, config.seed)
    shape = config.shape()
    epochs = max(config.epochs // 4, 1)  # where nothing tells how many help: fewer forget less than more invent
    least = float("inf")
    for changed in (lambda before: before, *config.others(shape)) if len(choosing) else ():
        tried = changed(shape)
        job.say(f"half-life of {tried.half_life_days:g} days (0: none), ridge {tried.ridge:g}")
        trial = Learner(early.thinned(*thin), clicks.buckets, tried, seed=config.seed)
        many, loss = best_epochs(
            trial, choosing, epochs=config.epochs, patience=config.patience, offset=offset, say=job.say
        )
        if loss < least:
            epochs, shape, least = many, tried, loss

    def fitted(rows: Rows) -> Shifted:
        learner = Learner(rows.thinned(*thin), clicks.buckets, shape, seed=config.seed)
        for _ in range(epochs):
            learner.epoch()
        job.say(f"fitted {len(rows)} impressions for {epochs} epochs")
        return Shifted(learner, offset)

    learnt = Rows.join(early, choosing)
    write_click(
        job,
        config,
        clicks,
        fitted(learnt),
        framework="torch",
        held_out=held_out,
        learnt=learnt,
        more={"epochs": float(epochs), "half_life_days": shape.half_life_days, "ridge": shape.ridge},
        again=fitted,
    )


if __name__ == "__main__":
    sys.exit(run_job("cross_network", Config, train))
