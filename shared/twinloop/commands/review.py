"""`twinloop review`: what waits for people, what they decide, appeals, how far they agree, and the policy."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from twinloop.commands.api import ask
from twinloop.commands.screen import console, plainly, styled
from twinloop.commands.target import Deployment, deployment
from twinloop.errors import BadInputError, UnavailableError
from twinloop.systems.moderation import agreement as agreements
from twinloop.systems.moderation import review as people
from twinloop.systems.moderation.policy import read_hashes, read_policy
from twinloop.systems.moderation.release import change, served_policy
from twinloop.systems.moderation.review_queue import DAYS, waiting
from twinloop.systems.moderation.words import Word

app = typer.Typer(no_args_is_help=True, help="Moderation by people: what waits for them, and what they say.")

Item = Annotated[str, typer.Argument(help="A text's id, as `twinloop review queue` shows it.")]
Labels = Annotated[list[str], typer.Argument(help="hate=1 offensive=0 ...")]
Who = Annotated[str | None, typer.Option("--as", help="Who says so; by default your name here.")]
Note = Annotated[str, typer.Option("--note", help="Kept with it.")]
Days = Annotated[int, typer.Option("--days", min=1, max=366, help="Of the log that are looked at.")]
_SHOWN_CHARACTERS = 200


@app.command()
@plainly
def queue(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Texts at most.")] = 20,
    days: Days = DAYS,
) -> None:
    """Show what waits for a decision: appeals, disagreements, then first decisions. The texts may be hurtful."""
    found = waiting(deployment().store, now=_now(), days=days)
    table = Table(
        title=f"{len(found)} texts wait, of the last {days} days", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for heading in ("item", "waits for", "because", "text", "said"):
        table.add_column(heading, overflow="fold")
    for one in found[:limit]:
        because = ", ".join(f"{label} {one.labels[label]:.2f}" for label in one.because if label in one.labels)
        said = "; ".join(_told(word) for word in one.words)
        table.add_row(one.item_id, one.why, because or ", ".join(one.because), one.text[:_SHOWN_CHARACTERS], said)
    console.print(table)


@app.command()
@plainly
def decide(item: Item, labels: Labels, who: Who = None, note: Note = "", days: Days = DAYS) -> None:
    """Say which labels a text has; the words become labels to learn from."""
    place, name = deployment(), who or getpass.getuser()
    events = people.decide(place.store, item, _labels(labels), who=name, now=_now(), note=note, days=days)
    _tell(place, item, events)


@app.command()
@plainly
def appeal(
    item: Item,
    labels: Annotated[list[str] | None, typer.Argument(help="The decision about it; none: somebody appeals.")] = None,
    who: Who = None,
    note: Note = "",
    days: Days = DAYS,
) -> None:
    """Keep that somebody appeals, or, with labels, decide an appeal: that overrules what reviewers said."""
    place, name = deployment(), who or getpass.getuser()
    if not labels:
        people.appeal(place.store, item, who=name, now=_now(), note=note, days=days)
        console.print(f"{item} waits for somebody else's decision")
        return
    given = _labels(labels)
    events = people.decide(place.store, item, given, who=name, now=_now(), source="appeal", note=note, days=days)
    _tell(place, item, events)


@app.command()
@plainly
def agreement() -> None:
    """Show how far reviewers agree, and how often appeals overturn them."""
    table = Table(title="agreement of reviewers", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("label", "texts", "by several", "disagreed", "Krippendorff's alpha", "appeals", "overturned"):
        table.add_column(heading)
    for one in agreements.agreement(deployment().store):
        figures = (one.texts, one.twice, one.disagreed)
        alpha = "" if one.alpha is None else f"{one.alpha:.3f}"
        table.add_row(one.label, *map(str, figures), alpha, str(one.appeals), str(one.overturned))
    console.print(table)


@app.command()
@plainly
def policy(
    file: Annotated[Path | None, typer.Argument(help="A policy as JSON; none: show the champion's.")] = None,
    media: Annotated[Path | None, typer.Option("--media", help="Perceptual hashes, 16 hex digits a line.")] = None,
    why: Annotated[str, typer.Option("--why", help="Goes into the registry's history.")] = "another policy",
) -> None:
    """Show or change what is done at which probability, or the list of known media; nothing is trained again."""
    registry = deployment().registry("moderation")
    if file is None and media is None:
        told = served_policy(registry)
        console.print((told or b"the thresholds of the champion's own text.json").decode(), soft_wrap=True)
        return
    found = read_policy(_read(file)) if file is not None else None
    hashes = read_hashes(_read(media).decode("utf-8", "replace").splitlines()) if media is not None else None
    move = change(registry, policy=found, media=hashes, why=why, by=getpass.getuser())
    told_policy = f", policy {found.version}" if found is not None else ""
    console.print(f"champion: {move.came_from} -> {move.version}{told_policy} ({why})", soft_wrap=True)


def _labels(given: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in given:
        label, equals, value = one.partition("=")
        if not equals or value not in ("0", "1"):
            raise BadInputError(f"{one!r}: say label=1 or label=0")
        found[label] = int(value)
    return found


def _tell(place: Deployment, item: str, events: list[dict[str, object]]) -> None:
    if events:
        try:
            ask(place, "/v1/moderation/events", {"events": events})
        except UnavailableError as error:
            raise UnavailableError(
                f"the word on {item} is kept, but its author's record does not know of it: decide the same once more, "
                f"which tells it ({error})"
            ) from error
        people.mark_told(place.store, events)
    what = f"; its author's record says {events[-1]['type']}" if events else ""
    console.print(styled("kept", "bold green"), f"{item}{what}")


def _told(word: Word) -> str:
    labels = " ".join(f"{label}={value}" for label, value in word.labels.items())
    return f"{word.who} ({word.kind}) {labels}".strip()


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise BadInputError(f"{path}: there is no such file")
    return path.read_bytes()


def _now() -> datetime:
    return datetime.now(UTC)
