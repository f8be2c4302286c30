"""A LambdaMART ranker over the candidates of several linear sources (Burges, 2010; XGBoost's rank:ndcg)."""

import sys

from twinloop.training.job import Job, run_job
from twinloop.training.ranker import TreesConfig
from twinloop.training.snapshot import read_snapshot
from twinloop.training.trees import write_trees


def train(config: TreesConfig, job: Job) -> None:
    """Fit the ranker on train, the sources that serve on train and validation, export both models, prove both."""
    write_trees(config, job, read_snapshot(job.snapshot))


if __name__ == "__main__":
    sys.exit(run_job("xgboost_trees", TreesConfig, train))
