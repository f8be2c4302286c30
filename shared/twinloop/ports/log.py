"""Where lines are logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Log(Protocol):
    """The part of a logger that is used here: the standard library's has it, and powertools' has it too.

    `extra` are named facts; none is named as an attribute of `logging.LogRecord`.
    """

    def info(self, msg: object, *, extra: Mapping[str, object] | None = None) -> None:
        """Say what happened."""
        ...

    def warning(self, msg: object, *, extra: Mapping[str, object] | None = None) -> None:
        """Say what is worse than it should be."""
        ...

    def error(self, msg: object, *, extra: Mapping[str, object] | None = None) -> None:
        """Say what went wrong."""
        ...

    def exception(self, msg: object, *, extra: Mapping[str, object] | None = None) -> None:
        """Say what went wrong, with the traceback of the exception that is being handled."""
        ...
