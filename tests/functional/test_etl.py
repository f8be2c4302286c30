"""The `etl` function on emulated S3 and Glue: sample deliveries in, lake, quarantine and catalog out."""

import importlib.util
import io
import json
from pathlib import Path
from types import SimpleNamespace

import boto3
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from twinloop import systems
from twinloop.aws import clients
from twinloop.aws.objects import S3ObjectStore
from twinloop.aws.raw import RawObjects
from twinloop.ingest.lake import describe
from twinloop.ingest.receipts import receipt
from twinloop.ingest.upload import plan

ROOT = Path(__file__).parents[2]
BUCKET, DATABASE = "data", "twinloop_lake"


@pytest.fixture
def cloud(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TWINLOOP_BUCKET": BUCKET,
        "TWINLOOP_GLUE_DATABASE": DATABASE,
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        clients.forget()
        boto3.DEFAULT_SESSION = None
        s3, glue = boto3.client("s3"), boto3.client("glue")
        s3.create_bucket(Bucket=BUCKET)
        glue.create_database(DatabaseInput={"Name": DATABASE})
        yield SimpleNamespace(s3=s3, glue=glue)
        clients.forget()


@pytest.fixture
def handler(cloud):
    del cloud
    spec = importlib.util.spec_from_file_location("etl_handler", ROOT / "functions/etl/handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


def delivery(name):
    return json.loads((ROOT / "events/etl" / name).read_text())


def put_samples(s3):
    for key in ("events/valid.jsonl", "events/poison.jsonl"):
        s3.put_object(Bucket=BUCKET, Key=f"raw/video/{key}", Body=(ROOT / "events/video" / key).read_bytes())
    body = (ROOT / "events/video/items/valid.csv").read_bytes()
    s3.put_object(Bucket=BUCKET, Key="raw/video/items/first load/valid.csv", Body=body)


def lake(s3, table):
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"lake/video/{table}/")["Contents"]
    return {
        entry["Key"]: pq.read_table(io.BytesIO(s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()))
        for entry in listed
    }


def test_a_delivery_fills_lake_quarantine_and_catalog(cloud, handler):
    put_samples(cloud.s3)
    assert handler(delivery("delivery.json"), None) == {"batchItemFailures": []}
    events = lake(cloud.s3, "events")
    assert sorted(row["event_id"] for table in events.values() for row in table.to_pylist()) == [
        *("e-1001", "e-1002", "e-1003", "e-1004", "e-2001", "e-2010")
    ]
    report = describe(S3ObjectStore(BUCKET), "video")
    assert sum(report["events"].quarantined.values()) == 9
    assert sum(report["items"].rows.values()) == 3

    table = cloud.glue.get_table(DatabaseName=DATABASE, Name="video_events")["Table"]
    types = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert (types["time"], types["rating"], types["context"]) == ("timestamp", "double", "string")
    assert table["PartitionKeys"] == [{"Name": "dt", "Type": "date"}]
    assert table["StorageDescriptor"]["Location"].rstrip("/") == f"s3://{BUCKET}/lake/video/events"
    partitions = cloud.glue.get_partitions(DatabaseName=DATABASE, TableName="video_events")["Partitions"]
    assert sorted(partition["Values"][0] for partition in partitions) == ["2025-03-01", "2025-03-02", "2025-03-03"]
    assert any(table["StorageDescriptor"]["Columns"][0] for _ in partitions)
    assert cloud.glue.get_table(DatabaseName=DATABASE, Name="video_items")["Table"]


def test_a_delivery_again_changes_nothing(cloud, handler):
    put_samples(cloud.s3)
    handler(delivery("delivery.json"), None)
    before = {entry["Key"]: entry["ETag"] for entry in cloud.s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert handler(delivery("delivery.json"), None) == {"batchItemFailures": []}
    assert {entry["Key"]: entry["ETag"] for entry in cloud.s3.list_objects_v2(Bucket=BUCKET)["Contents"]} == before


def test_the_test_message_and_objects_that_are_gone_are_done(handler):
    assert handler(delivery("test-event.json"), None) == {"batchItemFailures": []}
    assert handler(delivery("delivery.json"), None) == {"batchItemFailures": []}


def test_a_missing_database_is_tried_again_and_then_completes(cloud, handler):
    put_samples(cloud.s3)
    cloud.glue.delete_database(Name=DATABASE)
    failures = handler(delivery("delivery.json"), None)["batchItemFailures"]
    assert [failure["itemIdentifier"] for failure in failures] == ["m-1", "m-2", "m-3"]
    cloud.glue.create_database(DatabaseInput={"Name": DATABASE})
    assert handler(delivery("delivery.json"), None) == {"batchItemFailures": []}
    assert cloud.glue.get_partitions(DatabaseName=DATABASE, TableName="video_events")["Partitions"]


def test_compaction_runs(handler):
    assert handler(delivery("compact.json"), None) == {"system": "video", "merged": 0, "written": 0, "deleted": 0}


def test_an_upload_can_be_followed_by_its_receipt(cloud, handler, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes((ROOT / "events/video/events/late.jsonl").read_bytes())
    (upload,) = plan([path], systems.load("video"))
    told = []
    etag = RawObjects(BUCKET).send(upload, told.append)
    assert sum(told) == upload.size
    store = S3ObjectStore(BUCKET)
    assert receipt(store, "video", upload.key, etag) is None
    message = delivery("delivery.json")["Records"][0]
    body = json.loads(message["body"])
    body["Records"][0]["s3"]["object"]["key"] = upload.key
    handler({"Records": [{**message, "body": json.dumps(body)}]}, None)
    assert receipt(store, "video", upload.key, etag).rows == {"2025-01-15": 1, "2025-03-02": 1}
