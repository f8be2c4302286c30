"""Logistic regression of yeses to events that were shown, on standardised features and their logarithms."""

import sys
from functools import partial

from pydantic import Field

from twinloop.systems.suggestions.learning import read_lists, write_release
from twinloop.training.config import Floats, JobConfig
from twinloop.training.grouped import choose
from twinloop.training.grouped_linear import fit_linear
from twinloop.training.job import Job, run_job


class Config(JobConfig):
    """Hyperparameters; the one that ranks validation best is taken."""

    l2: Floats = Field((1e-2, 1e-3, 1e-4, 1e-5), description="Ridges to choose from.")


def train(config: Config, job: Job) -> None:
    """Choose the ridge on validation, fit on train and validation, export, prove."""
    learnt = read_lists(job.snapshot)
    early, held_out, everything = learnt.early, learnt.held_out, learnt.everything
    job.say(f"{len(early)} examples in {len(early.sizes)} lists, {len(held_out.sizes)} to choose by")
    ridges = sorted(config.l2, reverse=True)
    best, ndcg = choose([partial(fit_linear, early, l2) for l2 in ridges], held_out, job.say)
    model = fit_linear(everything, ridges[best])
    write_release(job, config, learnt, model, framework="scipy", ndcg=ndcg, more={"l2": ridges[best]})


if __name__ == "__main__":
    sys.exit(run_job("event_logistic", Config, train))
