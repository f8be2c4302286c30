"""`twinloop demo`: the main job on real data, end to end, on the local cloud."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.table import Table

from twinloop.commands import api, learn
from twinloop.commands.cloud import bring_up
from twinloop.commands.data import load_files
from twinloop.commands.models import models_table
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import Deployment, deployment, project_root
from twinloop.datasets.movielens import write_movielens_100k
from twinloop.errors import NotFoundError
from twinloop.registry import release_rows

_USER = "196"
_DATASETS = {"video": ("MovieLens 100K", write_movielens_100k)}


@dataclass
class _Clock:
    """Times the steps and says which one it is."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        console.print(f"[bold cyan]{name}[/] {what}", highlight=False)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        console.print(f"     {self.seconds[name]:.0f} s", style="dim", highlight=False)


@plainly
def demo(
    system: Annotated[str, typer.Argument(help="Which system to show.")] = "video",
    emulator: Annotated[str, typer.Option(help="What stands for AWS.")] = "ministack",
) -> None:
    """Start the local cloud, load real data, learn, and ask for recommendations. Repeating it is quick and harmless."""
    if system not in _DATASETS:
        raise NotFoundError(f"there is no demo of {system!r}; there is one of {', '.join(_DATASETS)}")
    title, write = _DATASETS[system]
    clock, folder = _Clock(), project_root() / "build" / "data" / system
    with clock.step("cloud", "start the local cloud and deploy template.yaml to it"):
        bring_up(emulator)
    with clock.step("data", f"fetch {title}"):
        write(folder)
    place = deployment()
    with clock.step("load", "drop it into S3; the ETL takes it into the lake"):
        rows = {made.table: sum(made.rows.values()) for made in load_files(place, system, [folder])}
    if place.registry(system).alias("champion") is None:
        with clock.step("learn", "snapshot, train the ladder, judge, promote"):
            _, progress = learn.run(place, system)
        clock.seconds |= {f"learn: {step}": took for step, took in progress.seconds().items()}
    else:
        console.print(f"[dim]learned before; `.venv/bin/twinloop learn {system}` does it again[/]")
    path, body = f"/v1/{system}/recommendations", {"user_id": _USER, "limit": 10, "include": ["titles"]}
    with clock.step("ask", f"what should user {_USER} watch next?"):
        answer = api.ask(place, path, body)
    _show(place, system, answer, api.curl(place, path, body))
    _write(place, system, clock, rows, answer)


def _show(place: Deployment, system: str, answer: dict[str, Any], curl: str) -> None:
    table = Table(title=f"for user {_USER}, by {answer['model_version']}", title_justify="left", box=None)
    table.add_column("", justify="right")
    table.add_column("title")
    for item in answer["items"]:
        table.add_row(str(item["rank"]), item["title"])
    console.print(table)
    console.print(models_table(place.registry(system)))
    console.print("\n[bold]Ask yourself:[/]")
    console.print(curl, soft_wrap=True, highlight=False, markup=False)
    console.print("\n[bold]Try next:[/]")
    for command, what in (
        (f"twinloop models {system}", "releases, metrics, who is champion and why"),
        (f"twinloop lake {system}", "what is in the lake, what is in quarantine and why"),
        (f"twinloop learn {system}", "run the loop again; keeping the champion is a success"),
        (f"twinloop rollback {system}", "give the place back to the release before"),
        ("make down", "stop the local cloud and forget everything in it"),
    ):
        console.print(f"  {'' if command.startswith('make') else '.venv/bin/'}{command:28} {what}", highlight=False)


def _write(place: Deployment, system: str, clock: _Clock, rows: dict[str, int], answer: dict[str, Any]) -> None:
    path = project_root() / "build" / "demo.json"
    champion = next(row for row in release_rows(place.registry(system)) if "champion" in row.aliases)
    metrics = {name: {"mean": m.mean, "low": m.low, "high": m.high} for name, m in champion.metrics.items()}
    facts = {
        "system": system,
        "seconds": clock.seconds,
        "rows": rows,
        "api_url": place.api_url,
        "champion": {"version": champion.version, "rung": champion.rung, "why": champion.why},
        "metrics": metrics,
        "recommendations": answer["items"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"[dim]{path.relative_to(project_root())} has the facts of this run[/]")
