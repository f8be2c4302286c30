"""The Runtime API of one worker (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), on 127.0.0.1."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from twinloop_localstack.lambdas.failures import too_large
from twinloop_localstack.lambdas.function import Invocation

HOST = "127.0.0.1"
_PREFIX = "/2018-06-01/runtime"
LARGEST_RESPONSE = 6 * 1024 * 1024 + 100  # AWS's 6 MB, as its error message has them


@dataclass(frozen=True)
class Answer:
    """What the runtime gave for an invocation; `fits`: whether it was of a size that is allowed."""

    body: bytes
    failed: bool
    fits: bool = True


class RuntimeApi:
    """Hands out one invocation at a time and takes what comes of it.

    Attributes:
        waiting: The runtime has asked for an invocation and has none: it is initialised.
        first_asked: When it did so for the first time (monotonic clock).
        init_error: What the runtime said of a failed initialisation.
        answer: What came of the invocation that was offered last.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.waiting = False
        self.first_asked: float | None = None
        self.init_error: bytes | None = None
        self.answer: Answer | None = None
        self._changed = changed
        self._condition = threading.Condition()
        self._offered: tuple[Invocation, float] | None = None
        self._running: str | None = None
        self._closed = False
        self._server = _Server((HOST, 0), _Requests)
        self._server.api = self
        self.address = f"{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._serve, name="lambda-runtime-api", daemon=True)
        self._thread.start()

    def offer(self, invocation: Invocation, deadline: float) -> None:
        """Give the runtime its next invocation; `deadline` in seconds since the epoch."""
        with self._condition:
            self.answer = None
            self._offered = (invocation, deadline)
            self._condition.notify_all()

    def close(self) -> None:
        """Let go of whoever waits and of the port."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._server.wake()
        self._thread.join(5)
        self._server.server_close()

    def _serve(self) -> None:
        while not self._closed:
            self._server.handle_request()  # sleeps until somebody connects; `close` does

    def next(self) -> tuple[Invocation, float] | None:
        """Wait for an invocation; None when there will be none any more."""
        with self._condition:
            self.waiting = True
            self.first_asked = self.first_asked or time.monotonic()
            self._changed()
            self._condition.wait_for(lambda: self._offered is not None or self._closed)
            taken, self._offered = self._offered, None
            self.waiting = False
            self._running = taken[0].request_id if taken else None
            return taken

    def take(self, request_id: str, answer: Answer) -> bool:
        """Take what came of an invocation; False where it is not the one under way."""
        with self._condition:
            if request_id != self._running:
                return False
            self._running = None
            self.answer = answer
        self._changed()
        return True

    def take_init_error(self, body: bytes) -> None:
        """Take what the runtime says of a failed initialisation."""
        self.init_error = body
        self._changed()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: RuntimeApi

    def wake(self) -> None:
        """Make `handle_request` return."""
        with socket.create_connection((HOST, self.server_address[1]), timeout=5):
            pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A runtime that was killed leaves broken connections; they say nothing new."""


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        if urlsplit(self.path).path != f"{_PREFIX}/invocation/next":
            return self._reply(404)
        taken = self.server.api.next()
        if taken is None:
            self.close_connection = True
            return None
        invocation, deadline = taken
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
        }
        if invocation.trace_id:
            headers["Lambda-Runtime-Trace-Id"] = invocation.trace_id
        return self._reply(200, invocation.payload, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match urlsplit(self.path).path.removeprefix(_PREFIX).split("/"):
            case ["", "init", "error"]:
                self.server.api.take_init_error(body)
                return self._reply(202)
            case ["", "invocation", request_id, "response"] if len(body) > LARGEST_RESPONSE:
                self.server.api.take(request_id, Answer(too_large(LARGEST_RESPONSE), failed=True, fits=False))
                return self._reply(413)
            case ["", "invocation", request_id, "response" | "error" as kind]:
                taken = self.server.api.take(request_id, Answer(body, failed=kind == "error"))
                return self._reply(202 if taken else 400)
        return self._reply(404)

    def _reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return
