"""A small network of yeses to events that were shown, on standardised features and their logarithms."""

import sys

import numpy as np
import torch
from pydantic import Field

from twinloop.systems.suggestions.learning import read_lists, write_release
from twinloop.training.config import JobConfig
from twinloop.training.grouped_network import Learner, Shape
from twinloop.training.job import Job, run_job


class Config(JobConfig):
    """Hyperparameters."""

    hidden: int = Field(64, ge=1, le=1_024, description="Width of the first layer; the second is half as wide.")
    dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    weight_decay: float = Field(1e-2, ge=0)
    batch: int = Field(512, ge=16, le=65_536)
    epochs: int = Field(20, ge=1, le=1_000, description="At most; validation decides how many.")
    patience: int = Field(4, ge=1, description="Epochs without gain before it ends.")
    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")

    def shape(self) -> Shape:
        """Return the settings of the network."""
        named = ("dropout", "learning_rate", "weight_decay", "batch")
        return Shape(hidden=(self.hidden, -(-self.hidden // 2)), **{name: getattr(self, name) for name in named})


def train(config: Config, job: Job) -> None:
    """Choose the number of epochs on validation, fit as many on train and validation, export, prove."""
    torch.set_num_threads(config.threads)
    learnt = read_lists(job.snapshot)
    early, held_out, everything = learnt.early, learnt.held_out, learnt.everything
    job.say(f"{len(early)} examples in {len(early.sizes)} lists, {len(held_out.sizes)} to choose by")
    best, ndcg, trial = max(config.epochs // 4, 1), float("nan"), Learner(early, config.shape(), seed=config.seed)
    for epoch in range(1, config.epochs + 1) if len(held_out) else ():
        loss, found = trial.epoch(), held_out.ndcg(trial.scores(held_out.features))
        job.say(f"epoch {epoch}: loss {loss:.5f}, NDCG@10 {found:.4f} on validation")
        if np.isnan(ndcg) or found > ndcg:
            best, ndcg = epoch, found
        elif epoch - best >= config.patience:
            break
    model = Learner(everything, config.shape(), seed=config.seed)
    for _ in range(best):
        model.epoch()
    write_release(job, config, learnt, model, framework="torch", ndcg=ndcg, more={"epochs": float(best)})


if __name__ == "__main__":
    sys.exit(run_job("event_network", Config, train))
