"""What functions and callers get of the platform itself, wherever its stand-in has it."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from deployed import Cloud, wait_for
from sessions import aws_client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SOURCE = """
import os, pathlib

class Unwell(Exception):
    pass

def handler(event, context):
    print("called")
    if event.get("do") == "raise":
        raise Unwell("not today")
    if event.get("do") == "eat":
        return len(bytearray(b"x" * (event["megabytes"] << 20)))
    if event.get("do") == "write":
        pathlib.Path(os.environ["LAMBDA_TASK_ROOT"], "new").write_text("x")
    root, words = os.environ["LAMBDA_TASK_ROOT"], os.path.exists("/opt/words")
    return {"task": root, "file": __file__, "here": os.getcwd(), "words": words}
"""


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, text in files.items():
            made.writestr(name.replace("__", "."), text)
    return packed.getvalue()


@pytest.fixture(scope="module")
def role(cloud: Cloud) -> str:
    return cloud.place.outputs["TrainingRole"]


@pytest.fixture(scope="module")
def dead_letters(cloud: Cloud) -> Iterator[str]:
    queues = aws_client(cloud.settings, "sqs")
    url = queues.create_queue(QueueName="platform-dead-letters")["QueueUrl"]
    yield url
    queues.delete_queue(QueueUrl=url)


@pytest.fixture(scope="module")
def function(cloud: Cloud, role: str, dead_letters: str) -> Iterator[str]:
    """A function of 128 MB with a layer and a dead letter queue."""
    functions, queues = aws_client(cloud.settings, "lambda"), aws_client(cloud.settings, "sqs")
    layer = functions.publish_layer_version(LayerName="platform-words", Content={"ZipFile": archive(words="hello")})
    attributes = queues.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])["Attributes"]
    name = "platform"
    functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Handler="handler.handler",
        Role=role,
        Code={"ZipFile": archive(handler__py=SOURCE)},
        Layers=[layer["LayerVersionArn"]],
        MemorySize=128,
        DeadLetterConfig={"TargetArn": attributes["QueueArn"]},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    yield name
    functions.delete_function(FunctionName=name)


def call(cloud: Cloud, function: str, **event: Any) -> tuple[str | None, Any]:
    """Return the kind of error, where there was one, and the answer."""
    answer = aws_client(cloud.settings, "lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    return answer.get("FunctionError"), json.loads(answer["Payload"].read())


@pytest.mark.needs("function places")
def test_a_function_finds_its_code_and_layers_where_aws_has_them(cloud: Cloud, function: str) -> None:
    error, seen = call(cloud, function)
    assert error is None
    assert seen == {"task": "/var/task", "file": "/var/task/handler.py", "here": "/var/task", "words": True}
    error, answer = call(cloud, function, do="write")
    assert (error, answer["errorType"]) == ("Unhandled", "OSError")


@pytest.mark.needs("error types")
def test_an_error_has_the_type_that_was_raised(cloud: Cloud, function: str) -> None:
    error, answer = call(cloud, function, do="raise")
    assert error == "Unhandled"
    assert (answer["errorType"], answer["errorMessage"]) == ("Unwell", "not today")


@pytest.mark.needs("memory limit")
def test_a_function_that_takes_more_memory_than_it_has_is_ended(cloud: Cloud, function: str) -> None:
    assert call(cloud, function, do="eat", megabytes=8) == (None, 8 << 20)
    error, answer = call(cloud, function, do="eat", megabytes=512)
    assert error == "Unhandled"
    assert "OutOfMemory" in answer["errorType"] or "signal: killed" in answer["errorMessage"]
    assert call(cloud, function, do="eat", megabytes=8) == (None, 8 << 20)


@pytest.mark.needs("function dead letters")
def test_an_event_that_failed_is_in_the_functions_dead_letter_queue(
    cloud: Cloud, function: str, dead_letters: str
) -> None:
    event = json.dumps({"do": "raise", "id": "lost"})
    aws_client(cloud.settings, "lambda").invoke(FunctionName=function, InvocationType="Event", Payload=event)
    queue = aws_client(cloud.settings, "sqs")
    arrived = wait_for(
        lambda: queue.receive_message(QueueUrl=dead_letters, WaitTimeSeconds=1).get("Messages"), 30, "the event arrives"
    )
    assert json.loads(arrived[0]["Body"])["id"] == "lost"


@pytest.mark.needs("throttling")
def test_a_key_gets_no_more_than_its_usage_plan_gives(cloud: Cloud) -> None:
    gateway, outputs = aws_client(cloud.settings, "apigateway"), cloud.place.outputs
    stage = {"apiId": outputs["ApiId"], "stage": outputs["ApiStage"]}
    plan = gateway.create_usage_plan(name="stingy", apiStages=[stage], throttle={"rateLimit": 1, "burstLimit": 2})["id"]
    key = gateway.create_api_key(name="stingy", enabled=True)
    gateway.create_usage_plan_key(usagePlanId=plan, keyId=key["id"], keyType="API_KEY")
    try:
        began = time.monotonic()
        found = [cloud.call("/v1/chess/events", {"events": [{}]}, key=key["value"]).status for _ in range(20)]
        allowed = 2 + 1 + int(time.monotonic() - began)
        assert set(found) == {404, 429}
        assert found.count(404) <= allowed
    finally:
        gateway.delete_usage_plan_key(usagePlanId=plan, keyId=key["id"])
        gateway.delete_api_key(apiKey=key["id"])
        gateway.update_usage_plan(
            usagePlanId=plan,
            patchOperations=[{"op": "remove", "path": "/apiStages", "value": f"{stage['apiId']}:{stage['stage']}"}],
        )
        gateway.delete_usage_plan(usagePlanId=plan)
