"""`twinloop refresh`: what serves, with the items that the lake holds now."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import deployment


@plainly
def refresh(
    system: System,
    *,
    least_share: Annotated[
        float, typer.Option(help="Share of what serves that must still be among the items; less is an accident.")
    ] = 0.5,
) -> None:
    """Let the champion serve the items that the lake holds now: search's index, or the events that come up.

    So do challenger, shadow and previous, where there are any.

    What was learnt stays as it is. Running functions take it up within 30 seconds, without a gap.
    """
    from twinloop.contracts.system import Refresh  # noqa: PLC0415 - what follows takes [dataset] and [training]
    from twinloop.registry.refresh import refresh as make  # noqa: PLC0415
    from twinloop.systems import load  # noqa: PLC0415

    asked = Refresh(by=getpass.getuser(), least_share=least_share)
    console.print(make(load(system), deployment().store, asked).said, soft_wrap=True)
