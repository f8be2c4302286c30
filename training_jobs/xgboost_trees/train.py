"""A LambdaMART ranker over the candidates of several linear sources (Burges, 2010; XGBoost's rank:ndcg)."""

import os
import sys

from pydantic import Field

from twinloop.contracts.signature import FEATURES, SCORES
from twinloop.training import ranker
from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job
from twinloop.training.linear import popularity
from twinloop.training.snapshot import read_snapshot
from twinloop.training.sources import fit_sources, retrieval_with_features
from twinloop.training.sources_reference import compare
from twinloop.training.validate import proof_questions, retrieve, validation_metrics


class Config(JobConfig):
    """Hyperparameters."""

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

    def parameters(self) -> dict[str, object]:
        """Return what XGBoost is told."""
        fields = ("eta", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "seed")
        own = {name: getattr(self, name) for name in fields}
        return {**own, "lambdarank_num_pair_per_sample": self.pairs, "nthread": os.cpu_count()}


def train(config: Config, job: Job) -> None:
    """Fit the ranker on train, the sources that serve on train and validation, export both models, prove both."""
    snapshot = read_snapshot(job.snapshot)
    tags, context = snapshot.items.tags, snapshot.moments.names

    rows = ranker.training_rows(snapshot, users=config.users, seed=config.seed)
    job.say(f"{len(rows.liked)} questions of {rows.liked.shape[1]} candidates, {rows.features.shape[2]} features")
    booster = ranker.fit(
        rows, config.parameters(), config.rounds, context=len(context), context_weight=config.context_weight
    )
    early = session(retrieval_with_features(fit_sources(snapshot.train, tags), context)[0])
    metrics = validation_metrics(early, snapshot, ranker=lambda features: ranker.predict(booster, features))
    job.say(f"on validation {metrics}")

    # Features are standardised within a question, so the ranker goes on with sources that know more.
    sources = fit_sources(snapshot.everything, tags)
    retrieval, names = retrieval_with_features(sources, context)
    ranking = ranker.to_onnx(booster, len(names))

    found, scored = session(retrieval), session(ranking)
    asked = [(question, retrieve(found, question)) for question in proof_questions(snapshot)]
    proved = prove_parity(
        pair for question, answer in asked for pair in compare(sources, names, question, context, answer)
    )
    exported = (scored.run([SCORES], {FEATURES: answer[FEATURES]})[0] for _, answer in asked)
    fitted = (ranker.predict(booster, answer[FEATURES]) for _, answer in asked)
    parity = prove_parity(zip(exported, fitted, strict=True))

    parts = (("retrieval", "numpy", retrieval, proved), ("ranking", "xgboost", ranking, parity))
    for part in parts:
        write_component(job, snapshot, config, Component(*part, metrics, feature_names=names, context_names=context))
    write_items(job, snapshot, popularity(snapshot.everything))


if __name__ == "__main__":
    sys.exit(run_job("xgboost_trees", Config, train))
