"""What `twinloop learn` shows while it follows a run."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from twinloop.aws import executions
from twinloop.commands import learn


def test_a_job_that_ends_as_judging_begins_is_shown_as_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(
        [["Snapshot"], ["Snapshot", "Ladder"], ["Snapshot", "Ladder", "Judge"], ["Snapshot", "Ladder", "Judge"]]
    )
    states = iter(["RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"])
    statuses = chain(["InProgress"], repeat("Completed"))
    monkeypatch.setattr(executions, "describe", lambda arn: executions.Execution(arn, next(states), {}))
    monkeypatch.setattr(executions, "states_entered", lambda arn: next(looks))
    monkeypatch.setattr(executions, "jobs", lambda prefix, since: [executions.Job("ease", next(statuses), "")])
    monkeypatch.setattr(learn.time, "sleep", lambda seconds: None)
    shown: list[list[str]] = []
    progress = learn.Progress()
    learn.follow(
        "arn", progress, job_prefix="x", since=0, show=lambda: shown.append([job.status for job in progress.jobs])
    )
    assert shown == [[], ["InProgress"], ["Completed"], ["Completed"]]
