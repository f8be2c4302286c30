"""`twinloop card`: a system's design card as a page, with the measured figures in it."""

from __future__ import annotations

from typing import Annotated

import typer

from twinloop import systems
from twinloop.commands.design_card import design_card
from twinloop.commands.measured import measured
from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import project_root


@plainly
def card(
    system: System,
    write: Annotated[bool, typer.Option("--write", help="Write it to docs/systems/ instead of showing it.")] = False,
) -> None:
    """Show a system's design card: its six steps, its tables, features and ladder, and what was measured."""
    page = page_of(system)
    if not write:
        typer.echo(page, nl=False)
        return
    path = project_root() / "docs" / "systems" / f"{system}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    console.print(f"{path}", soft_wrap=True)


def page_of(name: str) -> str:
    """Return a system's card as Markdown; raises NotFoundError."""
    return design_card(systems.load(name), measured(project_root() / "benchmarks", name))
