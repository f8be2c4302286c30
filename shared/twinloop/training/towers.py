"""Two towers as a release's retrieval, of any rung: fitted, exported, proved and written."""

from __future__ import annotations

from twinloop.contracts.signature import RETRIEVAL
from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.config import JobConfig
from twinloop.training.epochs import fit_as_long_as_it_helps
from twinloop.training.events import Events
from twinloop.training.job import Job
from twinloop.training.linear import popularity
from twinloop.training.snapshot import Snapshot
from twinloop.training.two_tower import Ensemble, Shape
from twinloop.training.two_tower_graph import check_size, int8_recall, two_tower_graph
from twinloop.training.validate import proof_questions, scored_pairs


def write_towers(
    config: JobConfig, job: Job, snapshot: Snapshot, shape: Shape, *, members: int, epochs: int, check_every: int
) -> None:
    """Fit for as long as validation says that it helps, export, prove.

    Args:
        config: What the job was told; its seed is everything's.
        job: Where to write.
        snapshot: What to learn from.
        shape: Of one pair of towers.
        members: Pairs of towers whose scores are averaged.
        epochs: At most.
        check_every: Epochs between looks at validation.
    """
    longest = snapshot.manifest.history_length
    check_size(len(snapshot.items), shape.dim, members)

    def make(events: Events) -> Ensemble:
        return Ensemble(events, snapshot.items.tags, shape, longest=longest, members=members, seed=config.seed)

    model, metrics = fit_as_long_as_it_helps(
        snapshot, make, two_tower_graph, epochs=epochs, check_every=check_every, say=job.say
    )
    exported = two_tower_graph(model)
    opened, asked = session(exported), proof_questions(snapshot)
    metrics |= {"int8_recall@150": int8_recall(opened, model, asked)}
    parity = prove_parity(scored_pairs(opened, asked, lambda q: model.scores([q.history])[0]))
    write_component(job, snapshot, config, Component(RETRIEVAL, "torch", exported, parity, metrics))
    write_items(job, snapshot, popularity(snapshot.everything))
