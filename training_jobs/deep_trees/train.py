"""The tree ranker of xgboost_trees, which also hears a causal transformer and two towers about its candidates."""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from pydantic import Field

from twinloop.contracts.signature import FEATURES, SCORES
from twinloop.training import ranker, sequence, two_tower
from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.deep_sources import Settings, compare_deep, fit_all, linear_part
from twinloop.training.events import Events
from twinloop.training.job import Job, run_job
from twinloop.training.linear import popularity
from twinloop.training.snapshot import Snapshot, read_snapshot
from twinloop.training.sources_reference import compare
from twinloop.training.validate import Answer, metrics_of, proof_questions, retrieve, validation_answers


class Config(ranker.TreesConfig):
    """Hyperparameters."""

    folds: int = Field(3, ge=2, le=20, description="Of users: each one's rows come of models of the others.")
    sequence_epochs: int = Field(30, ge=1, le=10_000)
    sequence_members: int = Field(2, ge=1, le=16, description="Transformers whose scores are averaged.")
    tower_epochs: int = Field(35, ge=1, le=10_000)
    tower_members: int = Field(3, ge=1, le=16, description="Pairs of towers whose scores are averaged.")
    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")

    def deep(self, longest: int) -> Settings:
        """Return how the deep models are fitted."""
        return Settings(
            sequence.Shape(),
            two_tower.Shape(),
            sequence_epochs=self.sequence_epochs,
            tower_epochs=self.tower_epochs,
            sequence_members=self.sequence_members,
            tower_members=self.tower_members,
            longest=longest,
        )


def train(config: Config, job: Job) -> None:
    """Fit the ranker on train, all sources that serve on train and validation, export both models, prove both."""
    torch.set_num_threads(config.threads)
    snapshot = read_snapshot(job.snapshot)
    context, settings = snapshot.moments.names, config.deep(snapshot.manifest.history_length)

    def build(events: Events, fold: int) -> bytes:
        return fit_all(events, snapshot, settings, seed=config.seed + fold)[0]

    held_out: list[Answer] = []  # the folds' models know neither the users that they are asked about nor validation

    def also(theirs: Snapshot, model: InferenceSession) -> None:
        held_out.extend(validation_answers(model, theirs))

    rows = ranker.training_rows(
        snapshot, build, users=config.users, seed=config.seed, folds=config.folds, also=also, say=job.say
    )
    booster = config.fitted(rows, context=len(context), threads=config.threads)
    metrics = metrics_of(held_out, ranker=lambda features: ranker.predict(booster, features))
    job.say(f"on validation {metrics}")

    retrieval, names, sources, deep = fit_all(snapshot.everything, snapshot, settings, seed=config.seed)
    ranking = ranker.to_onnx(booster, len(names))
    found, scored = session(retrieval), session(ranking)
    asked = [(question, retrieve(found, question)) for question in proof_questions(snapshot)]

    def pairs() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:  # (exported, fitted) columns, question by question
        for question, answer in asked:
            linear, plain = linear_part(names, answer)
            yield from compare(sources, linear, question, context, plain)
            yield from compare_deep(deep, names, question, answer)

    exported = (scored.run([SCORES], {FEATURES: answer[FEATURES]})[0] for _, answer in asked)
    fitted = (ranker.predict(booster, answer[FEATURES]) for _, answer in asked)
    parity = prove_parity(zip(exported, fitted, strict=True))

    parts = (("retrieval", "torch", retrieval, prove_parity(pairs())), ("ranking", "xgboost", ranking, parity))
    for part in parts:
        write_component(job, snapshot, config, Component(*part, metrics, feature_names=names, context_names=context))
    write_items(job, snapshot, popularity(snapshot.everything))


if __name__ == "__main__":
    sys.exit(run_job("deep_trees", Config, train))
