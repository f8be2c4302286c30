"""A function, one call of it, and what came of the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Function:
    """What runs.

    Attributes:
        name: Its name.
        handler: Module and function, `handler.handler`.
        code: Folder with the unpacked package.
        layers: Folders with the unpacked layers, in the template's order.
        memory_mb: Limit of its memory.
        timeout_s: Limit of one call.
        version: Its version.
        variables: Its environment: what AWS tells a function, and its own variables.
    """

    name: str
    handler: str
    code: Path
    layers: tuple[Path, ...] = ()
    memory_mb: int = 128
    timeout_s: float = 3
    version: str = "$LATEST"
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def logs_json(self) -> bool:
        """Whether its platform's log lines are to be JSON."""
        return self.variables.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"


@dataclass(frozen=True)
class Invocation:
    """One call."""

    request_id: str
    payload: bytes
    function_arn: str = ""
    trace_id: str = ""


@dataclass(frozen=True)
class Result:
    """What a call gave: the answer, or the error as AWS writes it; and what was logged, a line each."""

    payload: bytes
    failed: bool
    log: str
