"""Errors as HTTP answers (RFC 9457), in this one place."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from twinloop.contracts.api import FieldFault, Problem
from twinloop.errors import BadInputError, ConflictError, NotFoundError, TooLargeError, TwinloopError, UnavailableError
from twinloop.serving.http import Response, UnsupportedTypeError

PROBLEM_TYPE = "application/problem+json"
_MOST_FAULTS = 20
_RETRY_AFTER_S = "2"

# The first class that fits decides, so the more special come first.
_STATUS: tuple[tuple[type[TwinloopError], int], ...] = (
    (TooLargeError, 413),
    (UnsupportedTypeError, 415),
    (BadInputError, 400),
    (NotFoundError, 404),
    (ConflictError, 409),
    (UnavailableError, 503),
)


class InvalidRequestError(BadInputError):
    """A body that does not fit its contract, with each fault by field. HTTP 400."""

    def __init__(self, faults: Iterable[FieldFault]) -> None:
        self.faults = tuple(faults)
        first = self.faults[0]
        where = f"{first.field}: " if first.field else ""
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        super().__init__(f"{where}{first.reason}{more}")


class MethodNotAllowedError(BadInputError):
    """The path exists, for other methods. HTTP 405."""

    def __init__(self, method: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"{method[:20]} is not possible here; use {allowed}")


def faults_of(error: ValidationError) -> tuple[FieldFault, ...]:
    """Return what pydantic found, by field, in words; the values themselves are not repeated."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return tuple(FieldFault(field=_path(entry["loc"]), reason=_reason(entry)) for entry in found[:_MOST_FAULTS])


def problem_of(error: Exception) -> Response:
    """Return the answer for any error. What is not ours says nothing of our insides."""
    if isinstance(error, MethodNotAllowedError):
        return problem(405, str(error), headers={"Allow": error.allowed})
    for kind, status in _STATUS:
        if isinstance(error, kind):
            faults = error.faults if isinstance(error, InvalidRequestError) else ()
            headers = {"Retry-After": _RETRY_AFTER_S} if status == 503 else None
            return problem(status, str(error), faults, headers=headers)
    return problem(500, "the request failed on our side; it was logged")


def problem(
    status: int, detail: str, errors: tuple[FieldFault, ...] = (), *, headers: dict[str, str] | None = None
) -> Response:
    """Return one problem document as an answer."""
    document = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    body = document.model_dump_json().encode("utf-8", errors="replace")
    return Response(status, body, PROBLEM_TYPE, headers or {})


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:100] for part in location)


def _reason(entry: Any) -> str:
    match entry["type"]:
        case "extra_forbidden":
            return "unknown field"
        case "missing":
            return "required"
        case "json_invalid":
            return str(entry["msg"]).replace("Invalid JSON:", "not JSON:")
        case _:
            return str(entry["msg"])
