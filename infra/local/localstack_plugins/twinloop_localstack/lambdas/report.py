"""What Lambda itself writes into a function's log, as text or, where the function asked for it, as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinloop_localstack.lambdas.function import Function

_MB = 1024 * 1024


@dataclass(frozen=True)
class Usage:
    """What a call took.

    Attributes:
        seconds: From the call to its answer.
        peak: The most memory that was held, in bytes.
        init_seconds: The initialisation, where this call was the first; it is billed, too.
        status: `success`, `error` or `timeout`.
        error: The error's type, where Lambda gave it one.
    """

    seconds: float
    peak: int
    init_seconds: float | None = None
    status: str = "success"
    error: str = ""


def begins(function: Function, request_id: str) -> str:
    """The line before the function's own."""
    if function.logs_json:
        return _event("platform.start", {"requestId": request_id, "version": function.version})
    return f"START RequestId: {request_id} Version: {function.version}\n"


def ends(function: Function, request_id: str, usage: Usage) -> str:
    """The lines after the function's own."""
    duration, init = usage.seconds * 1000, usage.init_seconds
    billed = math.ceil(duration + (init or 0) * 1000)
    used = min(math.ceil(usage.peak / _MB), function.memory_mb)
    if function.logs_json:
        return _ends_json(function, request_id, usage, billed, used)
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration:.2f} ms",
        f"Billed Duration: {billed} ms",
        f"Memory Size: {function.memory_mb} MB",
        f"Max Memory Used: {used} MB",
    ]
    if init is not None:
        fields.append(f"Init Duration: {init * 1000:.2f} ms")
    if usage.status != "success" and (usage.error or usage.status == "timeout"):
        fields.append(f"Status: {usage.status}")
    if usage.error and usage.status == "error":
        fields.append(f"Error Type: {usage.error}")
    return f"END RequestId: {request_id}\n" + "\t".join(fields) + "\t\n"


def timed_out(request_id: str, seconds: float) -> str:
    """The line about a call that took too long."""
    return f"{_now()} {request_id} Task timed out after {seconds:.2f} seconds\n"


def exited(request_id: str, words: str) -> str:
    """The lines about a runtime that ended."""
    return f"RequestId: {request_id} Error: {words}\nRuntime.ExitError\n"


def _ends_json(function: Function, request_id: str, usage: Usage, billed: int, used: int) -> str:
    metrics: dict[str, Any] = {
        "durationMs": round(usage.seconds * 1000, 3),
        "billedDurationMs": billed,
        "memorySizeMB": function.memory_mb,
        "maxMemoryUsedMB": used,
    }
    if usage.init_seconds is not None:
        metrics["initDurationMs"] = round(usage.init_seconds * 1000, 3)
    record: dict[str, Any] = {"requestId": request_id, "metrics": metrics, "status": usage.status}
    if usage.error:
        record["errorType"] = usage.error
    return _event("platform.report", record)


def _event(kind: str, record: dict[str, Any]) -> str:
    return json.dumps({"time": _now(), "type": kind, "record": record}) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
