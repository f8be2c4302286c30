"""A causal transformer in PyTorch over what users liked, event by event (after SASRec; Kang and McAuley, 2018)."""

import sys

import torch
from pydantic import Field

from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.config import JobConfig
from twinloop.training.epochs import fit_as_long_as_it_helps
from twinloop.training.events import Events
from twinloop.training.job import Job, run_job
from twinloop.training.linear import popularity
from twinloop.training.sequence import Ensemble, Shape
from twinloop.training.sequence_graph import check_size, sequence_graph
from twinloop.training.snapshot import read_snapshot
from twinloop.training.validate import proof_questions, scored_pairs


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
    cells: int = Field(2_000, ge=1, description="Moments of histories that a step asks about, at most.")
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
    """Fit for as long as validation says that it helps, export, prove."""
    torch.set_num_threads(config.threads)
    snapshot = read_snapshot(job.snapshot)
    check_size(len(snapshot.items), config.dim, config.members)

    def make(events: Events) -> Ensemble:
        longest = snapshot.manifest.history_length
        return Ensemble(events, config.shape(), longest=longest, members=config.members, seed=config.seed)

    model, metrics = fit_as_long_as_it_helps(
        snapshot, make, sequence_graph, epochs=config.epochs, check_every=config.check_every, say=job.say
    )

    exported = sequence_graph(model)
    parity = prove_parity(
        scored_pairs(session(exported), proof_questions(snapshot), lambda q: model.scores([q.history], [q.times_s])[0])
    )

    write_component(job, snapshot, config, Component("retrieval", "torch", exported, parity, metrics))
    write_items(job, snapshot, popularity(snapshot.everything))


if __name__ == "__main__":
    sys.exit(run_job("sequence", Config, train))
