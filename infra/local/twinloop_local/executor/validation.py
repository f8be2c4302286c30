"""Checks a CreateTrainingJob request: first against AWS's own model of it, then against what can run here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from twinloop_local.executor.refusals import Refused

# What the executor carries out. Whatever else a request sets is refused: a job must not seem to have what it has not.
OFFERED = frozenset(
    {
        "TrainingJobName",
        "HyperParameters",
        "AlgorithmSpecification.TrainingImage",
        "AlgorithmSpecification.TrainingInputMode",
        "RoleArn",
        "InputDataConfig.ChannelName",
        "InputDataConfig.ContentType",
        "InputDataConfig.CompressionType",
        "InputDataConfig.RecordWrapperType",
        "InputDataConfig.InputMode",
        "InputDataConfig.DataSource.S3DataSource.S3DataType",
        "InputDataConfig.DataSource.S3DataSource.S3Uri",
        "InputDataConfig.DataSource.S3DataSource.S3DataDistributionType",
        "OutputDataConfig.S3OutputPath",
        "OutputDataConfig.CompressionType",
        "ResourceConfig.InstanceType",
        "ResourceConfig.InstanceCount",
        "ResourceConfig.VolumeSizeInGB",
        "StoppingCondition.MaxRuntimeInSeconds",
        "Tags",
        "Environment",
    }
)

# Fields that are offered, with the only values they may have.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "AlgorithmSpecification.TrainingInputMode": ("File",),
    "InputDataConfig.InputMode": ("File",),
    "InputDataConfig.CompressionType": ("None",),
    "InputDataConfig.RecordWrapperType": ("None",),
    "InputDataConfig.DataSource.S3DataSource.S3DataType": ("S3Prefix",),
    "InputDataConfig.DataSource.S3DataSource.S3DataDistributionType": ("FullyReplicated",),
    "OutputDataConfig.CompressionType": ("GZIP",),
    "ResourceConfig.InstanceCount": (1,),
}

# AWS's model leaves some of these out for kinds of jobs that are not offered here.
NEEDED = (
    "AlgorithmSpecification.TrainingImage",
    "OutputDataConfig.S3OutputPath",
    "ResourceConfig.InstanceType",
    "ResourceConfig.InstanceCount",
)

SCRIPT_MODE = ("sagemaker_program", "sagemaker_submit_directory")
_FREE_FORM = ("HyperParameters", "Environment", "Tags")


def check(request: Mapping[str, Any]) -> None:
    """Raise Refused, naming the field, unless the job can run here."""
    shape = _shape()
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise Refused(report.generate_report())
    for path, message in _violations(request, shape, ""):
        raise Refused(f"1 validation error detected: value at '{path}' fails: {message}")
    leaves = list(_leaves(request, ""))
    missing = sorted(set(NEEDED) - {path for path, _ in leaves})
    if missing:
        raise Refused(f"{missing[0]} is missing; the local executor needs it")
    for path, value in leaves:
        if path not in OFFERED:
            raise Refused(f"{path} is not offered by the local executor; leave it out here, or run the job on AWS")
        if value not in ONLY.get(path, (value,)):
            allowed = " or ".join(str(choice) for choice in ONLY[path])
            raise Refused(f"{path}={value} is not offered by the local executor; it can do {allowed}")
    _check_script_mode(request)
    _check_channels(request)


def _check_script_mode(request: Mapping[str, Any]) -> None:
    hyperparameters = request.get("HyperParameters", {})
    missing = [name for name in SCRIPT_MODE if not hyperparameters.get(name, "").strip('"')]
    if missing:
        raise Refused(
            f"hyperparameter {' and '.join(missing)} missing: the local executor has no containers, so an image is "
            "only a name here; it runs script mode, where these name the script and its source bundle in S3"
        )


def _check_channels(request: Mapping[str, Any]) -> None:
    names = [channel["ChannelName"] for channel in request.get("InputDataConfig", ())]
    for channel in request.get("InputDataConfig", ()):
        source = channel["DataSource"].get("S3DataSource")
        if source is None:
            raise Refused(f"channel {channel['ChannelName']} has no S3DataSource; the local executor reads S3 only")
    if len(names) != len(set(names)):
        raise Refused(f"channel names must be unique, got {', '.join(names)}")


@cache
def _shape() -> Any:
    model = botocore.session.get_session().get_service_model("sagemaker")
    return model.operation_model("CreateTrainingJob").input_shape


def _violations(value: Any, shape: Any, path: str) -> Iterator[tuple[str, str]]:
    """Enumerations, patterns and maxima of AWS's model, which botocore leaves to the service."""
    if shape.type_name == "structure":
        for name, member in value.items():
            yield from _violations(member, shape.members[name], f"{path}.{name}".lstrip("."))
    elif shape.type_name == "list":
        yield from _too_big(len(value), shape, path)
        for member in value:
            yield from _violations(member, shape.member, path)
    elif shape.type_name == "map":
        yield from _too_big(len(value), shape, path)
        for key, member in value.items():
            yield from _violations(key, shape.key, f"{path}.{key}")
            yield from _violations(member, shape.value, f"{path}.{key}")
    elif shape.type_name == "string":
        yield from _too_big(len(value), shape, path)
        if shape.enum and value not in shape.enum:
            yield path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        pattern = _pattern(shape.metadata.get("pattern", ".*"))
        if pattern and not pattern.fullmatch(value):
            yield path, f"Member must satisfy regular expression pattern: {pattern.pattern}"
    elif shape.type_name in {"integer", "long"}:
        yield from _too_big(value, shape, path)


@cache
def _pattern(text: str) -> re.Pattern[str] | None:
    """None for the few patterns with character classes that Python does not know (those of tags)."""
    try:
        return re.compile(text, re.DOTALL)
    except re.error:
        return None


def _too_big(size: int, shape: Any, path: str) -> Iterator[tuple[str, str]]:
    maximum = shape.metadata.get("max")
    if maximum is not None and size > maximum:
        yield path, f"Member must have length or value less than or equal to {maximum}"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Fields that are set, as dotted paths without list positions. What is false or empty asks for nothing."""
    if path not in _FREE_FORM and isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(member, f"{path}.{name}".lstrip("."))
    elif path not in _FREE_FORM and isinstance(value, list) and value and isinstance(value[0], dict):
        for member in value:
            yield from _leaves(member, path)
    elif value not in (None, False, [], {}, ""):
        yield path, value
