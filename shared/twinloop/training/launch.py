"""Start one training job for one rung, and resume the learning loop when the job has ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from twinloop.contracts.spec import Rung
from twinloop.errors import BadInputError, NotFoundError, TwinloopError, UnavailableError

_REASON_LIMIT = 1024
_ENDED = {"Completed", "Failed", "Stopped"}


class JobService(Protocol):
    """Runs training jobs."""

    def create(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Submit a CreateTrainingJob request; returns None where the job was made.

        Where a job of that name is there already nothing is made, and its description comes back, as
        DescribeTrainingJob gives it. Raises BadInputError where the request is refused, UnavailableError where
        nobody answers or the account's limits leave no room just now.
        """
        ...

    def stop(self, job: str) -> None:
        """Stop a job; one that has ended, or never was, is no error. Raises UnavailableError."""
        ...


class WaitingTasks(Protocol):
    """Who waits for which job."""

    def keep(self, job: str, waiting: WaitingTask) -> None:
        """Remember who waits, before the job is started; who waited until now is forgotten. Raises UnavailableError."""
        ...

    def find(self, job: str) -> WaitingTask:
        """Return who waits for the job; raises NotFoundError, UnavailableError."""
        ...

    def succeed(self, job: str, waiting: WaitingTask, result: Mapping[str, Any]) -> None:
        """Let the waiting task go on with `result`, and forget it. One that gave up is no error."""
        ...

    def fail(self, job: str, waiting: WaitingTask, reason: str, *, passing: bool = False) -> None:
        """Let the waiting task know that the job failed, and forget it. One that gave up is no error.

        `passing`: trying again later can help, and the state machine is to do so.
        """
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


@dataclass(frozen=True)
class Launcher:
    """What it takes to start jobs, and to stop them."""

    settings: TrainingSettings
    jobs: JobService
    waiting: WaitingTasks
    bundles: SourceBundles

    def start(
        self, system: str, execution: str, rung: Rung, snapshot_key: str, token: str, *, champion_key: str = ""
    ) -> str:
        """Start the rung's job on the snapshot and return its name; a job that cannot be started fails its task.

        A rung that can go on does so from the champion's component at `champion_key`, where that is given.

        The name derives from the execution and the rung, never from the token, of which every attempt has a new one:
        a second attempt finds the job of the first, and waits for that. The token is kept before the job starts, so
        that a job that ends at once still finds who waits for it; and a job that is found to have ended is passed on
        here, since its event may have come while nobody waited.
        """
        job, task = self._name(system, execution, rung), WaitingTask(token=token, rung=rung.name)
        try:
            request = training_job_request(
                settings=self.settings,
                job=job,
                system=system,
                snapshot_key=snapshot_key,
                rung=rung,
                source=self.bundles.publish(rung.name),
                champion_key=champion_key,
            )
            self.waiting.keep(job, task)
            found = self.jobs.create(request)
            if found is not None and str(found["TrainingJobStatus"]) in _ENDED:
                _pass_on(found, task, self.waiting)
        except TwinloopError as error:
            # Said explicitly: not every implementation of Step Functions ends a waiting task when its function raises.
            passing = isinstance(error, UnavailableError)
            self.waiting.fail(job, task, str(error)[:_REASON_LIMIT], passing=passing)
        return job

    def stop(self, system: str, execution: str, rung: Rung) -> str:
        """Stop the job of a rung whose task gave up waiting, so that nobody pays for it; returns its name."""
        job = self._name(system, execution, rung)
        self.jobs.stop(job)
        return job

    def _name(self, system: str, execution: str, rung: Rung) -> str:
        return job_name(self.settings.stack, system, rung.name, execution)


def resume(detail: Mapping[str, Any], waiting: WaitingTasks) -> bool:
    """Pass a job's end on to the execution that waits for it; False where nobody does (a job started by hand).

    Args:
        detail: The `detail` of a "SageMaker Training Job State Change" event.
        waiting: Who waits for which job.
    """
    try:
        task = waiting.find(str(detail["TrainingJobName"]))
    except NotFoundError:
        return False
    _pass_on(detail, task, waiting)
    return True


def _pass_on(detail: Mapping[str, Any], task: WaitingTask, waiting: WaitingTasks) -> None:
    """Tell a task how its job ended."""
    job, status = str(detail["TrainingJobName"]), str(detail["TrainingJobStatus"])
    if status == "Completed":
        artefact = str(detail["ModelArtifacts"]["S3ModelArtifacts"])
        result = {"rung": task.rung, "status": status, "model_key": _key(artefact), "seconds": _seconds(detail)}
        waiting.succeed(job, task, result)
    else:
        reason = str(detail.get("FailureReason") or f"the job ended as {status}")
        waiting.fail(job, task, reason[:_REASON_LIMIT])


def job_name(stack: str, system: str, rung: str, run: str) -> str:
    """Return the job's name: at most 63 letters, digits and hyphens, beginning with the stack's name.

    Args:
        stack: The stack's name.
        system: The system's name.
        rung: The rung's name.
        run: What tells one run of the ladder from another; the same run and rung always get the same name.
    """
    digest = hashlib.sha256(f"{system}/{rung}/{run}".encode()).hexdigest()[:12]
    middle = f"{system}-{rung}".replace("_", "-")
    room = 63 - len(stack) - len(digest) - 2
    if room < 1:
        raise BadInputError(f"the stack name {stack!r} leaves no room for job names; use at most 40 characters")
    return f"{stack}-{middle[:room].rstrip('-')}-{digest}"


def training_job_request(
    *,
    settings: TrainingSettings,
    job: str,
    system: str,
    snapshot_key: str,
    rung: Rung,
    source: str,
    champion_key: str = "",
) -> dict[str, Any]:
    """Return the CreateTrainingJob request: script mode in the framework's container, one instance.

    Channels are the snapshot, and for a rung that goes on the champion's component.
    """
    try:
        image = settings.images[rung.framework]
    except KeyError as error:
        parameter = f"{rung.framework.capitalize()}Image"
        words = f"AWS has no prebuilt training image for {rung.framework} in this region: name one as {parameter}"
        raise BadInputError(f"{words}, a parameter of template.yaml") from error
    # Script mode reads its hyperparameters as JSON values, so every string is quoted once more.
    hyperparameters = {name: json.dumps(value) for name, value in rung.hyperparameters.items()}
    hyperparameters |= {
        "sagemaker_program": json.dumps("train.py"),
        "sagemaker_submit_directory": json.dumps(source),
    }
    channels = {"snapshot": snapshot_key} | ({"champion": champion_key} if champion_key and rung.continues else {})
    return {
        "TrainingJobName": job,
        "RoleArn": settings.role,
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "HyperParameters": hyperparameters,
        "InputDataConfig": [_channel(name, f"s3://{settings.bucket}/{key}") for name, key in channels.items()],
        "OutputDataConfig": {"S3OutputPath": f"s3://{settings.bucket}/jobs/"},
        "ResourceConfig": {"InstanceType": rung.instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": rung.max_runtime_s},
        "Tags": [{"Key": "project", "Value": "twinloop"}, {"Key": "system", "Value": system}],
    }


def _channel(name: str, prefix: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": prefix, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _key(address: str) -> str:
    scheme, _, rest = address.partition("://")
    if scheme != "s3" or "/" not in rest:
        raise TwinloopError(f"a training job answered with an artefact that is no S3 address: {address!r}")
    return rest.split("/", 1)[1]


def _seconds(detail: Mapping[str, Any]) -> float:
    """Training time; events give epoch milliseconds, descriptions moments."""
    started, ended = detail.get("TrainingStartTime"), detail.get("TrainingEndTime")
    if isinstance(started, datetime) and isinstance(ended, datetime):
        return round((ended - started).total_seconds(), 3)
    return round((float(ended) - float(started)) / 1000, 3) if started and ended else 0.0
