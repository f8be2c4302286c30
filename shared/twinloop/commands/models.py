"""`twinloop models`, `promote`, `rollback`: what is registered, what serves, and moving it."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinloop.aws import functions
from twinloop.commands.screen import console, errors, plainly
from twinloop.commands.target import Deployment, deployment
from twinloop.errors import NotFoundError, TwinloopError
from twinloop.evaluation.digits import places
from twinloop.registry.aliases import Move
from twinloop.registry.overview import Measured, release_rows
from twinloop.registry.registry import Registry

System = Annotated[str, typer.Argument(help="video, ...")]
Why = Annotated[str, typer.Option("--why", help="Goes into the registry's history.")]
ItemsOfNow = Annotated[
    bool,
    typer.Option("--refresh/--no-refresh", help="Whether it serves the items of now, or those that it was built of."),
]


@plainly
def models(system: System) -> None:
    """Show every release of a system: metrics with intervals, who points to it, and why."""
    console.print(models_table(deployment().registry(system)))


@plainly
def promote(system: System, version: str, why: Why = "promoted by hand", *, refresh: ItemsOfNow = True) -> None:
    """Make a release the champion. Running functions take it up within 30 seconds."""
    place = deployment()
    _tell(place.registry(system).promote(version, why=why, by=getpass.getuser()))
    if refresh:
        _ask_for_refresh(place, system)


@plainly
def rollback(system: System, why: Why = "rolled back by hand", *, refresh: ItemsOfNow = True) -> None:
    """Give the champion's place back to the release before it, without a deployment."""
    place = deployment()
    _tell(place.registry(system).rollback(why=why, by=getpass.getuser()))
    if refresh:
        _ask_for_refresh(place, system)


def models_table(registry: Registry) -> Group:
    """Return the releases as a table, newest first, and under it why each that is pointed to is there."""
    table = Table(
        title=f"{registry.system}: releases", title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    rows = release_rows(registry)
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    for heading in ("version", "rung", "points here", *metrics, "p99 ms", "MB"):
        table.add_column(heading, no_wrap=heading in {"version", "rung"})
    for row in rows:
        measured = [_short(name, row.metrics[name]) if name in row.metrics else "" for name in metrics]
        latency = "" if row.latency_p99_ms is None else f"{row.latency_p99_ms:.1f}"
        size = "" if row.size_mb is None else f"{row.size_mb:.1f}"
        style = "bold green" if "champion" in row.aliases else None
        table.add_row(row.version, row.rung, ", ".join(row.aliases), *measured, latency, size, style=style)
    reasons = [
        Text.assemble((", ".join(row.aliases), "bold"), f" {row.version}: {row.why}") for row in rows if row.aliases
    ]
    return Group(table, *reasons)


def _short(name: str, measured: Measured) -> str:
    """The mean and half of its interval's width."""
    n = places(name)
    return f"{measured.mean:.{n}f} ±{(measured.high - measured.low) / 2:.{n}f}"


def _tell(move: Move) -> None:
    moved = f"{move.alias}: {move.came_from or 'nothing'} -> "
    console.print(Text.assemble(moved, (str(move.version), "bold"), f" ({move.why})"), soft_wrap=True)


def _ask_for_refresh(place: Deployment, system: str) -> None:
    """Let the release that was put in place serve the items of now: in its own are some that were deleted since.

    The move stands whatever comes of this, so what fails is told and not raised.
    """
    from twinloop.systems import load  # noqa: PLC0415 - most commands need no system

    try:
        if load(system).refresh is None:
            return
        console.print("until it is refreshed it serves the items of then; the function `refresh` is asked ...")
        if "RefreshFunction" not in place.outputs:
            raise NotFoundError(f"the stack {place.name} has no function `refresh`; deploy it again")
        answer = functions.invoke(place.outputs["RefreshFunction"], {"system": system})
        console.print(str(answer.get("said", "refreshed")), soft_wrap=True)
    except TwinloopError as error:
        errors.print(
            f"the items of {system} are still those of then, deleted ones among them: {error}; when that is mended: "
            f"twinloop refresh {system}",
            soft_wrap=True,
        )
