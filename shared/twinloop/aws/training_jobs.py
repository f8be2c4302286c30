"""Training jobs on SageMaker: submission, their code in S3, and the executions that wait for them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import time
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client
from twinloop.aws.objects import S3ObjectStore
from twinloop.errors import AlreadyExistsError, BadInputError, NotFoundError, UnavailableError
from twinloop.training.launch import WaitingTask

# Longer than a task may wait (learn.asl.json), so that a token outlives every job.
_TOKEN_TTL_S = 7 * 86400
_EXECUTION_GONE = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}


class SageMakerJobs:
    """JobService on the SageMaker API."""

    def create(self, request: Mapping[str, Any]) -> None:
        try:
            client("sagemaker").create_training_job(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUse":
                raise BadInputError(f"SageMaker refused the job: {error.response['Error']['Message']}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"SageMaker did not answer: {error}") from error


class S3SourceBundles:
    """SourceBundles from the jobs layer to `jobs/source/` in the data bucket, under the bundle's own hash."""

    def __init__(self, store: S3ObjectStore) -> None:
        self._store = store

    def publish(self, rung: str) -> str:
        resource = importlib.resources.files("twinloop_jobs") / f"{rung}.tar.gz"
        if not resource.is_file():
            raise BadInputError(f"there is no training job {rung!r}; the folders under training_jobs/ name them")
        return publish_bundle(self._store, rung, resource.read_bytes())


def publish_bundle(store: S3ObjectStore, rung: str, body: bytes) -> str:
    """Upload a source bundle under its own hash, where it is not there yet; returns its s3:// address."""
    key = f"jobs/source/{rung}-{hashlib.sha256(body).hexdigest()[:16]}/sourcedir.tar.gz"
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
        client("dynamodb").put_item(TableName=self._table, Item=item)

    def find(self, job: str) -> WaitingTask:
        answer = client("dynamodb").get_item(TableName=self._table, Key=self._key(job), ConsistentRead=True)
        if "Item" not in answer:
            raise NotFoundError(f"nobody waits for the training job {job!r}")
        return WaitingTask(token=answer["Item"]["token"]["S"], rung=answer["Item"]["rung"]["S"])

    def succeed(self, job: str, waiting: WaitingTask, result: Mapping[str, Any]) -> None:
        self._send("send_task_success", job, taskToken=waiting.token, output=json.dumps(result))

    def fail(self, job: str, waiting: WaitingTask, reason: str) -> None:
        self._send("send_task_failure", job, taskToken=waiting.token, error="TrainingJobFailed", cause=reason)

    def _send(self, call: str, job: str, **arguments: str) -> None:
        try:
            getattr(client("stepfunctions"), call)(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _EXECUTION_GONE:
                raise
        client("dynamodb").delete_item(TableName=self._table, Key=self._key(job))

    @staticmethod
    def _key(job: str) -> dict[str, dict[str, str]]:
        return {"pk": {"S": f"job#{job}"}, "sk": {"S": "token"}}
