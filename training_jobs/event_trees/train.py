"""A LambdaMART ranker of events that were shown (Burges, 2010; XGBoost's rank:ndcg)."""

import os
import sys
from functools import partial

from pydantic import Field

from twinloop.systems.suggestions.learning import read_lists, write_release
from twinloop.training.config import Floats, JobConfig
from twinloop.training.grouped import choose
from twinloop.training.grouped_trees import fit_trees
from twinloop.training.job import Job, run_job


class Config(JobConfig):
    """Hyperparameters; the number of trees that ranks validation best is taken."""

    rounds: Floats = Field((100.0, 200.0, 300.0), description="Numbers of trees to choose from.")
    eta: float = Field(0.05, gt=0, le=1)
    max_depth: int = Field(4, ge=1, le=10)
    min_child_weight: float = Field(5, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.6, gt=0, le=1)
    pairs: int = Field(10, ge=1, le=100, description="Top places whose pairs count in a list's gradient.")


def train(config: Config, job: Job) -> None:
    """Choose the number of trees on validation, fit on train and validation, export, prove."""
    learnt = read_lists(job.snapshot)
    early, held_out, everything = learnt.early, learnt.held_out, learnt.everything
    job.say(f"{len(early)} examples in {len(early.sizes)} lists, {len(held_out.sizes)} to choose by")
    fields = ("eta", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "seed")
    told: dict[str, object] = {name: getattr(config, name) for name in fields}
    told |= {"lambdarank_num_pair_per_sample": config.pairs, "nthread": os.cpu_count() or 1}
    rounds = sorted(max(int(number), 1) for number in config.rounds)
    trial = fit_trees(early, told, rounds[-1])  # its first trees are those of a shorter run
    best, ndcg = choose([partial(trial.first, number) for number in rounds], held_out, job.say)
    model = fit_trees(everything, told, rounds[best])
    write_release(job, config, learnt, model, framework="xgboost", ndcg=ndcg, more={"trees": float(rounds[best])})


if __name__ == "__main__":
    sys.exit(run_job("event_trees", Config, train))
