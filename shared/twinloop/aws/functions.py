"""Deployed functions, called as an operator would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import waiting_client
from twinloop.errors import BadInputError, NotFoundError, UnavailableError


def invoke(function: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Call a function and return its answer; waits as long as a function may run.

    Raises:
        NotFoundError: There is no such function.
        BadInputError: The function refused the event.
        UnavailableError: Lambda did not answer, or the function broke; the message has its words.
    """
    try:
        answer = waiting_client("lambda").invoke(FunctionName=function, Payload=json.dumps(dict(event)).encode())
        body = json.loads(answer["Payload"].read() or b"null")
    except ClientError as error:
        kind = error.response.get("Error", {}).get("Code", "")
        if kind == "ResourceNotFoundException":
            raise NotFoundError(f"there is no function {function!r}; deploy again") from error
        raise UnavailableError(f"Lambda refused {function}: {error}") from error
    except (BotoCoreError, ValueError) as error:
        raise UnavailableError(f"Lambda did not answer for {function}; try again") from error
    if answer.get("FunctionError"):
        told = body if isinstance(body, dict) else {}
        words = str(told.get("errorMessage") or answer["FunctionError"])
        raise (BadInputError if told.get("errorType") == "BadInputError" else UnavailableError)(words)
    if not isinstance(body, dict):
        raise UnavailableError(f"{function} answered what is no object; its log says more")
    return body
