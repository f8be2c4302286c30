"""Two towers in PyTorch: recent likes and the catalogue in one space (Covington et al., 2016; Yi et al., 2019)."""

import sys

import torch
from pydantic import Field

from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job
from twinloop.training.snapshot import read_snapshot
from twinloop.training.towers import write_towers
from twinloop.training.two_tower import Shape

# Three pairs take 1.35 ms to search 100,000 items, one takes 0.65 (python -m benchmarks.serving).
MANY_ITEMS = 50_000


class Config(JobConfig):
    """Hyperparameters."""

    members: int | None = Field(
        None, ge=1, le=16, description="Pairs of towers whose scores are averaged. By default 3; 1 for many items."
    )
    dim: int = Field(64, ge=4, le=512, description="Of one member's vectors.")
    hidden: int = Field(128, ge=4, le=4096, description="Units of the history tower's MLP.")
    dropout: float = Field(0.5, ge=0, lt=1)
    history_dropout: float = Field(0.2, ge=0, lt=1, description="Share of a history's events left out in training.")
    learning_rate: float = Field(3e-3, gt=0, le=1)
    weight_decay: float = Field(0.1, ge=0)
    batch: int = Field(256, ge=1, le=65_536, description="Questions in a step.")
    cuts: int = Field(4, ge=1, le=100, description="Moments of each user's past that an epoch asks about.")
    questions: int = Field(16_000, ge=1, description="In an epoch, at most; more epochs ask about the others.")
    window: int = Field(4, ge=1, le=200, description="What counts as next: so many events.")
    window_decay: float = Field(0.9, gt=0, le=1, description="Weight of a next event against the one before it.")
    epochs: int = Field(60, ge=1, le=10_000, description="At most; validation decides how many.")
    check_every: int = Field(5, ge=1, description="Epochs between looks at validation.")
    threads: int = Field(1, ge=1, le=256, description="More help large catalogues; last digits differ by their number.")

    def pairs(self, n_items: int) -> int:
        """Return how many pairs of towers a catalogue gets."""
        return self.members or (3 if n_items <= MANY_ITEMS else 1)

    def shape(self) -> Shape:
        """Return the settings of a pair of towers."""
        return Shape(**{name: getattr(self, name) for name in Shape.__dataclass_fields__})


def train(config: Config, job: Job) -> None:
    """Fit for as long as validation says that it helps, export, prove."""
    torch.set_num_threads(config.threads)
    snapshot = read_snapshot(job.snapshot)
    write_towers(
        config,
        job,
        snapshot,
        config.shape(),
        members=config.pairs(len(snapshot.items)),
        epochs=config.epochs,
        check_every=config.check_every,
    )


if __name__ == "__main__":
    sys.exit(run_job("two_tower", Config, train))
