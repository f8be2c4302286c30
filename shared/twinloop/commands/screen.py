"""How commands speak: one console, errors as one plain sentence, tables that fit a terminal."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from rich.console import Console

from twinloop.errors import TwinloopError

# A log has no width of its own; tables there may be as wide as they need.
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

Command = TypeVar("Command", bound=Callable[..., Any])


def plainly(command: Command) -> Command:
    """Turn our own errors into one sentence on standard error and exit code 1; anything else is a defect and shows."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except TwinloopError as error:
            errors.print(f"[bold red]error[/] {error}", highlight=False, markup=True, soft_wrap=True)
            raise typer.Exit(1) from error

    return run  # type: ignore[return-value]
