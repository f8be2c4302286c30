"""The snapshot function on an S3 and a DynamoDB."""

import io
import json
from datetime import UTC, datetime, timedelta

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from played_aws import BUCKET, TABLE, function

from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.errors import BadInputError, NotFoundError
from twinloop.features.values import compute
from twinloop.systems.video.features import COUNTING

START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def handler(bucket):
    return function("snapshot")


def fill(bucket) -> None:
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
        bucket.write(f"lake/video/events/dt=2025-01-01/{n}.parquet", body.getvalue())


def listed():
    """The objects of all snapshots, with when each was written."""
    return boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="snapshots/")["Contents"]


def test_a_snapshot_is_made_once(bucket, handler):
    fill(bucket)
    answer = handler({"system": "video"})
    json.dumps(answer)  # what goes into the state machine
    assert answer["snapshot_key"] == f"snapshots/video/{answer['snapshot_id']}/"
    assert [rung["name"] for rung in answer["rungs"]][:2] == ["popularity", "ease"]
    assert [entry["rung"] for entry in answer["left_out"]] == ["multitask_ranker"], "nothing was shown"
    assert {"name", "framework", "hyperparameters", "instance_type", "max_runtime_s"} <= answer["rungs"][0].keys()
    written = listed()
    assert [entry["Key"].removeprefix(answer["snapshot_key"]) for entry in written] == [
        "cases/test.jsonl.gz",
        "cases/validation.jsonl.gz",
        "items/items.parquet",
        "manifest.json",
        "test/interactions.parquet",
        "train/interactions.parquet",
        "users/users.parquet",
        "validation/interactions.parquet",
    ]
    assert handler({"system": "video"}) == answer
    chosen = handler({"system": "video", "rungs": ["ease"]})
    assert ([rung["name"] for rung in chosen["rungs"]], chosen["left_out"]) == (["popularity", "ease"], [])
    with pytest.raises(BadInputError, match="multitask_ranker cannot be trained: the snapshot has no impressions"):
        handler({"system": "video", "rungs": ["multitask_ranker", "ease"]})
    assert [entry["LastModified"] for entry in listed()] == [entry["LastModified"] for entry in written]


def test_histories_are_materialised(bucket, handler):
    fill(bucket)
    answer = handler({"action": "materialise", "system": "video"})
    assert answer == {"system": "video", "users": 12, "counted": {"items": 10, "users": 12}}
    assert handler({"action": "materialise", "system": "video"}) == answer
    history = DynamoOnlineStore(TABLE).history("video", "u03")
    assert [entry.item_id for entry in history] == [f"i{n}" for n in range(10)]
    at_ms = int((START + timedelta(hours=1)).timestamp() * 1000)
    known = DynamoFeatureStore(TABLE).recall("video", "u03", ["i3"])
    assert compute(COUNTING, at_ms, known.user, known.items)["item_likes_30d"].values.tolist() == [12.0]


def test_an_empty_lake_says_what_to_load(bucket, handler):
    with pytest.raises(BadInputError, match="twinloop load video"):
        handler({"system": "video"})


def test_an_unknown_system_is_named(bucket, handler):
    with pytest.raises(NotFoundError, match="there is no system 'nothing'"):
        handler({"system": "nothing"})
