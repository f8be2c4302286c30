"""`twinloop data`, `load`, `lake`, `replay`: raw data in, and what became of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from twinloop import systems
from twinloop.aws.raw import RawObjects
from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly, styled
from twinloop.commands.target import Deployment, deployment
from twinloop.datasets.catalogue import DATASETS, dataset
from twinloop.errors import NotFoundError, UnavailableError
from twinloop.ingest.lake import TableReport, describe, strays
from twinloop.ingest.receipts import Receipt, receipt
from twinloop.ingest.replay import pending
from twinloop.ingest.replay import replay as send_again
from twinloop.ingest.upload import plan

_PATIENCE_S = 900.0  # the ETL function's own limit for one file
_STRAYS_SHOWN = 10


@plainly
def data(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(known.name for known in DATASETS)}")],
    folder: Annotated[Path, typer.Argument(help="Where the raw tables go.")],
) -> None:
    """Write a data set as raw tables, ready for `twinloop load`: public ones are fetched, others made up."""
    for table, rows in dataset(name).write(folder).items():
        console.print(f"{folder}: {table}: {rows:,} rows", soft_wrap=True)


@plainly
def load(
    system: System,
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; a name tells the table (events.jsonl).")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the ETL has taken everything in.")] = True,
) -> None:
    """Upload raw data. Loading the same file twice is harmless."""
    for made in load_files(deployment(), system, paths, wait=wait):
        refused = sum(made.quarantined.values())
        note = Text.assemble(", ", (f"{refused:,} in quarantine", "yellow"), f" (twinloop lake {system})")
        said = Text(f"{made.raw_key}: {sum(made.rows.values()):,} rows in the lake")
        console.print(said + note if refused else said, soft_wrap=True)


@plainly
def lake(system: System) -> None:
    """Show rows, dates and files of each table, and what is in quarantine and why."""
    store = deployment().store
    _tell_of_strays(strays(store))
    reports = describe(store, system)
    if not reports:
        raise NotFoundError(f"nothing was delivered to {system} yet; `twinloop load {system} PATH` does it")
    console.print(lake_table(system, reports))
    for table, report in reports.items():
        for key, reason in report.refused.items():
            console.print(styled(table, "yellow"), f"{key}: {reason}", soft_wrap=True)


@plainly
def replay(
    system: System,
    source: Annotated[Path | None, typer.Option("--from", help="Entries with `row` mended, as --list writes.")] = None,
    listing: Annotated[Path | None, typer.Option("--list", help="Write what waits to this file; send nothing.")] = None,
) -> None:
    """Send quarantined rows through again, as they are or mended."""
    store = deployment().store
    if listing:
        with listing.open("w", encoding="utf-8") as file:
            count = sum(1 for entry in pending(store, system) if file.write(json.dumps(entry) + "\n"))
        console.print(
            f"{listing}: {count:,} rows wait; mend `row`, then `twinloop replay {system} --from {listing}`",
            soft_wrap=True,
        )
        return
    done = send_again(store, system, source.read_bytes().splitlines() if source else None)
    console.print(f"{done.rows:,} rows sent again, {done.known:,} were sent before, {done.by_hand:,} need a hand")


def load_files(place: Deployment, system: str, paths: list[Path], *, wait: bool = True) -> list[Receipt]:
    """Upload files with a progress display; returns their receipts, where waited for.

    Raises:
        BadInputError: A file has no table or format; nothing was uploaded.
        UnavailableError: The ETL did not take everything in.
    """
    uploads = plan(paths, systems.load(system))
    raw, store = RawObjects(place.store.bucket), place.store
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        sending = progress.add_task("uploading", total=sum(upload.size for upload in uploads))
        sent = [(u.key, raw.send(u, lambda count: progress.advance(sending, count))) for u in uploads]
        if not wait:
            return []
        taking = progress.add_task("taking in", total=sum(upload.size for upload in uploads))
        sizes = {upload.key: upload.size for upload in uploads}
        found: dict[str, Receipt] = {}
        deadline = time.monotonic() + _PATIENCE_S
        while len(found) < len(sizes):
            for key, etag in sent:
                if key not in found and (made := receipt(store, system, key, etag)):
                    found[key] = made
                    progress.advance(taking, sizes[key])
            if time.monotonic() > deadline:
                missing = sorted(sizes.keys() - found.keys())
                raise UnavailableError(
                    f"the ETL did not take in {', '.join(missing)}; look at its log and dead letters"
                )
            time.sleep(0.2)
    return list(found.values())


def _tell_of_strays(found: dict[str, str]) -> None:
    if not found:
        return
    count = "1 object belongs" if len(found) == 1 else f"{len(found):,} objects belong"
    console.print(styled(f"{count} to no system or table:", "yellow"))
    for key, reason in list(found.items())[:_STRAYS_SHOWN]:
        console.print(f"  {key}: {reason}", soft_wrap=True)
    if len(found) > _STRAYS_SHOWN:
        console.print(f"  and {len(found) - _STRAYS_SHOWN:,} more; all are in quarantine/_unknown/")


def lake_table(system: str, reports: dict[str, TableReport]) -> Table:
    """Return the lake's tables as rows."""
    table = Table(title=f"{system}: lake", title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("table", "rows", "dates", "files", "objects", "repeated", "quarantined", "replayed"):
        table.add_column(heading, justify="left" if heading in {"table", "quarantined", "dates"} else "right")
    for name, report in reports.items():
        days = sorted(report.rows)
        dates = f"{days[0]} to {days[-1]} ({len(days)})" if len(days) > 1 else "".join(days)
        waiting = "\n".join(f"{count:,} {kind}" for kind, count in report.quarantined.items())
        counts = (f"{sum(report.rows.values()):,}", dates, f"{sum(report.files.values()):,}", f"{report.objects:,}")
        table.add_row(name, *counts, f"{report.duplicates:,}", waiting or "0", f"{report.replayed:,}")
    return table
