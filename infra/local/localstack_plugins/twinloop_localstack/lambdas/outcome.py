"""What to make of the way a call ended."""

from __future__ import annotations

import json
from dataclasses import dataclass

from twinloop_localstack.lambdas import failures, report
from twinloop_localstack.lambdas.failures import KILLED, Exit
from twinloop_localstack.lambdas.function import Function
from twinloop_localstack.lambdas.worker import End, Worker


@dataclass(frozen=True)
class Outcome:
    """An answer or an error.

    Attributes:
        payload: The answer, or the error as AWS writes it.
        failed: Whether it is an error.
        fatal: Whether the worker is of no more use.
        log: What Lambda itself says about it.
        status: `success`, `error` or `timeout`.
        error: The error's type, where it is Lambda's and not the function's.
    """

    payload: bytes
    failed: bool = True
    fatal: bool = True
    log: str = ""
    status: str = "error"
    error: str = ""


def judge(worker: Worker, end: End, function: Function, request_id: str) -> Outcome:
    """Tell what came of a call, or of an initialisation, that ended in this way."""
    answer, init_error = worker.api.answer, worker.api.init_error
    if end is End.DONE and answer is not None:
        if not answer.fits:
            return Outcome(answer.body, error=_kind(answer.body))
        # An error that the handler raised costs nobody the worker.
        return Outcome(answer.body, failed=answer.failed, fatal=False, status="error" if answer.failed else "success")
    if init_error is not None:
        return Outcome(init_error, error=_kind(init_error))
    if end is End.OVERDUE:
        seconds = function.timeout_s
        log = report.timed_out(request_id, seconds)
        return Outcome(failures.timed_out(request_id, seconds), log=log, status="timeout")
    how = worker.exit if end is End.EXITED and worker.exit is not None else KILLED
    kind = "Runtime.OutOfMemory" if end is End.OUT_OF_MEMORY else "Runtime.ExitError"
    return _exited(request_id, how, kind)


def _exited(request_id: str, how: Exit, kind: str) -> Outcome:
    return Outcome(failures.exited(request_id, how), log=report.exited(request_id, how.words), error=kind)


def _kind(payload: bytes) -> str:
    try:
        return str(json.loads(payload)["errorType"])
    except (ValueError, KeyError, TypeError):
        return "Unknown"
