"""The app in a container: the paths that SageMaker asks for, and the same answers as behind API Gateway."""

import asyncio
import json

import pytest

from twinloop.serving.container import Container
from twinloop.serving.http import MAX_BODY_BYTES, Request, Response, json_body


def echo(request: Request) -> Response:
    if request.path != "/v1/video/recommendations":
        return Response(404, b"{}")
    return Response(200, json_body(request), headers={"X-Method": request.method})


def broken(request: Request) -> Response:
    raise RuntimeError("secret")


def call(chunks=(b"",), path="/invocations", *, method="POST", app=echo, healthy=True, headers=()):
    container = Container(app, "/v1/video/recommendations", healthy=lambda: healthy, threads=1)
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": place < len(chunks) - 1}
        for place, chunk in enumerate(chunks)
    ]
    sent, taken = [], []

    async def receive():
        taken.append(waiting.pop(0))
        return taken[-1]

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(container(scope, receive, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"], len(taken)


def test_ping_says_whether_requests_can_be_answered():
    assert call(path="/ping", method="GET")[0] == 200
    assert call(path="/ping", method="GET", healthy=False)[0] == 503


@pytest.mark.parametrize("path", ["/invocations", "/v1/video/recommendations", "/v1/video/recommendations/"])
def test_invocations_are_the_apps_own_path(path):
    status, headers, body, _ = call([b'{"user', b'_id": 1}'], path)
    assert (status, json.loads(body)) == (200, {"user_id": 1})
    assert headers[b"x-method"] == b"POST"
    assert headers[b"content-length"] == str(len(body)).encode()


def test_errors_are_problems_here_too():
    status, headers, body, _ = call(headers=[(b"Content-Type", b"text/csv")])
    assert (status, headers[b"content-type"]) == (415, b"application/problem+json")
    status, _, body, _ = call([b"{}"], app=broken)
    assert status == 500
    assert b"secret" not in body


def test_of_a_body_that_is_too_large_no_more_is_read_than_needed():
    chunk = b"x" * (MAX_BODY_BYTES // 2)
    status, _, _, taken = call([chunk] * 100)
    assert status == 413
    assert taken == 3


def test_head_has_no_body():
    assert call(path="/ping", method="HEAD")[2] == b""


def test_the_server_starts_and_ends():
    messages, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(Container(echo, "/x", healthy=lambda: True)({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
