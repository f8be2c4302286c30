"""BM25 and the similarity of sentence vectors (MiniLM, eight bits), fused by weights chosen on queries."""

import sys

from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job
from twinloop.training.retrieval_job import open_retrieval, write_index, write_vectors


class Config(JobConfig):
    """Hyperparameters: none but the seed. Weights are chosen on queries of the train split."""


def train(config: Config, job: Job) -> None:
    """Build the index and the vectors of all items, choose how to fuse on train, export, prove."""
    data = open_retrieval(job)
    matcher = write_index(job, config, data)
    write_vectors(job, config, data, matcher)


if __name__ == "__main__":
    sys.exit(run_job("hybrid", Config, train))
