"""What Step Functions and SageMaker refuse becomes an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from twinloop.aws import executions
from twinloop.errors import BadInputError, NotFoundError, UnavailableError

ERRORS = [
    ("ThrottlingException", UnavailableError),
    ("ExecutionLimitExceeded", UnavailableError),
    ("ServiceUnavailable", UnavailableError),
    ("ExecutionDoesNotExist", NotFoundError),
    ("StateMachineDoesNotExist", NotFoundError),
    ("InvalidArn", BadInputError),
    ("AccessDeniedException", BadInputError),
]
CALLS: dict[str, Callable[[], Any]] = {
    "start": lambda: executions.start("machine", {}),
    "describe": lambda: executions.describe("arn"),
    "states_entered": lambda: executions.states_entered("arn"),
    "jobs": lambda: executions.jobs("twinloop-", 0.0),
}


class Failing:
    """A client whose every call fails, a paginator's only when its pages are read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name in {"get_paginator", "paginate"}:
            return lambda *args, **more: self
        return self._fail

    def __iter__(self) -> Any:
        self._fail()

    def _fail(self, **more: Any) -> Any:
        raise self._error


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("code", "kind"), ERRORS)
def test_refusals_become_our_errors(call: str, code: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "no, because"}}, "Anything")
    monkeypatch.setattr(executions, "client", lambda service: Failing(error))
    with pytest.raises(kind, match="no, because"):
        CALLS[call]()


@pytest.mark.parametrize("call", CALLS)
def test_silence_becomes_our_error(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = EndpointConnectionError(endpoint_url="https://states")
    monkeypatch.setattr(executions, "client", lambda service: Failing(error))
    with pytest.raises(UnavailableError, match="did not answer"):
        CALLS[call]()
