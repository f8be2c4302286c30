"""An inverted index over the fields of documents, searched by BM25 (Robertson & Zaragoza, 2009)."""

import sys

from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job
from twinloop.training.retrieval_job import open_retrieval, write_index


class Config(JobConfig):
    """Hyperparameters: none but the seed. Weights of fields are chosen on queries of the train split."""


def train(config: Config, job: Job) -> None:
    """Choose the weights of fields on train, build the index of all items, export, prove."""
    write_index(job, config, open_retrieval(job))


if __name__ == "__main__":
    sys.exit(run_job("bm25", Config, train))
