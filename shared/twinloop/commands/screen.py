"""How commands speak: one console, errors as one plain sentence, tables that fit a terminal.

Text is shown as it is: much of it is data or an error's words, in which `[red]` or `:cat:` mean themselves. What is to
be styled says so with `styled`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from twinloop.errors import TwinloopError

# A log has no width of its own; tables there may be as wide as they need.
console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False, highlight=False)
errors = Console(stderr=True, markup=False, emoji=False, highlight=False)

# What commands import where they need it, and the extra that brings it.
EXTRAS = {
    "moto": "local",
    "onnxruntime": "evaluate",
    "psutil": "local",
    "pyarrow": "evaluate",
    "sagemaker": "sagemaker",
}

Command = TypeVar("Command", bound=Callable[..., Any])


def styled(text: str, style: str) -> Text:
    """Return text in a style; whatever stands in it is shown as it is."""
    return Text(text, style=style)


def plainly(command: Command) -> Command:
    """Turn our own errors into one sentence on standard error and exit code 1; anything else is a defect and shows."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except TwinloopError as error:
            _complain(str(error))
            raise typer.Exit(1) from error
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            _complain(f"this needs {error.name}: pip install 'twinloop[{extra}]'")
            raise typer.Exit(1) from error

    return run  # type: ignore[return-value]


def _complain(text: str) -> None:
    errors.print(Text.assemble(("error", "bold red"), " ", text), soft_wrap=True)
