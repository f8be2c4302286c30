"""LambdaMART (Burges, 2010; XGBoost's rank:ndcg) over what BM25 and vectors find, behind both."""

import sys
from dataclasses import replace

from twinloop.training.document_ranking import (
    USEFUL_FILE,
    RankingConfig,
    candidate_rows,
    fit_ranking,
    mean_ndcg,
    prove_ranking,
)
from twinloop.training.job import Job, run_job
from twinloop.training.query_words import learn_terms
from twinloop.training.ranker import predict, to_onnx
from twinloop.training.retrieval_job import (
    encode_queries,
    open_retrieval,
    sampled,
    write_index,
    write_ranking,
    write_vectors,
)


def train(config: RankingConfig, job: Job) -> None:
    """Learn what words tell and how to rank on train, measure on validation, export all four models, prove them."""
    data = open_retrieval(job)
    matcher = write_index(job, config, data)
    encoder, vectors, fusion = write_vectors(job, config, data, matcher)

    asked = sampled(data.train, config.queries, config.seed)
    useful = learn_terms(matcher, asked)
    matcher = replace(matcher, useful=useful.weights())
    encoded = encode_queries(encoder, asked)
    rows = candidate_rows(matcher, asked, fusion=fusion, vectors=vectors, encoded=encoded, useful=useful)
    job.say(f"{len(rows.grades)} candidates of {len(rows.sizes)} queries")
    booster = fit_ranking(config, rows)

    held_out = list(data.validation) or asked[:50]
    encoded = encode_queries(encoder, held_out)
    checked = candidate_rows(matcher, held_out, fusion=fusion, vectors=vectors, encoded=encoded)
    metrics = {"ndcg@10": mean_ndcg(checked, predict(booster, checked.features)), "queries": float(len(asked))}
    job.say(f"NDCG@10 {metrics['ndcg@10']:.4f} of {len(held_out)} queries held out")
    names = matcher.feature_names()
    model = to_onnx(booster, len(names))
    parity = prove_ranking(model, booster, checked)
    write_ranking(
        job,
        config,
        data,
        model=model,
        parity=parity,
        metrics=metrics,
        names=names,
        useful=matcher.useful,
        file=USEFUL_FILE,
    )


if __name__ == "__main__":
    sys.exit(run_job("learned_ranking", RankingConfig, train))
