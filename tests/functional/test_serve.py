"""The handler `serve` on S3, DynamoDB and Firehose as moto plays them."""

import importlib.util
import json
from pathlib import Path

import boto3
import pytest
import tiny_system
from moto import mock_aws

from twinloop.aws import clients
from twinloop.aws.objects import S3ObjectStore
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.aws.serving import ServeSettings
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError

HANDLER = Path(__file__).resolve().parents[2] / "functions" / "serve" / "handler.py"
PATH = "/v1/video/recommendations"


@pytest.fixture
def cloud(monkeypatch, register):
    settings = {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "TWINLOOP_SYSTEM": "video",
        "TWINLOOP_BUCKET": "data",
        "TWINLOOP_TABLE": "main",
        "TWINLOOP_PREDICTION_STREAM": "predictions",
        "POWERTOOLS_METRICS_NAMESPACE": "twinloop",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    register(tiny_system.SYSTEM)
    with mock_aws():
        clients.forget()
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="data")
        s3.create_bucket(Bucket="logged")
        boto3.client("dynamodb").create_table(
            TableName="main",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        boto3.client("firehose").create_delivery_stream(
            DeliveryStreamName="predictions",
            ExtendedS3DestinationConfiguration={
                "RoleARN": "arn:aws:iam::123456789012:role/r",
                "BucketARN": "arn:aws:s3:::logged",
            },
        )
        yield s3
    clients.forget()


@pytest.fixture
def handler(cloud):
    spec = importlib.util.spec_from_file_location("serve_handler", HANDLER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


def promoted():
    store = S3ObjectStore("data")
    version = tiny_system.register(store)
    tiny_system.promote(store, version)
    return version


def ask(handler, body, **more):
    event = {"httpMethod": "POST", "path": PATH, "headers": {"content-type": "application/json"}} | more
    response = handler(event | {"body": body if isinstance(body, str) else json.dumps(body)}, None)
    return response["statusCode"], json.loads(response["body"])


def logged(s3):
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="logged").get("Contents", [])]
    return [json.loads(s3.get_object(Bucket="logged", Key=key)["Body"].read()) for key in keys]


def test_a_prediction_from_bucket_table_and_back_into_the_log(cloud, handler, capsys):
    version = promoted()
    DynamoOnlineStore("main").merge("video", "u1", [HistoryEntry("i2", 1000, 1.0)])
    status, body = ask(handler, {"user_id": "u1", "limit": 2, "include": ["titles"]})
    assert status == 200
    assert [item["title"] for item in body["items"]] == ["Title of i3", "Title of i4"]
    assert (body["model_version"], body["degraded"], body["cold"]) == (version, False, False)
    (record,) = logged(cloud)
    assert record["prediction_id"] == body["prediction_id"]
    metric = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (metric["Degraded"], metric["Arm_champion"], metric["Status2xx"]) == ([0.0], [1.0], [1.0])
    assert metric["Latency"][0] > 0


def test_an_unknown_user(handler):
    promoted()
    status, body = ask(handler, {"user_id": "nobody"})
    assert (status, body["cold"], body["degraded"]) == (200, True, False)


def test_without_the_table_the_answer_is_degraded_and_no_error(handler):
    promoted()
    boto3.client("dynamodb").delete_table(TableName="main")
    status, body = ask(handler, {"user_id": "u1"})
    assert (status, body["degraded"], body["cold"]) == (200, True, True)


def test_without_the_stream_nothing_is_lost_but_the_line(handler, caplog):
    promoted()
    boto3.client("firehose").delete_delivery_stream(DeliveryStreamName="predictions")
    assert ask(handler, {"user_id": "u1"})[0] == 200
    assert "prediction not logged" in caplog.text


def test_without_a_model_the_handler_says_what_to_do(handler):
    status, body = ask(handler, {"user_id": "u1"})
    assert status == 503
    assert "twinloop learn video" in body["detail"]


def test_a_bad_request_and_the_openapi_document(handler):
    assert ask(handler, {"user": "u1"})[0] == 400
    status, body = ask(handler, "", httpMethod="GET", path="/v1/openapi.json")
    assert (status, body["openapi"]) == (200, "3.1.0")


def test_a_function_without_settings_answers_500_and_logs_the_reason(handler, monkeypatch, caplog):
    monkeypatch.delenv("TWINLOOP_BUCKET")
    status, body = ask(handler, {"user_id": "u1"})
    assert status == 500
    assert "TWINLOOP" not in json.dumps(body)
    assert "set TWINLOOP_BUCKET" in caplog.text


@pytest.mark.parametrize("name", ["TWINLOOP_CHALLENGER_SHARE", "TWINLOOP_PRESET_MIX"])
@pytest.mark.parametrize("share", ["half", "1.5", "-1", "nan"])
def test_a_share_is_a_share(name, share):
    with pytest.raises(BadInputError, match=name):
        ServeSettings.from_environment({"TWINLOOP_SYSTEM": "video", "TWINLOOP_BUCKET": "b", name: share})


def test_how_much_is_left_to_chance_is_a_setting():
    settings = {"TWINLOOP_SYSTEM": "video", "TWINLOOP_BUCKET": "b"}
    usual = ServeSettings.from_environment(settings)
    assert (usual.preset_mix, usual.explore) == (0.0, True)
    told = ServeSettings.from_environment(settings | {"TWINLOOP_PRESET_MIX": "0.04", "TWINLOOP_EXPLORE": "0"})
    assert (told.preset_mix, told.explore) == (0.04, False)
    with pytest.raises(BadInputError, match="TWINLOOP_EXPLORE is 0 or 1, not 'no'"):
        ServeSettings.from_environment(settings | {"TWINLOOP_EXPLORE": "no"})
