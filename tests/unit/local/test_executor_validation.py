"""What the executor takes and what it refuses, and that every refusal names the field."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from twinloop_local.executor.refusals import Refused
from twinloop_local.executor.validation import check

CHANNEL: dict[str, Any] = {
    "ChannelName": "snapshot",
    "ContentType": "application/x-parquet",
    "DataSource": {
        "S3DataSource": {
            "S3DataType": "S3Prefix",
            "S3Uri": "s3://bucket/snapshots/video/1/",
            "S3DataDistributionType": "FullyReplicated",
        }
    },
}
REQUEST: dict[str, Any] = {
    "TrainingJobName": "video-ease-1",
    "HyperParameters": {
        "sagemaker_program": '"train.py"',
        "sagemaker_submit_directory": '"s3://bucket/jobs/source/1/sourcedir.tar.gz"',
        "seed": "7",
    },
    "AlgorithmSpecification": {
        "TrainingImage": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5",
        "TrainingInputMode": "File",
    },
    "RoleArn": "arn:aws:iam::000000000000:role/training",
    "InputDataConfig": [CHANNEL],
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "Environment": {"A": "b"},
    "Tags": [{"Key": "project", "Value": "twinloop"}],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    request = copy.deepcopy(REQUEST)
    place: Any = request
    *parents, last = path.split(".")
    for name in parents:
        place = place[int(name)] if name.isdigit() else place.setdefault(name, {})
    place[last] = value
    return request


def test_the_request_of_our_own_train_function_passes() -> None:
    check(REQUEST)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("EnableManagedSpotTraining", False),
        ("EnableNetworkIsolation", False),
        ("AlgorithmSpecification.EnableSageMakerMetricsTimeSeries", False),
        ("OutputDataConfig.CompressionType", "GZIP"),
        ("OutputDataConfig.KmsKeyId", ""),
        ("InputDataConfig.0.CompressionType", "None"),
    ],
)
def test_what_asks_for_nothing_more_passes(path: str, value: Any) -> None:
    check(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("EnableManagedSpotTraining", True),
        ("EnableNetworkIsolation", True),
        ("EnableInterContainerTrafficEncryption", True),
        ("VpcConfig", {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}),
        ("CheckpointConfig", {"S3Uri": "s3://bucket/checkpoints"}),
        ("RetryStrategy", {"MaximumRetryAttempts": 1}),
        ("ExperimentConfig", {"ExperimentName": "e"}),
        ("ResourceConfig.InstanceCount", 2),
        ("ResourceConfig.KeepAlivePeriodInSeconds", 60),
        ("ResourceConfig.VolumeKmsKeyId", "key"),
        ("StoppingCondition.MaxWaitTimeInSeconds", 7200),
        ("OutputDataConfig.KmsKeyId", "key"),
        ("OutputDataConfig.CompressionType", "NONE"),
        ("AlgorithmSpecification.TrainingInputMode", "FastFile"),
        ("AlgorithmSpecification.ContainerEntrypoint", ["python"]),
        ("AlgorithmSpecification.MetricDefinitions", [{"Name": "loss", "Regex": "loss=(.*)"}]),
        ("InputDataConfig.0.InputMode", "Pipe"),
        ("InputDataConfig.0.CompressionType", "Gzip"),
        ("InputDataConfig.0.RecordWrapperType", "RecordIO"),
        ("InputDataConfig.0.ShuffleConfig", {"Seed": 1}),
        ("InputDataConfig.0.DataSource.S3DataSource.S3DataType", "ManifestFile"),
        ("InputDataConfig.0.DataSource.S3DataSource.S3DataDistributionType", "ShardedByS3Key"),
    ],
)
def test_what_only_aws_can_do_is_refused_by_name(path: str, value: Any) -> None:
    with pytest.raises(Refused, match="is not offered by the local executor") as refusal:
        check(changed(path, value))
    assert path.replace(".0.", ".").split(".")[-1] in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("Colour", "red", "Colour"),
        ("ResourceConfig.Colour", "red", "Colour"),
        ("TrainingJobName", "under_score", "regular expression"),
        ("TrainingJobName", "a" * 64, "63"),
        ("TrainingJobName", 7, "Invalid type for parameter TrainingJobName"),
        ("RoleArn", "training", "RoleArn|length"),
        ("ResourceConfig.InstanceType", "ml.enormous", "enum"),
        ("ResourceConfig.InstanceCount", 0, "InstanceCount"),
        ("StoppingCondition.MaxRuntimeInSeconds", 0, "MaxRuntimeInSeconds"),
        ("HyperParameters", {"a": 1}, "HyperParameters"),
        ("HyperParameters", {}, "sagemaker_program and sagemaker_submit_directory"),
        ("HyperParameters.sagemaker_program", '""', "sagemaker_program missing"),
        ("InputDataConfig.0.DataSource", {}, "has no S3DataSource"),
        ("InputDataConfig", [CHANNEL, CHANNEL], "must be unique"),
    ],
)
def test_what_is_wrong_is_said(path: str, value: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        check(changed(path, value))


@pytest.mark.parametrize("name", ["TrainingJobName", "AlgorithmSpecification", "OutputDataConfig", "ResourceConfig"])
def test_what_is_required_is_asked_for(name: str) -> None:
    with pytest.raises(Refused, match=name):
        check({key: value for key, value in REQUEST.items() if key != name})
