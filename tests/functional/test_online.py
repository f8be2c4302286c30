"""The online function between a queue, a DynamoDB and a Firehose."""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from played_aws import TABLE, create_stream, function

from twinloop.aws.dead_letters import SqsDeadLetters
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.firehose import FirehoseStream
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.errors import UnavailableError
from twinloop.features import values
from twinloop.systems.video.features import COUNTING

ROOT = Path(__file__).parents[2]


@pytest.fixture
def handler(bucket, monkeypatch):
    monkeypatch.setenv("TWINLOOP_RAW_STREAM", "stack-{system}-events")
    monkeypatch.delenv("TWINLOOP_DEAD_LETTERS_URL", raising=False)
    create_stream(boto3.client("firehose"), "stack-video-events", "raw/video/events/")
    return function("online")


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


def raw_lines(bucket) -> list[dict[str, object]]:
    bodies = [bucket.read(key).body for key in bucket.keys("raw/video/events/")]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_good_events_pass_and_poison_fails_alone(bucket, handler):
    answer = handler(batch(event("1"), "poison", event("2"), event("3", type="impression")))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert {entry.item_id for entry in DynamoOnlineStore(TABLE).history("video", "u")} == {"item-1", "item-2"}
    assert sorted(line["event_id"] for line in raw_lines(bucket)) == ["1", "2", "3"]


def test_a_second_delivery_changes_no_history(bucket, handler):
    handler(batch(event("1"), event("2")))
    before = DynamoOnlineStore(TABLE).history("video", "u")
    assert handler(batch(event("2"), event("1"))) == {"batchItemFailures": []}
    assert DynamoOnlineStore(TABLE).history("video", "u") == before


@pytest.fixture
def dead_letters(handler, monkeypatch):
    """The messages in the dead-letter queue: bodies with their reasons."""
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
    monkeypatch.setenv("TWINLOOP_DEAD_LETTERS_URL", url)

    def read():
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["reason"])
        return {m["Body"]: m["MessageAttributes"]["reason"]["StringValue"] for m in answer.get("Messages", [])}

    return read


def test_poison_lands_in_the_dead_letters_with_its_reason(bucket, dead_letters, handler):
    late = batch(event("9", time="2999-01-01T00:00:00Z"))["Records"][0]["body"]
    unknown = json.dumps({"system": "nothing", "event": event("8")})
    wrong = batch(event("7", type="watch", watch_s="lo\u0001ng"))["Records"][0]["body"]
    assert handler(batch("poison", event("1"), late, unknown, wrong)) == {"batchItemFailures": []}
    found = dead_letters()
    assert found.keys() == {"poison", late, unknown, wrong}
    assert "this one is not" in found["poison"]
    assert found[late].startswith("time: 2999-01-01 is not between 1990 and tomorrow")
    assert found[unknown].startswith("there is no system 'nothing'")
    assert found[wrong].startswith("watch_s: ")
    assert [line["event_id"] for line in raw_lines(bucket)] == ["1"]


def test_poison_that_cannot_be_put_away_comes_again(bucket, handler, monkeypatch):
    monkeypatch.setenv("TWINLOOP_DEAD_LETTERS_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/gone")
    assert handler(batch("poison")) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}


def test_a_reason_holds_only_what_a_queue_takes(dead_letters):
    url = os.environ["TWINLOOP_DEAD_LETTERS_URL"]
    assert SqsDeadLetters(url).send("a", "zero \x00 half \ud800 whole \U0001f600" + "x" * 5000)
    assert SqsDeadLetters(url).send("b", "")
    found = dead_letters()
    assert found["a"].startswith("zero ? half ? whole \U0001f600xxx")
    assert len(found["a"]) == 1000
    assert found["b"] == "unknown"


def features(user: str, *items: str) -> dict[str, list[float]]:
    """What a request would be told an hour after the events."""
    known = DynamoFeatureStore(TABLE).recall("video", user, items)
    found = values.compute(COUNTING, 1_767_225_600_000 + 3_600_000, known.user, known.items)
    return {name: value.values.tolist() for name, value in found.items()}


def shown_and_watched() -> list[dict[str, object]]:
    return [
        event("1", type="impression", item_id="a"),
        event("2", type="click", item_id="a"),
        event("3", type="watch", item_id="a", watch_s=30, duration_s=60),
        event("4", type="impression", item_id="b"),
        event("5", type="impression", item_id="b", user_id="v"),
    ]


def test_events_change_the_features_of_their_users_and_items(bucket, handler):
    assert handler(batch(*shown_and_watched())) == {"batchItemFailures": []}
    found = features("u", "a", "b", "c")
    assert (found["user_impressions_1d"], found["user_clicks_7d"], found["user_watch_s_1d"]) == ([2.0], [1.0], [30.0])
    assert found["item_impressions_1d"] == [1.0, 2.0, 0.0]
    assert found["user_item_impressions_30d"] == [1.0, 1.0, 0.0]
    assert features("v", "b")["user_impressions_1d"] == [1.0]


def test_events_again_alone_late_and_in_disorder_change_no_feature(bucket, handler):
    events = shown_and_watched()
    handler(batch(*events, event("6", type="impression", item_id="c", time="2025-12-31T23:30:00Z")))
    expected = features("u", "a", "b", "c")
    assert expected["user_impressions_1d"] == [3.0]
    for again in ([*events[::-1], *events], events[:2], events[4:]):
        assert handler(batch(*again)) == {"batchItemFailures": []}
        assert features("u", "a", "b", "c") == expected


def test_half_a_delivery_counts_once_when_it_comes_again(bucket, handler, monkeypatch):
    """The items are written first; where the user cannot be, everything comes again and items know it."""
    whole = DynamoFeatureStore.count

    def half(self, system, key, happenings, layout):
        if key[0] == "user":
            raise UnavailableError("the table does not answer; try again")
        return whole(self, system, key, happenings, layout)

    with monkeypatch.context() as patch:
        patch.setattr(DynamoFeatureStore, "count", half)
        assert len(handler(batch(*shown_and_watched()))["batchItemFailures"]) == 5
        assert {line["event_id"] for line in raw_lines(bucket)} == set("12345")  # the lake loses nothing
    assert handler(batch(*shown_and_watched())) == {"batchItemFailures": []}
    found = features("u", "a", "b")
    assert (found["item_impressions_1d"], found["user_impressions_1d"]) == ([1.0, 2.0], [2.0])


def test_without_its_stream_every_message_comes_again(bucket, handler, monkeypatch):
    boto3.client("firehose").delete_delivery_stream(DeliveryStreamName="stack-video-events")
    answer = handler(batch(event("1"), event("2")))
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
