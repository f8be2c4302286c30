"""The same app in a container, by SageMaker's contract: GET /ping and POST /invocations, on port 8080.

This is a plain ASGI application: it needs a server (uvicorn, hypercorn) and no framework. The API's own paths are
answered as well, so that one container can stand behind SageMaker or behind a load balancer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twinloop.ports import Log
from twinloop.serving.app import Call, guarded
from twinloop.serving.http import MAX_BODY_BYTES, Request, Response

_LOGGER = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Container:
    """An ASGI application around an app.

    Args:
        app: Answers requests; called in threads, since ONNX Runtime and the stores' clients block.
        invocations: The path that POST /invocations stands for.
        healthy: Whether requests can be answered; GET /ping says so with 200 or 503.
        threads: How many requests are worked on at once.
        logger: Is told of what nobody foresaw.
    """

    def __init__(
        self,
        app: Call,
        invocations: str,
        *,
        healthy: Callable[[], bool],
        threads: int = 8,
        logger: Log = _LOGGER,
    ) -> None:
        self._app = app
        self._invocations = invocations
        self._healthy = healthy
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._logger = logger

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection's request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            request = await _request(scope, receive)
            loop = asyncio.get_running_loop()
            response = await loop.run_in_executor(self._pool, self._answer, request)
            await _respond(response, send, with_body=scope["method"] != "HEAD")

    def _answer(self, request: Request) -> Response:
        if request.path == "/ping":
            return Response(200 if self._healthy() else 503, b"{}")
        if request.path == "/invocations":
            request = Request(request.method, self._invocations, request.headers, request.body)
        return guarded(lambda: self._app(request), logger=self._logger)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self._pool.shutdown(wait=True)
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _request(scope: MutableMapping[str, Any], receive: Receive) -> Request:
    """Read a request; of a body that is too large no more than it takes to say so."""
    body, more = bytearray(), True
    while more and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(scope["method"], scope["path"].rstrip("/") or "/", headers, bytes(body))


async def _respond(response: Response, send: Send, *, with_body: bool) -> None:
    named = {
        "content-type": response.content_type,
        "content-length": str(len(response.body)),
        "cache-control": "no-store",
        **{name.lower(): value for name, value in response.headers.items()},
    }
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})
