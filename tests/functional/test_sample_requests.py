"""Each sample request is answered by the handler `serve` of its system, by a release of it."""

import importlib.util
import json
from pathlib import Path

import boto3
import pytest
import tiny_releases
from moto import mock_aws

from twinloop.aws import clients

ROOT = Path(__file__).resolve().parents[2]
FILES = {"ads": "predictions", "search": "results", "moderation": "decisions", "suggestions": "suggestions"}
TOLD = {"ads": "ads", "search": "items", "moderation": "decisions", "suggestions": "events"}
SETTINGS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "TWINLOOP_BUCKET": "data",
    "TWINLOOP_TABLE": "main",
    "POWERTOOLS_METRICS_NAMESPACE": "twinloop",
}


@pytest.mark.parametrize("system", FILES)
def test_the_request_is_answered(system, monkeypatch):
    for name, value in (SETTINGS | {"TWINLOOP_SYSTEM": system}).items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location(f"serve_{system}_sample", ROOT / "functions" / "serve" / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with mock_aws():
        clients.forget()
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="data")
        boto3.client("dynamodb").create_table(
            TableName="main",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        made = tiny_releases.serving(system)
        for key in made.keys(""):
            s3.put_object(Bucket="data", Key=key, Body=made.read(key).body)
        sample = json.loads((ROOT / "events" / "serve" / f"{FILES[system]}.json").read_text())
        assert sample["path"].startswith(f"/v1/{system}/")
        response = module.handler(sample, None)
    clients.forget()
    answer = json.loads(response["body"])
    assert response["statusCode"] == 200, answer
    assert (answer["arm"], answer["degraded"]) == ("champion", False)
    assert answer[TOLD[system]]
