"""The `etl` function on emulated S3 and Glue: sample deliveries in, lake, quarantine and catalog out."""

import io
import json
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from played_aws import BUCKET, function

from twinloop import systems
from twinloop.aws.raw import RawObjects
from twinloop.ingest.lake import describe
from twinloop.ingest.receipts import receipt
from twinloop.ingest.upload import plan

ROOT = Path(__file__).parents[2]
DATABASE = "twinloop_lake"


@pytest.fixture
def glue(bucket, monkeypatch):
    monkeypatch.setenv("TWINLOOP_GLUE_DATABASE", DATABASE)
    glue = boto3.client("glue")
    glue.create_database(DatabaseInput={"Name": DATABASE})
    return glue


@pytest.fixture
def handler(glue):
    return function("etl")


def delivery(name):
    return json.loads((ROOT / "events/etl" / name).read_text())


def put_samples(bucket):
    for key in ("events/valid.jsonl", "events/poison.jsonl"):
        bucket.write(f"raw/video/{key}", (ROOT / "events/video" / key).read_bytes())
    body = (ROOT / "events/video/items/valid.csv").read_bytes()
    bucket.write("raw/video/items/first load/valid.csv", body)


def lake(bucket, table):
    keys = list(bucket.keys(f"lake/video/{table}/"))
    return {key: pq.read_table(io.BytesIO(bucket.read(key).body)) for key in keys}


def test_a_delivery_fills_lake_quarantine_and_catalog(bucket, glue, handler):
    put_samples(bucket)
    assert handler(delivery("delivery.json")) == {"batchItemFailures": []}
    events = lake(bucket, "events")
    assert sorted(row["event_id"] for table in events.values() for row in table.to_pylist()) == [
        *("e-1001", "e-1002", "e-1003", "e-1004", "e-2001", "e-2010")
    ]
    report = describe(bucket, "video")
    assert sum(report["events"].quarantined.values()) == 9
    assert sum(report["items"].rows.values()) == 3

    table = glue.get_table(DatabaseName=DATABASE, Name="video_events")["Table"]
    types = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert (types["time"], types["rating"], types["context"]) == ("timestamp", "double", "string")
    assert table["PartitionKeys"] == [{"Name": "dt", "Type": "date"}]
    assert table["StorageDescriptor"]["Location"].rstrip("/") == f"s3://{BUCKET}/lake/video/events"
    partitions = glue.get_partitions(DatabaseName=DATABASE, TableName="video_events")["Partitions"]
    assert sorted(partition["Values"][0] for partition in partitions) == ["2025-03-01", "2025-03-02", "2025-03-03"]
    assert any(table["StorageDescriptor"]["Columns"][0] for _ in partitions)
    assert glue.get_table(DatabaseName=DATABASE, Name="video_items")["Table"]


def test_a_delivery_again_changes_nothing(bucket, handler):
    put_samples(bucket)
    handler(delivery("delivery.json"))
    before = {key: bucket.read(key).etag for key in bucket.keys("")}
    assert handler(delivery("delivery.json")) == {"batchItemFailures": []}
    assert {key: bucket.read(key).etag for key in bucket.keys("")} == before


def test_the_test_message_and_objects_that_are_gone_are_done(handler):
    assert handler(delivery("test-event.json")) == {"batchItemFailures": []}
    assert handler(delivery("delivery.json")) == {"batchItemFailures": []}


def test_a_missing_database_is_tried_again_and_then_completes(bucket, glue, handler):
    put_samples(bucket)
    glue.delete_database(Name=DATABASE)
    failures = handler(delivery("delivery.json"))["batchItemFailures"]
    assert [failure["itemIdentifier"] for failure in failures] == ["m-1", "m-2", "m-3"]
    glue.create_database(DatabaseInput={"Name": DATABASE})
    assert handler(delivery("delivery.json")) == {"batchItemFailures": []}
    assert glue.get_partitions(DatabaseName=DATABASE, TableName="video_events")["Partitions"]


def test_compaction_runs(handler):
    assert handler(delivery("compact.json")) == {"system": "video", "merged": 0, "written": 0, "deleted": 0}


def test_an_upload_can_be_followed_by_its_receipt(bucket, handler, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes((ROOT / "events/video/events/late.jsonl").read_bytes())
    (upload,) = plan([path], systems.load("video"))
    told = []
    etag = RawObjects(BUCKET).send(upload, told.append)
    assert sum(told) == upload.size
    assert receipt(bucket, "video", upload.key, etag) is None
    message = delivery("delivery.json")["Records"][0]
    body = json.loads(message["body"])
    body["Records"][0]["s3"]["object"]["key"] = upload.key
    handler({"Records": [{**message, "body": json.dumps(body)}]})
    assert receipt(bucket, "video", upload.key, etag).rows == {"2025-01-15": 1, "2025-03-02": 1}
