"""Executions of the learning loop: start one, and read how far it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client
from twinloop.errors import BadInputError, NotFoundError, UnavailableError

_ABSENT = frozenset({"ExecutionDoesNotExist", "StateMachineDoesNotExist", "ResourceNotFound"})
_WRONG = frozenset({"InvalidArn", "InvalidExecutionInput", "InvalidName", "ValidationException"})


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
    """Start an execution and return its ARN.

    Raises, as everything here does, NotFoundError, BadInputError, or UnavailableError where trying again can help.
    """
    with _asked("Step Functions"):
        answer = client("stepfunctions").start_execution(stateMachineArn=state_machine, input=json.dumps(payload))
    return str(answer["executionArn"])


def describe(arn: str) -> Execution:
    """Return the execution's present state."""
    with _asked("Step Functions"):
        answer = client("stepfunctions").describe_execution(executionArn=arn)
    output = json.loads(answer["output"]) if answer["status"] == "SUCCEEDED" else None
    cause = answer.get("cause") or answer.get("error")
    return Execution(arn, answer["status"], output, cause)


def states_entered(arn: str) -> list[str]:
    """Return the names of the states entered so far, in order."""
    with _asked("Step Functions"):
        pages = client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event for page in pages for event in page["events"]]
    return [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]


def jobs(prefix: str, since: float) -> list[Job]:
    """Return the training jobs whose names start with `prefix`, created at or after `since` (epoch seconds)."""
    sagemaker = client("sagemaker")
    with _asked("SageMaker"):
        # Newest first and in pages: an account keeps the jobs of years.
        pages = sagemaker.get_paginator("list_training_jobs").paginate(
            NameContains=prefix,
            CreationTimeAfter=datetime.fromtimestamp(since - 1, UTC),
            SortBy="CreationTime",
            SortOrder="Descending",
        )
        found = [entry["TrainingJobName"] for page in pages for entry in page["TrainingJobSummaries"]]
        names = sorted(name for name in found if name.startswith(prefix))
        return [_job(sagemaker.describe_training_job(TrainingJobName=name)) for name in names]


def _job(answer: dict[str, Any]) -> Job:
    doing = answer.get("SecondaryStatus", "")
    return Job(answer["TrainingJobName"], answer["TrainingJobStatus"], doing, answer.get("FailureReason", ""))


@contextmanager
def _asked(service: str) -> Iterator[None]:
    """Translate what a service answers instead of what was asked for."""
    try:
        yield
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in _ABSENT:
            raise NotFoundError(f"{service}: {said or code}") from error
        if code in _WRONG or code.startswith("AccessDenied"):
            raise BadInputError(f"{service}: {said or code}") from error
        raise UnavailableError(f"{service} did not answer as asked ({code}): {said}") from error
    except BotoCoreError as error:
        raise UnavailableError(f"{service} did not answer: {error}") from error
