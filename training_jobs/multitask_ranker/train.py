"""What becomes of a video that is shown (click, long watch, seconds), beside the sources and trees of xgboost_trees."""

import sys

import torch
from pydantic import Field

from twinloop.contracts.signature import ENGAGEMENT
from twinloop.training import two_tower
from twinloop.training.artefact import Component, prove_parity, session, write_component
from twinloop.training.catalogue import read_catalogue
from twinloop.training.impressions import read_impressions
from twinloop.training.job import Job, run_job
from twinloop.training.multitask import Shape, duration_column, fit, situation_offsets
from twinloop.training.multitask_graph import compare, engagement_graph
from twinloop.training.ranker import TreesConfig
from twinloop.training.snapshot import read_snapshot
from twinloop.training.sources import MAX_ITEMS
from twinloop.training.taste import Content, TasteShape
from twinloop.training.towers import write_towers
from twinloop.training.trees import write_trees


class Config(TreesConfig):
    """Hyperparameters: those of the trees, and of the network."""

    dim: int = Field(16, ge=4, le=128, multiple_of=4, description="Of an item's vector; a multiple of the four heads.")
    length: int = Field(50, ge=1, le=1_000, description="Latest likes of a history that count.")
    own_items: int = Field(200_000, ge=1, description="Items with a vector of their own: those liked most.")
    experts: int = Field(3, ge=1, le=16)
    hidden: int = Field(64, ge=4, le=1_024, description="Width of an expert.")
    dropout: float = Field(0.3, ge=0, lt=1)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    weight_decay: float = Field(1e-2, ge=0)
    watch_weight: float = Field(0.3, ge=0, description="Of the seconds in the loss, against click and long watch.")
    batch: int = Field(512, ge=16, le=65_536, description="Impressions in a step, at most.")
    epoch_rows: int = Field(200_000, ge=1, description="Impressions in an epoch, at most.")
    epochs: int = Field(12, ge=1, le=1_000, description="At most; validation decides how many.")
    lesson_epochs: int = Field(3, ge=1, le=100, description="Over what users thought of items before the impressions.")
    tower_epochs: int = Field(60, ge=1, le=10_000, description="At most, where the catalogue is too large for trees.")
    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")

    def shape(self) -> Shape:
        """Return the settings of the network."""
        taste = TasteShape(dim=self.dim, length=self.length, own=self.own_items)
        return Shape(
            taste,
            experts=self.experts,
            hidden=self.hidden,
            dropout=self.dropout,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            watch_weight=self.watch_weight,
            batch=self.batch,
            rows=self.epoch_rows,
        )


def train(config: Config, job: Job) -> None:
    """Fit the network for as long as validation says that it helps, then what retrieves; export and prove all of it."""
    torch.set_num_threads(config.threads)
    snapshot = read_snapshot(job.snapshot)
    shown = read_impressions(snapshot)
    job.say(
        f"{len(shown.train)} impressions, {len(shown.validation)} to choose by, {len(shown.features)} features; "
        f"{len(shown.lessons)} events before them"
    )
    described = read_catalogue(job.snapshot, snapshot.items.ids).known
    content = Content.describe(shown.likes.counts(), snapshot.items.tags, described.authors, most=config.own_items)
    learner, metrics = fit(
        shown,
        content,
        config.shape(),
        epochs=config.epochs,
        lesson_epochs=config.lesson_epochs,
        seed=config.seed,
        say=job.say,
    )
    job.say(f"on validation {metrics}")
    exported = engagement_graph(
        learner.model, learner.bins, duration=duration_column(shown), facts=situation_offsets(shown)
    )
    parity = prove_parity(compare(session(exported), learner, shown))

    if len(snapshot.items) <= MAX_ITEMS:
        write_trees(config, job, snapshot)
    else:
        job.say(f"{len(snapshot.items)} items are too many for the sources of trees; two towers retrieve")
        write_towers(config, job, snapshot, two_tower.Shape(), members=1, epochs=config.tower_epochs, check_every=5)
    names = [feature.name for feature in shown.features]
    engagement = Component(ENGAGEMENT, "torch", exported, parity, metrics, known_names=names, situation=shown.situation)
    write_component(job, snapshot, config, engagement)


if __name__ == "__main__":
    sys.exit(run_job("multitask_ranker", Config, train))
