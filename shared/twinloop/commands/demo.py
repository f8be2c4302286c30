"""`twinloop demo`: the main job, end to end, on the local cloud."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.json import JSON
from rich.table import Table

from twinloop import systems
from twinloop.commands import api, learn
from twinloop.commands.cloud import bring_up
from twinloop.commands.data import load_files
from twinloop.commands.models import models_table
from twinloop.commands.screen import console, plainly, styled
from twinloop.commands.target import Deployment, deployment, project_root
from twinloop.datasets.catalogue import Dataset, shown_with
from twinloop.registry.overview import release_rows


@dataclass
class Clock:
    """Times the steps and says which one it is."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Time what is done inside."""
        console.print(styled(name, "bold cyan"), what)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        console.print(f"     {self.seconds[name]:.0f} s", style="dim")


@plainly
def demo(
    system: Annotated[str, typer.Argument(help="Which system to show.")] = "video",
    emulator: Annotated[str | None, typer.Option(help="What stands for AWS: ministack or localstack.")] = None,
) -> None:
    """Start the local cloud, load data, learn, and ask for a prediction. Repeating it is quick and harmless."""
    dataset = shown_with(system)
    clock, folder = Clock(), project_root() / "build" / "data" / system
    with clock.step("cloud", "start the local cloud and deploy template.yaml to it"):
        bring_up(emulator)
    with clock.step("data", f"{dataset.title}, as raw tables"):
        dataset.write(folder)
    place = deployment()
    with clock.step("load", "drop it into S3; the ETL takes it into the lake"):
        rows = {made.table: sum(made.rows.values()) for made in load_files(place, system, [folder])}
    if place.registry(system).alias("champion") is None:
        with clock.step("learn", "snapshot, train the ladder, judge, promote"):
            _, progress = learn.run(place, system, dataset.rungs)
        clock.seconds |= {f"learn: {step}": took for step, took in progress.seconds().items()}
    else:
        console.print(f"learned before; `.venv/bin/twinloop learn {system}` does it again", style="dim")
    path = f"/v1/{system}/{systems.load(system).spec.verb}"
    with clock.step("ask", dataset.question):
        answer = api.ask(place, path, dataset.request)
    console.print(answer_shown(dataset, answer))
    console.print(models_table(place.registry(system)))
    _say_what_next(system, api.curl(place, path, dataset.request))
    written = write_facts(project_root() / "build", facts(place, system, clock.seconds, rows, answer))
    console.print(f"{written.relative_to(project_root())} has the facts of this run", style="dim")


def answer_shown(dataset: Dataset, answer: Mapping[str, Any]) -> Group:
    """Return the question, and the answer's list as a table; an answer that is no list as it came."""
    says = styled(f"\n{dataset.question} Says {answer['model_version']}:", "italic")
    if dataset.listed is None:
        return Group(says, JSON.from_data(dict(answer)))
    table = Table(box=None)
    table.add_column("", justify="right")
    for column in dataset.columns:
        table.add_column(column)
    for place, row in enumerate(answer[dataset.listed], 1):
        table.add_row(str(row.get("rank", place)), *(_cell(row.get(column)) for column in dataset.columns))
    return Group(says, table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(of)}" for name, of in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return "" if value is None else str(value)


def facts(
    place: Deployment, system: str, seconds: Mapping[str, float], rows: Mapping[str, int], answer: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what build/demo.json holds."""
    champion = next(row for row in release_rows(place.registry(system)) if "champion" in row.aliases)
    metrics = {name: {"mean": m.mean, "low": m.low, "high": m.high} for name, m in champion.metrics.items()}
    return {
        "system": system,
        "seconds": seconds,
        "rows": rows,
        "api_url": place.api_url,
        "champion": {"version": champion.version, "rung": champion.rung, "why": champion.why},
        "metrics": metrics,
        "answer": answer,
    }


def write_facts(folder: Path, found: Mapping[str, Any]) -> Path:
    """Write demo.json and return its path."""
    path = folder / "demo.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _say_what_next(system: str, curl: str) -> None:
    console.print("\nAsk yourself:", style="bold")
    console.print(curl, soft_wrap=True)
    console.print("\nTry next:", style="bold")
    for command, what in (
        (f"twinloop models {system}", "releases, metrics, who is champion and why"),
        (f"twinloop lake {system}", "what is in the lake, what is in quarantine and why"),
        (f"twinloop learn {system}", "run the loop again, with the whole ladder; keeping the champion is a success"),
        (f"twinloop rollback {system}", "give the place back to the release before"),
        ("make down", "stop the local cloud and forget everything in it"),
    ):
        whole = command if command.startswith("make") else f".venv/bin/{command}"
        console.print(f"  {whole:38} {what}")
