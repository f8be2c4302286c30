"""The rung `constant` of the system `notes`, as a job of its own."""

import sys

import notes

from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job


def train(config: JobConfig, job: Job) -> None:
    del config
    folder = job.model_dir / "text"
    folder.mkdir(parents=True)
    for name, content in notes.train("constant", job.snapshot).items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(run_job("constant", JobConfig, train))
