"""The handler `serve` on S3, DynamoDB and Firehose as moto plays them."""

import json

import boto3
import pytest
import tiny_system
from played_aws import TABLE, create_stream, function

from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.aws.serving import ServeSettings
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError

PATH = "/v1/video/recommendations"


@pytest.fixture
def handler(bucket, monkeypatch, register):
    told = {"SYSTEM": "video", "PREDICTION_STREAM": "predictions"}
    for name, value in told.items():
        monkeypatch.setenv(f"TWINLOOP_{name}", value)
    register(tiny_system.SYSTEM)
    create_stream(boto3.client("firehose"), "predictions", "predictions/")
    return function("serve")


def promoted(bucket):
    version = tiny_system.register(bucket)
    tiny_system.promote(bucket, version)
    return version


def ask(handler, body, **more):
    event = {"httpMethod": "POST", "path": PATH, "headers": {"content-type": "application/json"}} | more
    response = handler(event | {"body": body if isinstance(body, str) else json.dumps(body)})
    return response["statusCode"], json.loads(response["body"])


def logged(bucket):
    return [json.loads(bucket.read(key).body) for key in bucket.keys("predictions/")]


def test_a_prediction_from_bucket_table_and_back_into_the_log(bucket, handler, capsys):
    version = promoted(bucket)
    DynamoOnlineStore(TABLE).merge("video", "u1", [HistoryEntry("i2", 1000, 1.0)])
    status, body = ask(handler, {"user_id": "u1", "limit": 2, "include": ["titles"]})
    assert status == 200
    assert [item["title"] for item in body["items"]] == ["Title of i3", "Title of i4"]
    assert (body["model_version"], body["degraded"], body["cold"]) == (version, False, False)
    (record,) = logged(bucket)
    assert record["prediction_id"] == body["prediction_id"]
    metric = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (metric["Degraded"], metric["Arm_champion"], metric["Status2xx"]) == ([0.0], [1.0], [1.0])
    assert metric["Latency"][0] > 0


def test_an_unknown_user(bucket, handler):
    promoted(bucket)
    status, body = ask(handler, {"user_id": "nobody"})
    assert (status, body["cold"], body["degraded"]) == (200, True, False)


def test_without_the_table_the_answer_is_degraded_and_no_error(bucket, handler):
    promoted(bucket)
    boto3.client("dynamodb").delete_table(TableName=TABLE)
    status, body = ask(handler, {"user_id": "u1"})
    assert (status, body["degraded"], body["cold"]) == (200, True, True)


def test_without_the_stream_nothing_is_lost_but_the_line(bucket, handler, caplog):
    promoted(bucket)
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
