"""The tree ranker of xgboost_trees, which also hears a causal transformer and two towers about its candidates."""

import sys

import torch
from pydantic import Field

from twinloop.contracts.signature import FEATURES, SCORES
from twinloop.training import ranker, sequence, two_tower
from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.config import JobConfig
from twinloop.training.deep_rows import deep_rows, fit_all
from twinloop.training.deep_sources import Settings, compare_deep, linear_part
from twinloop.training.job import Job, run_job
from twinloop.training.linear import popularity
from twinloop.training.snapshot import read_snapshot
from twinloop.training.sources_reference import compare
from twinloop.training.validate import proof_questions, retrieve, validation_metrics


class Config(JobConfig):
    """Hyperparameters."""

    sequence_epochs: int = Field(45, ge=1, le=10_000)
    sequence_members: int = Field(1, ge=1, le=16, description="Transformers whose scores are averaged.")
    tower_epochs: int = Field(35, ge=1, le=10_000)
    tower_members: int = Field(2, ge=1, le=16, description="Pairs of towers whose scores are averaged.")
    rounds: int = Field(200, ge=1, le=5000, description="Trees; fewer with a greater eta.")
    eta: float = Field(0.05, gt=0, le=1)
    max_depth: int = Field(4, ge=1, le=10)
    min_child_weight: float = Field(20, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.5, gt=0, le=1)
    pairs: int = Field(50, ge=1, le=100, description="Top places whose pairs count in a question's gradient.")
    context_weight: float = Field(
        0.1, gt=0, le=1, description="How likely a tree may use what is known of the user, against another column."
    )
    users: int = Field(4000, ge=1, description="Users whose past is asked about; more only take longer.")
    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")

    def parameters(self) -> dict[str, object]:
        """Return what XGBoost is told."""
        fields = ("eta", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "seed")
        own = {name: getattr(self, name) for name in fields}
        return {**own, "lambdarank_num_pair_per_sample": self.pairs, "nthread": self.threads}

    def deep(self, longest: int) -> Settings:
        """Return how the deep models are fitted."""
        own = ("sequence_epochs", "sequence_members", "tower_epochs", "tower_members")
        shapes = {"sequence": sequence.Shape(), "towers": two_tower.Shape()}
        return Settings(**shapes, longest=longest, **{name: getattr(self, name) for name in own})


def train(config: Config, job: Job) -> None:
    """Fit the ranker on train, all sources that serve on train and validation, export both models, prove both."""
    torch.set_num_threads(config.threads)
    snapshot = read_snapshot(job.snapshot)
    context, settings = snapshot.moments.names, config.deep(snapshot.manifest.history_length)

    rows = deep_rows(snapshot, settings, users=config.users, seed=config.seed, say=job.say)
    booster = ranker.fit(
        rows, config.parameters(), config.rounds, context=len(context), context_weight=config.context_weight
    )
    early = session(fit_all(snapshot.train, snapshot, settings, seed=config.seed)[0])
    metrics = validation_metrics(early, snapshot, ranker=lambda features: ranker.predict(booster, features))
    job.say(f"on validation {metrics}")

    retrieval, names, sources, deep = fit_all(snapshot.everything, snapshot, settings, seed=config.seed)
    ranking = ranker.to_onnx(booster, len(names))
    found, scored = session(retrieval), session(ranking)
    asked = [(question, retrieve(found, question)) for question in proof_questions(snapshot)]

    def pairs():  # (exported, fitted) columns, question by question
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
