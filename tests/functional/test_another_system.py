"""A system from a module of its own joins by `systems.register`, and every part of the loop takes it as it is.

Functions are called with what AWS and the state machine hand them, jobs run as processes by the container contract,
and AWS is played by moto.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import notes
import pytest
from job_files import on_disk, packed
from played_aws import BUCKET, TABLE, create_stream, function
from typer.testing import CliRunner

from twinloop import systems
from twinloop.aws.objects import S3ObjectStore
from twinloop.cli import app as commands
from twinloop.commands import api, evaluate
from twinloop.commands.target import Deployment
from twinloop.errors import NotFoundError
from twinloop.training import local

ROOT = Path(__file__).resolve().parents[2]
JOBS = ROOT / "tests" / "support" / "notes_jobs"
TOLD = {
    "TWINLOOP_GLUE_DATABASE": "lake",
    "TWINLOOP_SYSTEM": "notes",
    "TWINLOOP_PREDICTION_STREAM": "predictions",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT / "tests" / "support")]),  # of the jobs
}


@pytest.fixture(autouse=True)
def place(bucket: S3ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the functions of the loop find beside the bucket and the table."""
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    boto3.client("glue").create_database(DatabaseInput={"Name": "lake"})
    create_stream(boto3.client("firehose"), "predictions", "predictions/")


def delivered(bucket: S3ObjectStore, tables: Mapping[str, list[notes.Row]]) -> dict[str, Any]:
    """Put raw files where an application puts them; returns what the queue hands on of that."""
    records = []
    for table, rows in tables.items():
        body, key = "\n".join(json.dumps(row) for row in rows).encode(), f"raw/notes/{table}/all.jsonl"
        bucket.write(key, body)
        told = {"bucket": {"name": BUCKET}, "object": {"key": key, "size": len(body)}}
        notice = {"Records": [{"eventName": "ObjectCreated:Put", "s3": told}]}
        records.append({"messageId": table, "body": json.dumps(notice)})
    return {"Records": records}


def trained(bucket: S3ObjectStore, snapshot_key: str, rung: str, work: Path) -> dict[str, Any]:
    """Run a rung's job as a process on what a job is given, and leave what SageMaker leaves."""
    snapshot, made = work / rung / "snapshot", work / rung / "model"
    on_disk(bucket, snapshot_key, snapshot, without="test")  # which a job never sees
    assert local.run(JOBS / rung, snapshot, made, {}) == 0
    model_key = f"jobs/notes-{rung}/output/model.tar.gz"
    bucket.write(model_key, packed(made))
    return {"rung": rung, "status": "Completed", "model_key": model_key}


def test_it_is_not_known_before_it_is_registered() -> None:
    with pytest.raises(NotFoundError, match="there is no system 'notes'"):
        systems.load("notes")


def test_it_is_taken_through_the_whole_loop(
    bucket: S3ObjectStore, register: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(notes.SYSTEM)
    assert function("etl")(delivered(bucket, notes.world())) == {"batchItemFailures": []}
    assert not list(bucket.keys("quarantine/"))

    snapshot, gate, serve = function("snapshot"), function("gate"), function("serve")
    taken = snapshot({"system": "notes"})
    results = [trained(bucket, taken["snapshot_key"], rung["name"], tmp_path) for rung in taken["rungs"]]
    asked = {name: taken[name] for name in ("system", "snapshot_key", "left_out")}
    verdict = gate(asked | {"action": "judge", "results": results})
    assert (verdict["promote"], verdict["rung"]) == (True, "words"), verdict["verdict"]
    said = {"system": "notes", "version": verdict["version"], "why": verdict["verdict"], "champion": None}
    assert gate(said | {"action": "promote"}) == {"version": verdict["version"], "previous": None}
    assert snapshot({"action": "materialise", "system": "notes"}) == {"system": "notes", "users": 0}

    def post(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        response = serve({"httpMethod": "POST", "path": path, "headers": headers, "body": json.dumps(body)})
        assert response["statusCode"] == 200, response
        found: dict[str, Any] = json.loads(response["body"])
        return found

    told = post("/v1/notes/chances", {"texts": ["offer offer lunch", "lunch report"]})
    assert (told["model_version"], told["degraded"]) == (verdict["version"], False)
    assert told["chances"][0] > told["chances"][1] + 0.5
    (logged,) = [json.loads(bucket.read(key).body) for key in bucket.keys("predictions/")]
    assert (logged["system"], logged["prediction_id"]) == ("notes", told["prediction_id"])
    document = serve({"httpMethod": "GET", "path": "/v1/notes/openapi.json", "headers": {}, "body": None})
    assert "/v1/notes/chances" in json.loads(document["body"])["paths"]

    labels = tmp_path / "labels.jsonl"
    rows = [
        {"item_id": f"x{n}", "aside": bool(n % 2), "time": "2025-06-20T10:00:00Z"}
        | {"text": "offer offer" if n % 2 else "lunch"}
        for n in range(20)
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    place = Deployment("twinloop", {"DataBucket": BUCKET, "Table": TABLE})
    monkeypatch.setattr(evaluate, "deployment", lambda: place)
    monkeypatch.setattr(api, "ask", lambda where, path, body: post(path, dict(body)))  # the way over HTTP
    for way in ("--in-process", "--api"):
        result = CliRunner().invoke(commands, ["evaluate", "notes", "--labelled", str(labels), way])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout[result.stdout.index("{\n") :])  # after the metrics of the function asked
        assert (found["release"], found["cases"]) == (verdict["version"], 20)
        assert found["metrics"]["quality"]["mean"] > 0.95
