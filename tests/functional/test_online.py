"""The online function between a queue, a DynamoDB and a Firehose."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from twinloop.aws import clients
from twinloop.aws.firehose import FirehoseStream
from twinloop.aws.online_store import DynamoOnlineStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cloud(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "TWINLOOP_TABLE": "twinloop",
        "TWINLOOP_RAW_STREAM": "stack-{system}-events",
    }.items():
        monkeypatch.setenv(name, value)
    clients.forget()
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        boto3.client("firehose").create_delivery_stream(
            DeliveryStreamName="stack-video-events",
            ExtendedS3DestinationConfiguration={
                "BucketARN": "arn:aws:s3:::data",
                "RoleARN": "arn:aws:iam::123456789012:role/stream",
                "Prefix": "raw/video/events/",
            },
        )
        boto3.client("dynamodb").create_table(
            TableName="twinloop",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        yield s3
    clients.forget()


@pytest.fixture
def handler():
    spec = importlib.util.spec_from_file_location("online_handler", ROOT / "functions/online/handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


def batch(*events: object) -> dict[str, object]:
    records = [
        {
            "messageId": f"m{n}",
            "body": event if isinstance(event, str) else json.dumps({"system": "video", "event": event}),
        }
        for n, event in enumerate(events)
    ]
    return {"Records": records}


def event(event_id: str, **changes: object) -> dict[str, object]:
    base = {"type": "like", "time": "2026-01-01T00:00:00Z", "user_id": "u", "item_id": f"item-{event_id}"}
    return {"event_id": event_id} | base | changes


def raw_lines(s3) -> list[dict[str, object]]:
    entries = s3.list_objects_v2(Bucket="data", Prefix="raw/video/events/").get("Contents", [])
    bodies = [s3.get_object(Bucket="data", Key=entry["Key"])["Body"].read() for entry in entries]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_good_events_pass_and_poison_fails_alone(cloud, handler):
    answer = handler(batch(event("1"), "poison", event("2"), event("3", type="impression")), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert {entry.item_id for entry in DynamoOnlineStore("twinloop").history("video", "u")} == {"item-1", "item-2"}
    assert sorted(line["event_id"] for line in raw_lines(cloud)) == ["1", "2", "3"]


def test_a_second_delivery_changes_no_history(cloud, handler):
    handler(batch(event("1"), event("2")), None)
    before = DynamoOnlineStore("twinloop").history("video", "u")
    assert handler(batch(event("2"), event("1")), None) == {"batchItemFailures": []}
    assert DynamoOnlineStore("twinloop").history("video", "u") == before


def test_without_its_stream_every_message_comes_again(cloud, handler, monkeypatch):
    boto3.client("firehose").delete_delivery_stream(DeliveryStreamName="stack-video-events")
    answer = handler(batch(event("1"), event("2")), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}, {"itemIdentifier": "m1"}]}


def test_the_function_runs_with_what_its_layer_holds():
    """It has neither numpy nor anything that reads Parquet or models."""
    code = """
import sys
for name in ("numpy", "pandas", "pyarrow", "duckdb", "onnxruntime"):
    sys.modules[name] = None
import runpy
runpy.run_path("functions/online/handler.py")
from twinloop import systems
assert systems.load("video").strength({"type": "like"}) == 1
"""
    environment = {"PATH": os.environ["PATH"], "TWINLOOP_TABLE": "t", "TWINLOOP_RAW_STREAM": "s"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


class PickyFirehose:
    """Takes calls within Firehose's limits and refuses records that say so."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def put_record_batch(self, DeliveryStreamName, Records):
        assert DeliveryStreamName == "s-video"
        assert len(Records) <= 500
        assert sum(len(record["Data"]) for record in Records) <= 4_194_304
        self.calls.append(len(Records))
        answers = [
            {"ErrorCode": "ServiceUnavailableException"} if b"refuse" in record["Data"] else {"RecordId": "1"}
            for record in Records
        ]
        return {"FailedPutCount": 1, "RequestResponses": answers}


def test_lines_go_in_as_few_calls_as_the_limits_allow():
    firehose = PickyFirehose()
    stream = FirehoseStream("s-{system}", firehose)
    assert stream.send("video", []) == set()
    assert stream.send("video", [b"x"] * 499 + [b"refuse"] + [b"x"] * 700 + [b"refuse"]) == {499, 1200}
    assert stream.send("video", [b"x" * 900_000] * 9) == set()
    assert firehose.calls == [500, 500, 201, 4, 4, 1]
