"""Executions of the learning loop: start one, and read how far it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twinloop.aws.clients import client


@dataclass(frozen=True)
class Execution:
    """One run as Step Functions sees it; `output` only where it succeeded, `cause` only where it did not."""

    arn: str
    status: str
    output: dict[str, Any] | None = None
    cause: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status != "RUNNING"


@dataclass(frozen=True)
class Job:
    """One training job: its name, status, and the second-level status that says what it is doing."""

    name: str
    status: str
    doing: str
    reason: str = ""


def start(state_machine: str, payload: dict[str, Any]) -> str:
    """Start an execution and return its ARN."""
    answer = client("stepfunctions").start_execution(stateMachineArn=state_machine, input=json.dumps(payload))
    return str(answer["executionArn"])


def describe(arn: str) -> Execution:
    """Return the execution's present state."""
    answer = client("stepfunctions").describe_execution(executionArn=arn)
    output = json.loads(answer["output"]) if answer["status"] == "SUCCEEDED" else None
    cause = answer.get("cause") or answer.get("error")
    return Execution(arn, answer["status"], output, cause)


def states_entered(arn: str) -> list[str]:
    """Return the names of the states entered so far, in order."""
    pages = client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
    events = [event for page in pages for event in page["events"]]
    return [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]


def jobs(prefix: str, since: float) -> list[Job]:
    """Return the training jobs whose names start with `prefix`, created at or after `since` (epoch seconds)."""
    sagemaker = client("sagemaker")
    found = sagemaker.list_training_jobs(NameContains=prefix, MaxResults=100)["TrainingJobSummaries"]
    names = [
        entry["TrainingJobName"]
        for entry in found
        if entry["TrainingJobName"].startswith(prefix) and entry["CreationTime"].timestamp() >= since - 1
    ]
    return [_job(sagemaker.describe_training_job(TrainingJobName=name)) for name in sorted(names)]


def _job(answer: dict[str, Any]) -> Job:
    doing = answer.get("SecondaryStatus", "")
    return Job(answer["TrainingJobName"], answer["TrainingJobStatus"], doing, answer.get("FailureReason", ""))
