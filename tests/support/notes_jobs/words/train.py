"""The rung `words` of the system `notes`, as a job of its own."""

import sys

import notes

from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job


def train(config: JobConfig, job: Job) -> None:
    del config
    notes.write("words", job.snapshot, job.model_dir)


if __name__ == "__main__":
    sys.exit(run_job("words", JobConfig, train))
