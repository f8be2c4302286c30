"""A simulation to a folder: raw tables, the truth apart from them, and a notice that nothing of it is real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from twinloop.datasets.simulator import ads_tables, suggestions_tables, video_tables
from twinloop.datasets.simulator.ads import AdsApplication
from twinloop.datasets.simulator.best import Best, best_possible
from twinloop.datasets.simulator.parts import Parts
from twinloop.datasets.simulator.settings import (
    AdsSettings,
    ApplicationSettings,
    SuggestionsSettings,
    WorldSettings,
)
from twinloop.datasets.simulator.suggestions import SuggestionsApplication
from twinloop.datasets.simulator.video import VideoApplication
from twinloop.errors import BadInputError

_NOTICE = """# Simulated data

Nothing in this folder happened: `twinloop simulate` made it up. It is for tests, load and demos. A model that is good
here has shown that it can learn; whether it suits real people, only real data can tell.

`raw/` has the tables, for `twinloop load {system} {folder}/raw`; every row is marked as simulated (events in `context`,
users and items in `simulated`, which the lake keeps in `extra`).
`truth.parquet` has, of every impression, what came of it and the true probabilities. No model may learn from it.
`simulation.json` has the settings, which make the same bytes again, and the score of the true probabilities.
"""


@dataclass(frozen=True)
class Made:
    """What a simulation wrote: rows by table, and the best possible scores; None where too little happened."""

    rows: dict[str, int]
    best: Best | None


def simulate(
    folder: Path,
    world: WorldSettings,
    settings: ApplicationSettings,
    *,
    kind: str = "jsonl.gz",
    progress: Callable[[int], None] = lambda events: None,
) -> Made:
    """Write a simulated application to a folder, `progress` being told how many events came.

    The settings say which: those of video, of ads, or of suggestions. Memory depends on users and items, not on events.
    The same settings write the same bytes.

    Raises:
        BadInputError: The folder holds something already, or a setting is out of bounds.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInputError(f"{folder} is not an empty folder; simulated data does not mix with other data")
    application: Any  # each has the tables of its own
    tables_of: ModuleType
    if isinstance(settings, AdsSettings):
        system, application, tables_of = "ads", AdsApplication(world, settings), ads_tables
    elif isinstance(settings, SuggestionsSettings):
        system, application, tables_of = "suggestions", SuggestionsApplication(world, settings), suggestions_tables
    else:
        system, application, tables_of = "video", VideoApplication(world, settings), video_tables
    raw = folder / "raw"
    rows = {
        "users": _write(raw, "users", kind, tables_of.users(application)),
        "items": _write(raw, "items", kind, tables_of.items(application)),
    }
    with (
        Parts(raw / "events", "events", kind) as events,
        Parts(folder, "truth", "parquet", part_rows=10**12) as truth,
        ThreadPoolExecutor(1) as pool,
    ):
        under_way: Future[None] | None = None
        for piece in application.pieces():
            tables = ((events, tables_of.events), (truth, tables_of.truth))
            made = [(parts, table(piece, application)) for parts, table in tables]
            if under_way is not None:
                under_way.result()
            under_way = pool.submit(_add, made)  # compressing one piece while the next one comes to be
            progress(len(piece.events.number))
        if under_way is not None:
            under_way.result()
        rows |= {"events": events.rows, "truth": truth.rows}
    if not rows["events"]:
        raise BadInputError("nothing happened: nobody was there, or too few events were asked for")
    (folder / "truth-00000.parquet").rename(folder / "truth.parquet")
    made_of = Made(rows, _best(folder / "truth.parquet"))
    _describe(folder, system, world, settings, made_of)
    return made_of


def _write(raw: Path, table: str, kind: str, pieces: Iterable[pa.Table]) -> int:
    with Parts(raw / table, table, kind) as parts:
        for piece in pieces:
            parts.add(piece)
    return parts.rows


def _add(made: list[tuple[Parts, pa.Table]]) -> None:
    for parts, rows in made:
        parts.add(rows)


def _best(truth: Path) -> Best | None:
    try:
        return best_possible(truth)
    except BadInputError:  # a handful of impressions without a click
        return None


def _describe(folder: Path, system: str, world: WorldSettings, settings: ApplicationSettings, made: Made) -> None:
    facts = {
        "simulated": True,
        "system": system,
        "world": {**asdict(world), "start": world.start.isoformat()},
        "settings": asdict(settings),
        "rows": made.rows,
        "best_possible": made.best.as_dict() if made.best else None,
    }
    (folder / "simulation.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_NOTICE.format(system=system, folder=folder.name), encoding="utf-8")
