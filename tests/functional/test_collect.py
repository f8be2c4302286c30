"""The handler `collect` on SQS as moto plays it."""

import json

import boto3
import pytest
import tiny_system
from played_aws import function

from twinloop.aws.sqs import SqsQueue


@pytest.fixture
def queue(bucket, monkeypatch, register):
    register(tiny_system.SYSTEM)
    url = boto3.client("sqs").create_queue(QueueName="events")["QueueUrl"]
    monkeypatch.setenv("TWINLOOP_EVENTS_QUEUE_URL", url)
    return url


@pytest.fixture
def handler(queue):
    return function("collect")


def event(number, **changes):
    facts = {"event_id": f"e{number}", "type": "like", "time": 1769860800000, "user_id": "u", "item_id": "i"}
    return facts | changes


def send(handler, events, path="/v1/video/events"):
    body = json.dumps({"events": events})
    response = handler({"httpMethod": "POST", "path": path, "headers": {}, "body": body})
    return response["statusCode"], json.loads(response["body"])


def received(url):
    sqs, bodies = boto3.client("sqs"), []
    # Hidden for longer than a slow machine takes to read them all: none is to come twice.
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=3600).get("Messages"):
        bodies += [json.loads(message["Body"]) for message in messages]
    return bodies


def test_every_event_of_a_full_batch_reaches_the_queue(queue, handler, capsys):
    events = [event(number) for number in range(500)]
    assert send(handler, events) == (202, {"accepted": 500, "rejected": []})
    assert sorted(body["event"]["event_id"] for body in received(queue)) == sorted(e["event_id"] for e in events)
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["Accepted"] == [500.0]


def test_texts_of_all_kinds_arrive_as_they_were(queue, handler):
    strange = event(1, item_id="\u0001 \ufffe ünï 🎬", context={"note": "\t\n"})
    assert send(handler, [strange])[0] == 202
    assert received(queue) == [{"system": "video", "event": strange}]


def test_large_events_are_spread_over_calls(queue, handler):
    events = [event(number, context={"note": "x" * 40_000}) for number in range(6)]
    assert send(handler, events)[1]["accepted"] == 6
    assert len(received(queue)) == 6


def test_without_the_queue_the_caller_is_asked_to_try_again(queue, handler):
    boto3.client("sqs").delete_queue(QueueUrl=queue)
    status, problem = send(handler, [event(1)])
    assert status == 503
    assert "send them again" in problem["detail"]


def test_other_systems_and_bad_events(handler):
    assert send(handler, [event(1)], path="/v1/radio/events")[0] == 404
    assert send(handler, [event(1, type="applause")])[0] == 400


class PartialSqs:
    """Refuses every second message of a call."""

    def __init__(self):
        self.calls = []

    def send_message_batch(self, **call):
        self.calls.append([entry["Id"] for entry in call["Entries"]])
        return {"Failed": [{"Id": entry["Id"]} for entry in call["Entries"][1::2]]}


def test_refused_messages_are_told_by_their_place():
    sqs = PartialSqs()
    assert SqsQueue("url", sqs).send([f"m{number}" for number in range(13)]) == {1, 3, 5, 7, 9, 11}
    assert [len(call) for call in sqs.calls] == [10, 3]
