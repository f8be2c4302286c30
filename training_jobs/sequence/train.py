"""A causal transformer in PyTorch over what users liked, event by event (after SASRec; Kang and McAuley, 2018)."""

import sys

import numpy as np
import torch
from pydantic import Field

from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.config import JobConfig
from twinloop.training.events import Events
from twinloop.training.job import Job, run_job
from twinloop.training.linear import popularity
from twinloop.training.sequence import Ensemble, Shape
from twinloop.training.sequence_graph import check_size, sequence_graph
from twinloop.training.snapshot import Snapshot, read_snapshot
from twinloop.training.validate import proof_questions, retrieve, validation_metrics


class Config(JobConfig):
    """Hyperparameters."""

    members: int = Field(1, ge=1, le=16, description="Transformers whose scores are averaged.")
    dim: int = Field(64, ge=4, le=512, description="Of one member's vectors; a multiple of heads.")
    heads: int = Field(2, ge=1, le=16)
    blocks: int = Field(2, ge=1, le=8)
    length: int = Field(100, ge=1, le=1_000, description="Latest events of a history that count.")
    dropout: float = Field(0.3, ge=0, lt=1)
    history_dropout: float = Field(0.2, ge=0, le=0.5, description="Mean share of a history left out in training.")
    learning_rate: float = Field(2e-3, gt=0, le=1)
    weight_decay: float = Field(0.1, ge=0)
    averaging: float = Field(0.99, ge=0, lt=1, description="Of the weights: what a step leaves of the average.")
    batch: int = Field(64, ge=1, le=4_096, description="Users in a step.")
    users: int = Field(4_000, ge=1, description="Users in an epoch, at most.")
    window: int = Field(4, ge=1, le=200, description="What counts as next: so many events.")
    window_decay: float = Field(0.9, gt=0, le=1, description="Weight of a next event against the one before it.")
    epochs: int = Field(50, ge=1, le=10_000, description="At most; validation decides how many.")
    check_every: int = Field(5, ge=1, description="Epochs between looks at validation.")
    threads: int = Field(1, ge=1, le=256, description="More help large catalogues; last digits differ by their number.")

    def shape(self) -> Shape:
        """Return the settings of a transformer."""
        return Shape(**{name: getattr(self, name) for name in Shape.__dataclass_fields__})


def train(config: Config, job: Job) -> None:
    """Choose the number of epochs on validation, fit on train and validation for as long, export, prove."""
    torch.set_num_threads(config.threads)
    snapshot = read_snapshot(job.snapshot)
    check_size(len(snapshot.items), config.dim, config.members)
    epochs, metrics = choose_epochs(config, job, snapshot)

    model = make_model(config, snapshot, snapshot.everything)
    for _ in range(epochs):
        model.epoch()
    job.say(f"fitted on train and validation for {epochs} epochs")

    exported = sequence_graph(model)
    opened = session(exported)

    def pairs():  # (exported, fitted) scores of the items returned, question by question
        for question in proof_questions(snapshot):
            answer = retrieve(opened, question)
            fitted = model.scores([question.history], [question.times_s])[0]
            fitted[question.history] = -np.inf
            yield answer["scores"], fitted[answer["items"]]

    metrics |= {"epochs": float(epochs)}
    write_component(job, snapshot, config, Component("retrieval", "torch", exported, prove_parity(pairs()), metrics))
    write_items(job, snapshot, popularity(snapshot.everything))


def make_model(config: Config, snapshot: Snapshot, events: Events) -> Ensemble:
    """Return a model to fit on these events of the snapshot."""
    longest = snapshot.manifest.history_length
    return Ensemble(events, config.shape(), longest=longest, members=config.members, seed=config.seed)


def choose_epochs(config: Config, job: Job, snapshot: Snapshot) -> tuple[int, dict[str, float]]:
    """Return the number of epochs that was best on validation, and the metrics there; all where nobody can tell."""
    model = make_model(config, snapshot, snapshot.train)
    best, metrics = config.epochs, {"validation_users": 0.0}
    if not len(snapshot.validation):
        return best, metrics
    for epoch in range(1, config.epochs + 1):
        loss = model.epoch()
        if epoch % config.check_every and epoch != config.epochs:
            continue
        found = validation_metrics(session(sequence_graph(model)), snapshot)
        job.say(f"epoch {epoch}: loss {loss:.4f}, on validation {found}")
        if found.get("ndcg@10", 0.0) > metrics.get("ndcg@10", 0.0):
            best, metrics = epoch, found
    return best, metrics


if __name__ == "__main__":
    sys.exit(run_job("sequence", Config, train))
