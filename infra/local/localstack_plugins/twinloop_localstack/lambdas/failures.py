"""Errors that Lambda itself reports, in its own words."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Exit:
    """How a runtime ended: by itself with a code, or by a signal."""

    code: int = 0
    signal: int = 0

    @property
    def words(self) -> str:
        """As Lambda says it."""
        if self.signal:
            return f"Runtime exited with error: signal: {_SIGNALS.get(self.signal) or signal.Signals(self.signal).name}"
        return (
            f"Runtime exited with error: exit status {self.code}"
            if self.code
            else "Runtime exited without providing a reason"
        )


KILLED = Exit(signal=signal.SIGKILL)
# Go's names, which Lambda's own programs print.
_SIGNALS: dict[int, str] = {
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGILL: "illegal instruction",
    signal.SIGINT: "interrupt",
    signal.SIGKILL: "killed",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGTERM: "terminated",
}


def exited(request_id: str, how: Exit) -> bytes:
    """The runtime ended before it answered."""
    return _payload("Runtime.ExitError", f"RequestId: {request_id} Error: {how.words}")


def timed_out(request_id: str, seconds: float) -> bytes:
    """The function took longer than it may."""
    return _payload("Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds")


def too_large(limit: int) -> bytes:
    """The answer is larger than Lambda takes."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return _payload("Function.ResponseSizeTooLarge", message)


def _payload(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()
