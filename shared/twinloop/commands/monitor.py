"""`twinloop monitor`: look now at what releases said lately and what came of it, and put right what serving says."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinloop.aws import functions
from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import deployment
from twinloop.contracts.live import LiveCalibration, LiveOffsets
from twinloop.errors import NotFoundError
from twinloop.registry.names import ALIASES
from twinloop.registry.registry import Registry


@plainly
def monitor(system: System) -> None:
    """Make a system's live calibration now, and show its offsets. Running functions take it up within 30 seconds."""
    place = deployment()
    if "MonitorFunction" not in place.outputs:
        raise NotFoundError(f"the stack {place.name} has no function `monitor`; deploy it again")
    answer = functions.invoke(place.outputs["MonitorFunction"], {"system": system})
    made, read = LiveCalibration.model_validate(answer["calibration"]), answer["log"]
    console.print(offsets_table(made, _pointing(place.registry(system))))
    said = (
        f"{read['lines']:,} answers of the log read, {read['left_out']:,} left out, {read['damaged']:,} damaged lines"
    )
    console.print(said if read["whole"] else f"{said}; there is more than may be read")


def offsets_table(made: LiveCalibration, aliases: Mapping[str, str]) -> Group:
    """Return the offsets of each release, in logits, and under it those of values of facts.

    `said / came` is of the release by itself, before any offset; 1 is right.
    """
    table = Table(
        title=f"{made.system}: live calibration of {made.label}, made {made.made_at:%Y-%m-%d %H:%M} UTC",
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("release", "points here", "shown since", "until", "rows", "came", "said / came", "of", "offset"):
        table.add_column(heading, no_wrap=heading in {"release", "of"})
    for version, offsets in made.versions.items():
        table.add_row(
            version,
            aliases.get(version, ""),
            f"{offsets.since:%m-%d %H:%M}",
            f"{offsets.until:%m-%d %H:%M}",
            f"{offsets.rows:,}",
            f"{offsets.positives:,}",
            f"{offsets.expected / offsets.positives:.3f}" if offsets.positives else "",
            "everything",
            _signed(offsets.offset),
        )
        for name, value, offset in _values(offsets):
            table.add_row(*[""] * 7, f"{name} {value}", _signed(offset))
    if not made.versions:
        return Group(table, Text("no showing of the last hours has a known outcome and an answer in the log yet"))
    return Group(table)


def _pointing(registry: Registry) -> dict[str, str]:
    """Return version -> the aliases that point to it."""
    found: dict[str, list[str]] = {}
    for alias in ALIASES:
        if state := registry.alias(alias):
            found.setdefault(state.version, []).append(alias)
    return {version: ", ".join(aliases) for version, aliases in found.items()}


def _values(offsets: LiveOffsets) -> list[tuple[str, str, float]]:
    return [(name, value, offset) for name, values in offsets.by.items() for value, offset in values.items()]


def _signed(offset: float) -> str:
    return f"{offset:+.3f}"
