"""S3, DynamoDB and Firehose as a server on this machine plays them, with next to no work of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from twinloop.errors import NotFoundError
from twinloop.ports import ObjectStore


def playing(objects: ObjectStore, answered: Callable[[str, bytes], Mapping[str, Any]]) -> type[BaseHTTPRequestHandler]:
    """Return what handles requests to such a server.

    Args:
        objects: What S3 holds, in the bucket `data`.
        answered: What the other services answer, by the target and the body of a request.
    """

    class Cloud(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body in one packet; two of them would wait for each other

        def do_GET(self) -> None:
            try:
                found = objects.read(self.path.removeprefix("/data/").split("?")[0])
            except NotFoundError:
                self._send(404, b"")
            else:
                self._send(200, found.body, ETag=found.etag)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(200, json.dumps(answered(self.headers["X-Amz-Target"], body)).encode())

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Cloud
