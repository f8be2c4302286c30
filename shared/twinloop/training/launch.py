"""Start one training job for one rung, and resume the learning loop when the job has ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twinloop.contracts.spec import Rung
from twinloop.errors import BadInputError, NotFoundError, TwinloopError

_REASON_LIMIT = 1024


class JobService(Protocol):
    """Runs training jobs."""

    def create(self, request: Mapping[str, Any]) -> None:
        """Submit a CreateTrainingJob request; a job of that name that is there already is no error.

        Raises BadInputError where it is refused, UnavailableError where nobody answers.
        """
        ...


class WaitingTasks(Protocol):
    """Who waits for which job."""

    def keep(self, job: str, waiting: WaitingTask) -> None:
        """Remember who waits, before the job is started."""
        ...

    def find(self, job: str) -> WaitingTask:
        """Return who waits for the job; raises NotFoundError."""
        ...

    def succeed(self, job: str, waiting: WaitingTask, result: Mapping[str, Any]) -> None:
        """Let the waiting execution go on with `result`, and forget it. One that gave up is no error."""
        ...

    def fail(self, job: str, waiting: WaitingTask, reason: str) -> None:
        """Let the waiting execution know that the job failed, and forget it. One that gave up is no error."""
        ...


class SourceBundles(Protocol):
    """The jobs' code, where training containers can fetch it."""

    def publish(self, rung: str) -> str:
        """Return the s3:// address of the rung's source bundle, uploading it where it is not there yet."""
        ...


@dataclass(frozen=True)
class WaitingTask:
    """A Step Functions task token and the rung it waits for."""

    token: str
    rung: str


@dataclass(frozen=True)
class TrainingSettings:
    """Where jobs run and as whom."""

    stack: str
    bucket: str
    role: str
    images: Mapping[str, str]


def start(
    *,
    settings: TrainingSettings,
    jobs: JobService,
    waiting: WaitingTasks,
    bundles: SourceBundles,
    system: str,
    snapshot_key: str,
    rung: Rung,
    token: str,
) -> str:
    """Start the rung's job on the snapshot and return its name; a job that cannot be started fails its task.

    The name derives from the token, so that a repeated call starts nothing twice. The token is kept before the job
    starts: a job that ends at once still finds who waits for it.
    """
    job = job_name(settings.stack, system, rung.name, token)
    task = WaitingTask(token=token, rung=rung.name)
    try:
        source = bundles.publish(rung.name)
        request = training_job_request(
            settings=settings, job=job, system=system, snapshot_key=snapshot_key, rung=rung, source=source
        )
        waiting.keep(job, task)
        jobs.create(request)
    except TwinloopError as error:
        # Said explicitly: not every implementation of Step Functions ends a waiting task when its function raises.
        waiting.fail(job, task, str(error)[:_REASON_LIMIT])
    return job


def resume(detail: Mapping[str, Any], waiting: WaitingTasks) -> bool:
    """Pass a job's end on to the execution that waits for it; False where nobody does (a job started by hand).

    Args:
        detail: The `detail` of a "SageMaker Training Job State Change" event.
        waiting: Who waits for which job.
    """
    job, status = str(detail["TrainingJobName"]), str(detail["TrainingJobStatus"])
    try:
        task = waiting.find(job)
    except NotFoundError:
        return False
    if status == "Completed":
        artefact = str(detail["ModelArtifacts"]["S3ModelArtifacts"])
        result = {"rung": task.rung, "status": status, "model_key": _key(artefact), "seconds": _seconds(detail)}
        waiting.succeed(job, task, result)
    else:
        reason = str(detail.get("FailureReason") or f"the job ended as {status}")
        waiting.fail(job, task, reason[:_REASON_LIMIT])
    return True


def job_name(stack: str, system: str, rung: str, token: str) -> str:
    """Return the job's name: at most 63 letters, digits and hyphens, beginning with the stack's name."""
    digest = hashlib.sha256(token.encode()).hexdigest()[:12]
    middle = f"{system}-{rung}".replace("_", "-")
    room = 63 - len(stack) - len(digest) - 2
    if room < 1:
        raise BadInputError(f"the stack name {stack!r} leaves no room for job names; use at most 40 characters")
    return f"{stack}-{middle[:room].rstrip('-')}-{digest}"


def training_job_request(
    *, settings: TrainingSettings, job: str, system: str, snapshot_key: str, rung: Rung, source: str
) -> dict[str, Any]:
    """Return the CreateTrainingJob request: script mode in the framework's container, one instance, one channel."""
    try:
        image = settings.images[rung.framework]
    except KeyError as error:
        raise BadInputError(f"no training image is configured for {rung.framework!r}") from error
    # Script mode reads its hyperparameters as JSON values, so every string is quoted once more.
    hyperparameters = {name: json.dumps(value) for name, value in rung.hyperparameters.items()}
    hyperparameters |= {
        "sagemaker_program": json.dumps("train.py"),
        "sagemaker_submit_directory": json.dumps(source),
    }
    return {
        "TrainingJobName": job,
        "RoleArn": settings.role,
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "HyperParameters": hyperparameters,
        "InputDataConfig": [
            {
                "ChannelName": "snapshot",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://{settings.bucket}/{snapshot_key}",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{settings.bucket}/jobs/"},
        "ResourceConfig": {"InstanceType": rung.instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": rung.max_runtime_s},
        "Tags": [{"Key": "project", "Value": "twinloop"}, {"Key": "system", "Value": system}],
    }


def _key(address: str) -> str:
    scheme, _, rest = address.partition("://")
    if scheme != "s3" or "/" not in rest:
        raise TwinloopError(f"a training job answered with an artefact that is no S3 address: {address!r}")
    return rest.split("/", 1)[1]


def _seconds(detail: Mapping[str, Any]) -> float:
    """Training time from the event; AWS gives epoch milliseconds."""
    started, ended = detail.get("TrainingStartTime"), detail.get("TrainingEndTime")
    return round((float(ended) - float(started)) / 1000, 3) if started and ended else 0.0
