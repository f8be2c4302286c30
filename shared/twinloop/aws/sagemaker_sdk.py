"""Submits a training job through the SageMaker SDK's ModelTrainer: for people at a shell, never in a Lambda."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from twinloop.aws.clients import client
from twinloop.errors import BadInputError, TwinloopError

# The SDK otherwise reports every call to AWS over the internet.
_SDK_CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}

_LONGEST_BASE = 48  # of a name of 63, which ends with a dash and 14 digits of time


def submit_with_model_trainer(request: Mapping[str, Any], *, wait: bool = False, logs: bool = False) -> str:
    """Submit a job as `twinloop.training.launch.training_job_request` describes it, and return its name.

    Only the fields that request has are carried over. The SDK makes the name: the request's, and a time behind it.

    Args:
        request: A CreateTrainingJob request in script mode.
        wait: Return once the job has ended.
        logs: While waiting, print the job's log.

    Raises:
        BadInputError: The request has a field that is not carried over, or the service refuses it; says why.
        TwinloopError: The job was waited for and has failed; the message is its reason.
    """
    model_trainer = _model_trainer(request)
    base = model_trainer.base_job_name
    try:
        model_trainer.train(wait=False, logs=False)
    except ClientError as error:
        raise BadInputError(f"SageMaker refuses the job: {error.response['Error']['Message']}") from error
    name = _newest(base)
    if wait:
        _follow(name, logs=logs)
    return name


def _model_trainer(request: Mapping[str, Any]) -> Any:
    try:
        from sagemaker.core.helper.session_helper import Session  # noqa: PLC0415 - takes seconds to import
        from sagemaker.core.shapes import OutputDataConfig  # noqa: PLC0415
        from sagemaker.train import ModelTrainer  # noqa: PLC0415
        from sagemaker.train.configs import Compute, StoppingCondition, Tag  # noqa: PLC0415
    except ImportError as error:
        raise TwinloopError("submitting through the SDK needs it: pip install 'twinloop[sagemaker]'") from error
    fields = dict(request)
    image = _take(fields, "AlgorithmSpecification", "TrainingImage", "TrainingInputMode")
    resources = _take(fields, "ResourceConfig", "InstanceType", "InstanceCount", "VolumeSizeInGB")
    output = _take(fields, "OutputDataConfig", "S3OutputPath")
    stopping = _take(fields, "StoppingCondition", "MaxRuntimeInSeconds")
    with _role_taken_as_it_is():
        trainer = ModelTrainer(
            sagemaker_session=Session(sagemaker_config=_SDK_CONFIG),
            base_job_name=fields.pop("TrainingJobName")[:_LONGEST_BASE],
            training_image=image["TrainingImage"],
            training_input_mode=image.get("TrainingInputMode", "File"),
            role=fields.pop("RoleArn"),
            hyperparameters=fields.pop("HyperParameters", {}),
            input_data_config=[_channel(channel) for channel in fields.pop("InputDataConfig", ())],
            output_data_config=OutputDataConfig(s3_output_path=output["S3OutputPath"], compression_type="GZIP"),
            compute=Compute(
                instance_type=resources["InstanceType"],
                instance_count=resources["InstanceCount"],
                volume_size_in_gb=resources["VolumeSizeInGB"],
            ),
            stopping_condition=StoppingCondition(max_runtime_in_seconds=stopping["MaxRuntimeInSeconds"]),
            environment=fields.pop("Environment", {}),
            tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in fields.pop("Tags", ())],
        )
    if fields:
        raise BadInputError(f"not carried over to ModelTrainer: {', '.join(sorted(fields))}")
    return trainer


@contextmanager
def _role_taken_as_it_is() -> Iterator[None]:
    """Skip the SDK's check of the role: it asks for rights to networks that a least-privilege role does not have."""
    before = os.environ.get("SAGEMAKER_VALIDATE_ROLE")
    os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SAGEMAKER_VALIDATE_ROLE"]
        else:
            os.environ["SAGEMAKER_VALIDATE_ROLE"] = before


def _channel(channel: Mapping[str, Any]) -> Any:
    from sagemaker.core.shapes import S3DataSource  # noqa: PLC0415
    from sagemaker.train.configs import InputData  # noqa: PLC0415

    source = dict(channel["DataSource"]["S3DataSource"])
    return InputData(
        channel_name=channel["ChannelName"],
        data_source=S3DataSource(
            s3_uri=source["S3Uri"],
            s3_data_type=source.get("S3DataType", "S3Prefix"),
            s3_data_distribution_type=source.get("S3DataDistributionType", "FullyReplicated"),
        ),
    )


def _take(fields: dict[str, Any], name: str, *known: str) -> Mapping[str, Any]:
    part: Mapping[str, Any] = fields.pop(name)
    unknown = sorted(part.keys() - set(known))
    if unknown:
        raise BadInputError(f"not carried over to ModelTrainer: {', '.join(f'{name}.{field}' for field in unknown)}")
    return part


def _newest(base: str) -> str:
    """The SDK keeps the name it made to itself; the service knows it."""
    listed = client("sagemaker").list_training_jobs(NameContains=base, SortBy="CreationTime", SortOrder="Descending")
    summaries = [entry for entry in listed["TrainingJobSummaries"] if entry["TrainingJobName"].startswith(base)]
    return str(max(summaries, key=lambda entry: entry["CreationTime"])["TrainingJobName"])


def _follow(name: str, *, logs: bool) -> None:
    from sagemaker.core.resources import TrainingJob  # noqa: PLC0415
    from sagemaker.core.utils.exceptions import FailedStatusError  # noqa: PLC0415

    try:
        TrainingJob.get(name).wait(poll=1, logs=logs)
    except FailedStatusError as error:
        reason = client("sagemaker").describe_training_job(TrainingJobName=name).get("FailureReason", "no reason given")
        raise TwinloopError(f"the job {name} failed: {reason}") from error
