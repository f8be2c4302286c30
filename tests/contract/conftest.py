"""DynamoDB in process, as exact as the stores need it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws
from played_aws import create_table


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A client of moto's DynamoDB, with the shared table."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("dynamodb")
        create_table(client, "twinloop")
        # DynamoDB compares and writes an item in one step; moto does it in two, between which another thread may write.
        write, one_at_a_time = client.put_item, threading.Lock()

        def put_item(**request: object) -> object:
            with one_at_a_time:
                return write(**request)

        client.put_item = put_item
        yield client
