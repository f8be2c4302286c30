"""The trivial baseline of clicks: every impression has the chance that all had."""

import sys

from twinloop.training.click_graph import Always, write_click
from twinloop.training.clicks import Rows, base_rate, describe, open_clicks
from twinloop.training.config import JobConfig
from twinloop.training.job import Job, run_job


def train(config: JobConfig, job: Job) -> None:
    """Count, calibrate, export, prove."""
    clicks = open_clicks(job.snapshot)
    early, choosing, held_out = clicks.parts()
    job.say(describe((early, choosing, held_out)))
    learnt = Rows.join(early, choosing)
    rate = base_rate(learnt.clicked)
    model = Always(rate)
    write_click(
        job, config, clicks, model, framework="numpy", held_out=held_out, learnt=learnt, more={"base_rate": rate}
    )


if __name__ == "__main__":
    sys.exit(run_job("base_rate", JobConfig, train))
