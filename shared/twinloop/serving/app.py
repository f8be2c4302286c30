"""The HTTP face of one system's predictions: paths to calls, errors to problems."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from twinloop.contracts.api import PredictionAnswer, PredictionRequest
from twinloop.contracts.endpoint import Endpoint
from twinloop.errors import NotFoundError, TwinloopError
from twinloop.ports import Log
from twinloop.serving.http import Request, Response, json_body
from twinloop.serving.problems import InvalidRequestError, MethodNotAllowedError, faults_of, problem_of

_LOGGER = logging.getLogger(__name__)
OPENAPI_PATH = "/v1/openapi.json"

Call = Callable[[Request], Response]
Body = TypeVar("Body", bound=PredictionRequest)


class App:
    """Answers requests by path and method: path -> method -> call."""

    def __init__(self, routes: Mapping[str, Mapping[str, Call]]) -> None:
        self._routes = routes

    def __call__(self, request: Request) -> Response:
        """Answer; raises NotFoundError, MethodNotAllowedError, and what the call raises."""
        methods = self._routes.get(request.path)
        if methods is None:
            raise NotFoundError(f"there is nothing at {request.path[:200]}; {OPENAPI_PATH} lists what there is")
        if request.method not in methods:
            raise MethodNotAllowedError(request.method, ", ".join(sorted(methods)))
        return methods[request.method](request)


def guarded(call: Callable[[], Response], *, logger: Log = _LOGGER) -> Response:
    """Return the call's answer, or the problem that its error is; never raises.

    What nobody foresaw goes to the logger with its traceback, and to the caller without.
    """
    try:
        return call()
    except TwinloopError as error:
        return problem_of(error)
    except Exception as error:
        logger.exception("request failed")
        return problem_of(error)


def predictions(endpoint: Endpoint, answer: Callable[[Any], PredictionAnswer]) -> Call:
    """Return the call behind POST /v1/<system>/<verb>."""

    def call(request: Request) -> Response:
        told = answer(parsed(request, endpoint.request))
        counts = {"Degraded": int(told.degraded), f"Arm_{told.arm}": 1, **endpoint.counts(told)}
        return Response(200, told.model_dump_json(exclude_none=True).encode(), counts=counts)

    return call


def parsed(request: Request, contract: type[Body]) -> Body:
    """Return the body as its contract; raises BadInputError with every fault by field."""
    try:
        return contract.model_validate_json(json_body(request))
    except ValidationError as error:
        raise InvalidRequestError(faults_of(error)) from error
