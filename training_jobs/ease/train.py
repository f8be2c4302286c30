"""EASE: the closed-form item-to-item model that every deeper one must beat (Steck, WWW 2019)."""

import sys

from pydantic import Field

from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.config import Floats, JobConfig
from twinloop.training.job import Job, run_job
from twinloop.training.linear import ease, ease_graph, ease_reference, popularity
from twinloop.training.snapshot import read_snapshot
from twinloop.training.validate import proof_questions, scored_pairs, validation_metrics


class Config(JobConfig):
    """Hyperparameters; the best of each list on the validation split is taken."""

    l2: Floats = Field((200.0, 400.0), description="Ridge penalties to choose from.")
    decay: Floats = Field((0.9, 0.97, 1.0), description="Weights of an event against the one after it, to choose from.")


def train(config: Config, job: Job) -> None:
    """Choose on validation, fit on train and validation, export, prove."""
    snapshot = read_snapshot(job.snapshot)
    shares = popularity(snapshot.train)
    tried = {}
    for l2 in config.l2:
        weights = ease(snapshot.train, l2)
        for decay in config.decay:
            model = session(ease_graph(weights, decay, shares))
            tried[l2, decay] = validation_metrics(model, snapshot)
            job.say(f"l2={l2:g} decay={decay:g}: {tried[l2, decay]}")
    (l2, decay), metrics = max(tried.items(), key=lambda entry: entry[1].get("ndcg@10", 0.0))

    shares = popularity(snapshot.everything)
    weights = ease(snapshot.everything, l2)
    model = ease_graph(weights, decay, shares)
    parity = prove_parity(
        scored_pairs(
            session(model), proof_questions(snapshot), lambda q: ease_reference(weights, decay, shares, q.history)
        )
    )

    component = Component("retrieval", "numpy", model, parity, {**metrics, "l2": l2, "decay": decay})
    write_component(job, snapshot, config, component)
    write_items(job, snapshot, shares)


if __name__ == "__main__":
    sys.exit(run_job("ease", Config, train))
