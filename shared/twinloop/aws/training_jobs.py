"""Training jobs on SageMaker: submission, their code in S3, and the executions that wait for them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import time
from collections.abc import Container, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client
from twinloop.aws.objects import S3ObjectStore
from twinloop.errors import AlreadyExistsError, BadInputError, NotFoundError, TwinloopError, UnavailableError
from twinloop.training.launch import WaitingTask

# Longer than a task may wait (learn.asl.json), so that a token outlives every job.
_TOKEN_TTL_S = 7 * 86400
# Too many calls, or the account's limit on instances, which jobs that end give back.
_LATER = {
    *("Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"),
    *("ResourceLimitExceeded", "CapacityError", "ServiceUnavailable", "ServiceUnavailableException"),
}
_SERVER_FAULT = 500
_EXECUTION_GONE = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}


class SageMakerJobs:
    """JobService on the SageMaker API."""

    def create(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        try:
            client("sagemaker").create_training_job(**request)
        except (ClientError, BotoCoreError) as error:
            if _code(error) != "ResourceInUse":
                raise _refusal(error) from error
        else:
            return None
        return self._describe(request["TrainingJobName"])

    def stop(self, job: str) -> None:
        try:
            client("sagemaker").stop_training_job(TrainingJobName=job)
        except (ClientError, BotoCoreError) as error:
            # A job that is not there, or has ended, is a ValidationException: there is nothing to stop.
            if _code(error) not in {"ValidationException", "ResourceNotFound"}:
                raise _refusal(error) from error

    @staticmethod
    def _describe(job: str) -> Mapping[str, Any]:
        try:
            described: Mapping[str, Any] = client("sagemaker").describe_training_job(TrainingJobName=job)
        except (ClientError, BotoCoreError) as error:
            raise UnavailableError(f"SageMaker did not say how the job {job} is: {error}") from error
        return described


def _code(error: Exception) -> str:
    """Return the error code of an AWS service; empty where no service answered."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _refusal(error: ClientError | BotoCoreError) -> TwinloopError:
    """Tell a service that cannot just now from one that will not."""
    if not isinstance(error, ClientError):
        return UnavailableError(f"SageMaker did not answer: {error}")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    words = f"SageMaker refused the job: {error.response['Error']['Message']}"
    return UnavailableError(words) if _code(error) in _LATER or status >= _SERVER_FAULT else BadInputError(words)


class S3SourceBundles:
    """SourceBundles from the jobs layer to `sources/` in the data bucket, under the bundle's own hash."""

    def __init__(self, store: S3ObjectStore) -> None:
        self._store = store

    def publish(self, rung: str) -> str:
        resource = importlib.resources.files("twinloop_jobs") / f"{rung}.tar.gz"
        if not resource.is_file():
            raise BadInputError(f"there is no training job {rung!r}; the folders under training_jobs/ name them")
        return publish_bundle(self._store, rung, resource.read_bytes())


def publish_bundle(store: S3ObjectStore, rung: str, body: bytes) -> str:
    """Upload a source bundle under its own hash, where it is not there yet; returns its s3:// address."""
    # Not under jobs/: what jobs may write to must not hold the code that jobs run.
    key = f"sources/{rung}-{hashlib.sha256(body).hexdigest()[:16]}/sourcedir.tar.gz"
    with contextlib.suppress(AlreadyExistsError):
        store.write_new(key, body, content_type="application/gzip")
    return f"s3://{store.bucket}/{key}"


class StepFunctionsTasks:
    """WaitingTasks in the DynamoDB table, resumed through Step Functions."""

    def __init__(self, table: str) -> None:
        self._table = table

    def keep(self, job: str, waiting: WaitingTask) -> None:
        item = {
            **self._key(job),
            "token": {"S": waiting.token},
            "rung": {"S": waiting.rung},
            "expires_at": {"N": str(int(time.time()) + _TOKEN_TTL_S)},
        }
        self._ask("dynamodb", "put_item", Item=item)

    def find(self, job: str) -> WaitingTask:
        answer = self._ask("dynamodb", "get_item", Key=self._key(job), ConsistentRead=True)
        if "Item" not in answer:
            raise NotFoundError(f"nobody waits for the training job {job!r}")
        return WaitingTask(token=answer["Item"]["token"]["S"], rung=answer["Item"]["rung"]["S"])

    def succeed(self, job: str, waiting: WaitingTask, result: Mapping[str, Any]) -> None:
        self._tell(job, waiting, "send_task_success", output=json.dumps(result))

    def fail(self, job: str, waiting: WaitingTask, reason: str, *, passing: bool = False) -> None:
        # The state machine tries again after the one and not after the other (learn.asl.json).
        error = "UnavailableError" if passing else "TrainingJobFailed"
        self._tell(job, waiting, "send_task_failure", error=error, cause=reason)

    def _tell(self, job: str, waiting: WaitingTask, call: str, **arguments: str) -> None:
        self._ask("stepfunctions", call, ignore=_EXECUTION_GONE, taskToken=waiting.token, **arguments)
        # Only this task is forgotten: a later attempt may wait under the same name by now.
        self._ask(
            "dynamodb",
            "delete_item",
            ignore={"ConditionalCheckFailedException"},
            Key=self._key(job),
            ConditionExpression="#token = :token",
            ExpressionAttributeNames={"#token": "token"},
            ExpressionAttributeValues={":token": {"S": waiting.token}},
        )

    def _ask(self, service: str, call: str, *, ignore: Container[str] = (), **arguments: Any) -> dict[str, Any]:
        """Make one call; empty where the service answered with a code of `ignore`."""
        if service == "dynamodb":
            arguments["TableName"] = self._table
        try:
            answer: dict[str, Any] = getattr(client(service), call)(**arguments)
        except (ClientError, BotoCoreError) as error:
            if _code(error) in ignore:
                return {}
            raise UnavailableError(f"{service} did not do {call}: {error}") from error
        return answer

    @staticmethod
    def _key(job: str) -> dict[str, dict[str, str]]:
        return {"pk": {"S": f"job#{job}"}, "sk": {"S": "token"}}
