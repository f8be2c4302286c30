"""The retrieval and the tree ranker of `xgboost_trees`, which other rungs begin with too."""

from __future__ import annotations

import os

from twinloop.contracts.signature import FEATURES, RANKING, RETRIEVAL, SCORES
from twinloop.training import ranker
from twinloop.training.artefact import Component, prove_parity, session, write_component, write_items
from twinloop.training.events import Events
from twinloop.training.job import Job
from twinloop.training.linear import popularity
from twinloop.training.snapshot import Snapshot
from twinloop.training.sources import fit_sources, retrieval_with_features
from twinloop.training.sources_reference import compare
from twinloop.training.validate import proof_questions, retrieve, validation_metrics


def write_trees(config: ranker.TreesConfig, job: Job, snapshot: Snapshot) -> dict[str, float]:
    """Fit the ranker on train, the sources that serve on train and validation, export both models, prove both.

    Returns:
        Metrics of the ranking on validation.

    Raises:
        BadInputError: No user has enough positive events to learn a ranking from.
    """
    tags, context = snapshot.items.tags, snapshot.moments.names

    def build(events: Events, fold: int) -> bytes:
        del fold  # nothing here is drawn
        return retrieval_with_features(fit_sources(events, tags), context)[0]

    rows = ranker.training_rows(snapshot, build, users=config.users, seed=config.seed)
    job.say(f"{len(rows.liked)} questions of {rows.liked.shape[1]} candidates, {rows.features.shape[2]} features")
    booster = config.fitted(rows, context=len(context), threads=os.cpu_count() or 1)
    early = session(build(snapshot.train, 0))
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

    parts = ((RETRIEVAL, "numpy", retrieval, proved), (RANKING, "xgboost", ranking, parity))
    for part in parts:
        write_component(job, snapshot, config, Component(*part, metrics, feature_names=names, context_names=context))
    write_items(job, snapshot, popularity(snapshot.everything))

    return metrics
