"""What `twinloop learn` shows while it follows a run."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from twinloop.aws import executions
from twinloop.commands import learn
from twinloop.errors import UnavailableError


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


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(learn, "time", clock)
    monkeypatch.setattr(executions, "states_entered", lambda arn: ["Snapshot"])
    return clock


def test_looks_become_seldom_but_never_rare(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    states = chain(repeat("RUNNING", 100), ["SUCCEEDED"])
    monkeypatch.setattr(executions, "describe", lambda arn: executions.Execution(arn, next(states), {}))
    learn.follow("arn", learn.Progress(), job_prefix="x", since=0, show=lambda: None)
    assert clock.slept[0] == 0.5
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[-1] == 2.0


def test_a_throttled_look_is_made_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([UnavailableError("Rate exceeded")] * 20 + [executions.Execution("arn", "SUCCEEDED", {})])

    def describe(arn: str) -> executions.Execution:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(executions, "describe", describe)
    progress = learn.Progress()
    learn.follow("arn", progress, job_prefix="x", since=0, show=lambda: None)
    assert progress.ended == clock.now


def test_a_service_that_never_answers_ends_the_command_and_not_the_run(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe(arn: str) -> executions.Execution:
        raise UnavailableError("Rate exceeded")

    monkeypatch.setattr(executions, "describe", describe)
    with pytest.raises(UnavailableError, match="arn could not be followed any longer, and goes on: Rate exceeded"):
        learn.follow("arn", learn.Progress(), job_prefix="x", since=0, show=lambda: None)
    assert 120 < clock.now < 125
