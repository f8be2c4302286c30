"""The trivial baseline: everybody gets what was liked most, less what they know."""

import sys

from pydantic import Field

from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job
from twinloop.training.linear import popularity, popularity_graph
from twinloop.training.snapshot import read_snapshot
from twinloop.training.validate import proof_questions, scored_pairs, validation_metrics


class Config(JobConfig):
    """Hyperparameters."""

    half_life_days: float = Field(0.0, ge=0, description="Age at which an event counts half; 0: age does not matter.")


def train(config: Config, job: Job) -> None:
    """Count, export, prove."""
    snapshot = read_snapshot(job.snapshot)
    held_out = session(popularity_graph(popularity(snapshot.train, config.half_life_days)))
    metrics = validation_metrics(held_out, snapshot)

    shares = popularity(snapshot.everything, config.half_life_days)
    model = popularity_graph(shares)
    parity = prove_parity(scored_pairs(session(model), proof_questions(snapshot), lambda _: shares))

    write_component(job, snapshot, config, Component("retrieval", "numpy", model, parity, metrics))
    write_items(job, snapshot, shares)


if __name__ == "__main__":
    sys.exit(run_job("popularity", Config, train))
