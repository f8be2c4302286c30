"""The snapshot function on an S3 and a DynamoDB."""

import importlib.util
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from twinloop.aws import clients
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.errors import BadInputError, NotFoundError
from twinloop.features.values import compute
from twinloop.systems.video.features import COUNTING

ROOT = Path(__file__).parents[2]
START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def cloud(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "TWINLOOP_BUCKET": "data",
        "TWINLOOP_TABLE": "twinloop",
    }.items():
        monkeypatch.setenv(name, value)
    clients.forget()
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
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
    spec = importlib.util.spec_from_file_location("snapshot_handler", ROOT / "functions/snapshot/handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


def fill(s3) -> None:
    rows = [
        {
            "event_id": f"{user}-{item}",
            "type": "rating",
            "time": START + timedelta(minutes=item),
            "user_id": f"u{user:02d}",
            "item_id": f"i{item}",
            "rating": 5.0 if item % 2 else 4.5,
        }
        for user in range(12)
        for item in range(10)
    ]
    for n in range(2):
        body = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows[n::2]), body)
        s3.put_object(Bucket="data", Key=f"lake/video/events/dt=2025-01-01/{n}.parquet", Body=body.getvalue())


def test_a_snapshot_is_made_once(cloud, handler):
    fill(cloud)
    answer = handler({"system": "video"}, None)
    json.dumps(answer)  # what goes into the state machine
    assert answer["snapshot_key"] == f"snapshots/video/{answer['snapshot_id']}/"
    assert [rung["name"] for rung in answer["rungs"]][:2] == ["popularity", "ease"]
    assert [entry["rung"] for entry in answer["left_out"]] == ["multitask_ranker"], "nothing was shown"
    assert {"name", "framework", "hyperparameters", "instance_type", "max_runtime_s"} <= answer["rungs"][0].keys()
    listed = cloud.list_objects_v2(Bucket="data", Prefix=answer["snapshot_key"])["Contents"]
    assert [entry["Key"].removeprefix(answer["snapshot_key"]) for entry in listed] == [
        "cases/test.jsonl.gz",
        "cases/validation.jsonl.gz",
        "items/items.parquet",
        "manifest.json",
        "test/interactions.parquet",
        "train/interactions.parquet",
        "users/users.parquet",
        "validation/interactions.parquet",
    ]
    assert handler({"system": "video"}, None) == answer
    chosen = handler({"system": "video", "rungs": ["ease"]}, None)
    assert ([rung["name"] for rung in chosen["rungs"]], chosen["left_out"]) == (["popularity", "ease"], [])
    with pytest.raises(BadInputError, match="multitask_ranker cannot be trained: the snapshot has no impressions"):
        handler({"system": "video", "rungs": ["multitask_ranker", "ease"]}, None)
    again = cloud.list_objects_v2(Bucket="data", Prefix="snapshots/")["Contents"]
    assert [entry["LastModified"] for entry in again] == [entry["LastModified"] for entry in listed]


def test_histories_are_materialised(cloud, handler):
    fill(cloud)
    answer = handler({"action": "materialise", "system": "video"}, None)
    assert answer == {"system": "video", "users": 12, "counted": {"items": 10, "users": 12}}
    assert handler({"action": "materialise", "system": "video"}, None) == answer
    history = DynamoOnlineStore("twinloop").history("video", "u03")
    assert [entry.item_id for entry in history] == [f"i{n}" for n in range(10)]
    at_ms = int((START + timedelta(hours=1)).timestamp() * 1000)
    known = DynamoFeatureStore("twinloop").recall("video", "u03", ["i3"])
    assert compute(COUNTING, at_ms, known.user, known.items)["item_likes_30d"].values.tolist() == [12.0]


def test_an_empty_lake_says_what_to_load(cloud, handler):
    with pytest.raises(BadInputError, match="twinloop load video"):
        handler({"system": "video"}, None)


def test_an_unknown_system_is_named(cloud, handler):
    with pytest.raises(NotFoundError, match="there is no system 'nothing'"):
        handler({"system": "nothing"}, None)
