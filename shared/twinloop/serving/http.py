"""A request and an answer, free of who carries them: API Gateway's events or a container's server."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twinloop.errors import BadInputError, TooLargeError

MAX_BODY_BYTES = 256 * 1024
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Request:
    """One request; `headers` have lower-case names, `body` is as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """One answer; `headers` come on top of the content type, `counts` are for the metrics and not sent."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class UnsupportedTypeError(BadInputError):
    """The body is of a type that is not taken. HTTP 415."""


def from_lambda(event: Mapping[str, Any]) -> Request:
    """Return the request in an API Gateway proxy event (REST API).

    Raises TooLargeError, and BadInputError where the body is said to be base64 and is not.
    """
    headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    body = event.get("body") or ""
    # Base64 takes four bytes for three, so what is longer than this is too large in any case.
    if len(body) > MAX_BODY_BYTES * 4 // 3 + 4:
        raise _too_large()
    if event.get("isBase64Encoded"):
        try:
            decoded = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadInputError("the body is marked as base64 and is not") from error
    else:
        decoded = body.encode("utf-8", errors="surrogatepass")
    # A stage's name may stand before the path that the template names.
    path = re.sub(r"^.*?(?=/v1/)", "", str(event.get("path") or "/"))
    return Request(str(event.get("httpMethod") or "GET").upper(), path.rstrip("/") or "/", headers, decoded)


def to_lambda(response: Response) -> dict[str, Any]:
    """Return an answer as API Gateway wants it."""
    return {
        "statusCode": response.status,
        "headers": {"Content-Type": response.content_type, "Cache-Control": "no-store", **response.headers},
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }


def json_body(request: Request) -> bytes:
    """Return the body of a request that must carry JSON.

    Raises:
        TooLargeError: It has more than MAX_BODY_BYTES.
        UnsupportedTypeError: The content type is another; a missing one is taken for JSON.
        BadInputError: There is none.
    """
    kind = request.headers.get("content-type", JSON_TYPE).split(";")[0].strip().lower()
    if kind != JSON_TYPE and not kind.endswith("+json"):
        raise UnsupportedTypeError(f"the body must be {JSON_TYPE}, not {kind[:100]!r}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedTypeError("the body must not be compressed")
    if len(request.body) > MAX_BODY_BYTES:
        raise _too_large()
    if not request.body.strip():
        raise BadInputError("the request has no body; send a JSON object")
    return request.body


def _too_large() -> TooLargeError:
    return TooLargeError(f"the body is larger than {MAX_BODY_BYTES} bytes; ask for less at once")
