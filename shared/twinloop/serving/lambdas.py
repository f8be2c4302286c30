"""API Gateway's events to an app and back."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from twinloop.errors import TwinloopError
from twinloop.ports import Log
from twinloop.serving.app import Call, guarded
from twinloop.serving.http import from_lambda, to_lambda

_LOGGER = logging.getLogger(__name__)


def answer(
    event: Mapping[str, Any], app: Callable[[], Call], *, logger: Log = _LOGGER
) -> tuple[dict[str, Any], Mapping[str, int]]:
    """Answer one proxy event; returns the answer for API Gateway and what is to be counted.

    Args:
        event: As API Gateway sends it to a function behind a REST API.
        app: Makes the app, or returns the one made before. Called in here so that a fault in it is an answer, too.
        logger: Is told of what nobody foresaw.
    """
    response = guarded(lambda: _made(app)(from_lambda(event)), logger=logger)
    counts = {**response.counts, f"Status{response.status // 100}xx": 1}
    return to_lambda(response), counts


@cache
def settle() -> None:
    """Collect garbage from now on, for a process that rested its collector while it started; once.

    What is there by now lives as long as the process, and is never looked at again.
    """
    gc.freeze()
    gc.enable()


def _made(app: Callable[[], Call]) -> Call:
    try:
        return app()
    except TwinloopError as error:
        # The settings are wrong, not the request: the caller must not be told that it was theirs.
        raise RuntimeError(f"the app could not be made: {error}") from error
