"""From a file on a user's disk to the lake, or to quarantine and back."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deployed import Cloud, Loaded, wait_for
from sessions import aws_client

from twinloop.ingest.replay import pending

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def event(event_id: str, time: str, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "type": "like", "time": time, "user_id": "a visitor", "item_id": "50", **more}


def drained(cloud: Cloud) -> bool:
    """Whether every delivery to the ETL has been dealt with."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = aws_client(cloud.settings, "sqs").get_queue_attributes(
        QueueUrl=cloud.place.outputs["RawQueueUrl"], AttributeNames=names
    )
    return all(answer["Attributes"][name] == "0" for name in names)


def contents(cloud: Cloud) -> list[tuple[str, str]]:
    """Return what lake and quarantine hold: names and checksums.

    Entities have the time of their upload in their names, so that the latest wins; it is left out, and so are the
    receipts, which say it.
    """
    pages = aws_client(cloud.settings, "s3").get_paginator("list_objects_v2").paginate(Bucket=cloud.place.store.bucket)
    found = {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", [])}
    held = {key: etag for key, etag in found.items() if key.startswith(("lake/", "quarantine/"))}
    uploaded = re.compile(r"/dt=[^/]*/\d{8}T\d{6}-")
    return sorted((uploaded.sub("/", key), etag) for key, etag in held.items() if "/_receipts/" not in key)


def load(cloud: Cloud, path: Path, lines: list[str]) -> tuple[str, str]:
    """Load a file of events; returns what the command said, and the raw object's key."""
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    said = cloud.twinloop("load", "video", path)
    return said, next(word.rstrip(":") for word in said.split() if word.startswith("raw/video/"))


def test_a_raw_file_is_in_the_lake_row_by_row(cloud: Cloud, loaded: Loaded) -> None:
    made = loaded.receipts["events"]
    assert (sum(made.rows.values()), made.quarantined, made.refused) == (len(loaded.events), {}, None)
    assert sum(loaded.receipts["items"].rows.values()) == len(loaded.items)
    store = cloud.place.store
    rows = {
        row["event_id"]: (row["user_id"], row["item_id"], row["rating"], int(row["time"].timestamp() * 1000))
        for key in made.files
        for row in pq.read_table(io.BytesIO(store.read(key).body)).to_pylist()
    }
    assert rows == {r["event_id"]: (r["user_id"], r["item_id"], r["rating"], r["time"]) for r in loaded.events}
    for key in made.files[:3]:
        day = key.split("dt=")[1][:10]
        times = pq.read_table(io.BytesIO(store.read(key).body), columns=["time"]).column("time").to_pylist()
        assert {f"{time:%Y-%m-%d}" for time in times} == {day}


def test_the_lake_is_in_the_glue_catalog_by_date(cloud: Cloud, loaded: Loaded) -> None:
    database, glue = cloud.place.outputs["GlueDatabase"], aws_client(cloud.settings, "glue")
    tables = {table["Name"]: table for table in glue.get_tables(DatabaseName=database)["TableList"]}
    assert {name for name in tables if name.startswith("video_")} == {"video_events", "video_items", "video_users"}
    columns = {column["Name"]: column["Type"] for column in tables["video_events"]["StorageDescriptor"]["Columns"]}
    assert columns["time"] == "timestamp"
    assert columns["user_id"] == columns["item_id"] == "string"
    pages = glue.get_paginator("get_partitions").paginate(DatabaseName=database, TableName="video_events")
    partitions = {entry["Values"][0] for page in pages for entry in page["Partitions"]}
    assert partitions >= set(loaded.receipts["events"].rows)


def test_the_same_file_twice_leaves_the_lake_as_it_was(cloud: Cloud, loaded: Loaded) -> None:
    wait_for(lambda: drained(cloud), 120, "the ETL is idle")
    before = contents(cloud)
    said = cloud.twinloop("load", "video", loaded.folder)
    assert f"{len(loaded.events):,} rows in the lake" in said
    wait_for(lambda: drained(cloud), 120, "the ETL has seen it again")
    assert contents(cloud) == before


def test_a_poison_file_ends_in_quarantine_and_its_good_rows_in_the_lake(
    cloud: Cloud, loaded: Loaded, tmp_path: Path
) -> None:
    lines = [
        json.dumps(event("poison-1", "2001-02-03T04:05:06Z")),
        json.dumps(event("poison-2", "2001-02-03T04:05:06Z", rating="many")),
        '{"event_id": "poison-3", "type": "li',
        json.dumps({k: v for k, v in event("poison-4", "2001-02-03T04:05:06Z").items() if k != "user_id"}),
        json.dumps(event("poison-5", "1870-01-01T00:00:00Z")),
        json.dumps(event("poison-6", "2001-02-03T23:59:59Z", mood="kept")),
    ]
    said, raw_key = load(cloud, tmp_path / "events-poison.jsonl", lines)
    assert "2 rows in the lake" in said
    assert "4 in quarantine" in said
    rows = {row["event_id"]: row for row in cloud.lake_rows("events", "2001-02-03")}
    assert set(rows) == {"poison-1", "poison-6"}
    assert json.loads(rows["poison-6"]["extra"]) == {"mood": "kept"}
    entries = {entry["line"]: entry for entry in pending(cloud.place.store, "video") if entry["file"] == raw_key}
    assert sorted(entries) == [2, 3, 4, 5]
    for line, word in {2: "rating", 3: "JSON", 4: "user_id", 5: "1870"}.items():
        assert word in entries[line]["reason"], entries[line]
        assert entries[line]["row"] == lines[line - 1]
    assert "quarantined" in cloud.twinloop("lake", "video")


def test_a_file_that_cannot_be_read_goes_to_quarantine_whole(cloud: Cloud, loaded: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "events-broken.parquet"
    path.write_bytes(b"PAR1 and then nothing that a reader knows")
    said = cloud.twinloop("load", "video", path)
    assert "0 rows in the lake" in said
    assert "1 in quarantine" in said
    assert "events-broken.parquet" in cloud.twinloop("lake", "video")


def test_a_mended_row_is_replayed_into_the_lake(cloud: Cloud, loaded: Loaded, tmp_path: Path) -> None:
    _, raw_key = load(
        cloud, tmp_path / "events-to-mend.jsonl", [json.dumps(event("mended", "2002-03-04T05:06:07Z", rating="five"))]
    )
    waiting = tmp_path / "waiting.jsonl"
    cloud.twinloop("replay", "video", "--list", waiting)
    entry = next(found for line in waiting.read_text().splitlines() if (found := json.loads(line))["file"] == raw_key)
    entry["row"] = json.dumps({**json.loads(entry["row"]), "rating": 5})
    mended = tmp_path / "mended.jsonl"
    mended.write_text(json.dumps(entry) + "\n")
    assert "1 rows sent again" in cloud.twinloop("replay", "video", "--from", mended)
    rows = wait_for(lambda: cloud.lake_rows("events", "2002-03-04"), 30, "the mended row is in the lake")
    assert [(row["event_id"], row["rating"]) for row in rows] == [("mended", 5.0)]
    assert rows[0]["time"] == datetime(2002, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert "0 rows sent again, 1 were sent before" in cloud.twinloop("replay", "video", "--from", mended)
    assert all(found["file"] != raw_key for found in pending(cloud.place.store, "video"))


def test_nothing_of_all_this_is_in_the_dead_letters(cloud: Cloud, loaded: Loaded) -> None:
    for name in ("RawDeadLettersUrl", "EventsDeadLettersUrl"):
        answer = aws_client(cloud.settings, "sqs").get_queue_attributes(
            QueueUrl=cloud.place.outputs[name], AttributeNames=["All"]
        )
        assert answer["Attributes"]["ApproximateNumberOfMessages"] == "0"
