"""AWS as moto plays it in this process, and what a deployed function finds there."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from twinloop.aws import clients

BUCKET, TABLE = "data", "main"
_FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
_TOLD = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
_OTHERS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE")  # would lead to an AWS that is not played


@contextmanager
def played_aws(monkeypatch: pytest.MonkeyPatch, config: Any = None) -> Iterator[None]:
    """An AWS with BUCKET and TABLE, to which the environment leads; `config` is moto's."""
    for name, value in {**_TOLD, "TWINLOOP_BUCKET": BUCKET, "TWINLOOP_TABLE": TABLE}.items():
        monkeypatch.setenv(name, value)
    for name in _OTHERS:
        monkeypatch.delenv(name, raising=False)
    with mock_aws(config=config):
        clients.forget()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        create_table(boto3.client("dynamodb"), TABLE)
        yield
    clients.forget()


def create_table(dynamodb: Any, name: str) -> None:
    """The table of the template: a partition and a sort key, both text."""
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )


def create_stream(firehose: Any, name: str, prefix: str) -> None:
    """A stream that leaves what it takes in BUCKET, under a prefix."""
    to = {"RoleARN": "arn:aws:iam::123456789012:role/stream", "BucketARN": f"arn:aws:s3:::{BUCKET}", "Prefix": prefix}
    firehose.create_delivery_stream(DeliveryStreamName=name, ExtendedS3DestinationConfiguration=to)


def function(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """The handler of functions/<name> as a new process has it, of an event."""
    spec = importlib.util.spec_from_file_location(f"{name}_handler", _FUNCTIONS / name / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda event: module.handler(event, None)
