"""A simulation to a folder: raw tables, the truth apart from them, and a notice that nothing of it is real."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyarrow as pa

from twinloop.datasets.simulator import ads_tables, search_tables, suggestions_tables, text_tables, video_tables
from twinloop.datasets.simulator.ads import AdsApplication
from twinloop.datasets.simulator.best import Best, best_possible
from twinloop.datasets.simulator.parts import Parts
from twinloop.datasets.simulator.searches import SearchWorld
from twinloop.datasets.simulator.settings import (
    SIMULATED,
    AdsSettings,
    ModerationSettings,
    SearchSettings,
    Settings,
    SuggestionsSettings,
    VideoSettings,
    WorldSettings,
)
from twinloop.datasets.simulator.suggestions import SuggestionsApplication
from twinloop.datasets.simulator.texts import TextWorld
from twinloop.datasets.simulator.video import VideoApplication
from twinloop.errors import BadInputError

_NOTICE = """# Simulated data

Nothing in this folder happened: `twinloop simulate` made it up. It is for tests, load and demos. A model that is good
here has shown that it can learn; whether it suits real people, only real data can tell.

`raw/` has the tables, for `twinloop load {system} {folder}/raw`; every row is marked as simulated (events in `context`,
the others in `simulated`, which the lake keeps in `extra`).
`truth.parquet` has what came of everything that was shown, and the true probabilities. No model may learn from it.
`simulation.json` has the settings, which make the same bytes again, and the score of the true probabilities.
"""


class Simulation(NamedTuple):
    """What a simulation yields, pieces of tables.

    Attributes:
        entities: Raw tables other than events, whole by whole.
        stream: Events with the truth of what was shown meanwhile.
    """

    entities: Mapping[str, Iterable[pa.Table]]
    stream: Iterable[tuple[pa.Table, pa.Table]]


@dataclass(frozen=True)
class Made:
    """What a simulation wrote: rows by table, and the best possible scores; None where too little happened."""

    rows: dict[str, int]
    best: Best | None


def _video(world: WorldSettings, settings: VideoSettings) -> Simulation:
    return _shown(VideoApplication(world, settings), video_tables)


def _ads(world: WorldSettings, settings: AdsSettings) -> Simulation:
    return _shown(AdsApplication(world, settings), ads_tables)


def _search(settings: SearchSettings) -> Simulation:
    world = SearchWorld(settings)
    entities = {"items": search_tables.items(world), "judgments": search_tables.judgments(world)}
    return Simulation(entities, search_tables.stream(world))


def _suggestions(world: WorldSettings, settings: SuggestionsSettings) -> Simulation:
    return _shown(SuggestionsApplication(world, settings), suggestions_tables)


def _moderation(settings: ModerationSettings) -> Simulation:
    world = TextWorld(settings)
    return Simulation(
        {"items": text_tables.items(world), "labels": text_tables.labels(world)}, text_tables.stream(world)
    )


def _shown(application: Any, tables: ModuleType) -> Simulation:
    """Return an application that shows lists of a world's items, with tables of its own."""
    entities = {"users": tables.users(application), "items": tables.items(application)}
    pieces = application.pieces()
    return Simulation(entities, ((tables.events(one, application), tables.truth(one, application)) for one in pieces))


_SIMULATIONS: Mapping[str, Callable[..., Simulation]] = {
    "video": _video,
    "ads": _ads,
    "search": _search,
    "moderation": _moderation,
    "suggestions": _suggestions,
}


def simulate(
    folder: Path, *settings: Settings, kind: str = "jsonl.gz", progress: Callable[[int], None] = lambda events: None
) -> Made:
    """Write a simulated application to a folder, `progress` being told how many events came.

    The settings say which: see `SIMULATED`. Memory depends on users and items, not on events. The same settings write
    the same bytes.

    Raises:
        BadInputError: The folder holds something already, or a setting is out of bounds.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInputError(f"{folder} is not an empty folder; simulated data does not mix with other data")
    system = _simulated(settings)
    made = _SIMULATIONS[system](*settings)
    raw = folder / "raw"
    rows = {table: _write(raw, table, kind, pieces) for table, pieces in made.entities.items()}
    with (
        Parts(raw / "events", "events", kind) as events,
        Parts(folder, "truth", "parquet", part_rows=10**12) as truth,
        ThreadPoolExecutor(1) as pool,
    ):
        under_way: Future[None] | None = None
        for happened, true in made.stream:
            if under_way is not None:
                under_way.result()
            # Compressing one piece while the next one comes to be.
            under_way = pool.submit(_add, [(events, happened), (truth, true)])
            progress(happened.num_rows)
        if under_way is not None:
            under_way.result()
        rows |= {"events": events.rows, "truth": truth.rows}
    if not rows["events"]:
        raise BadInputError("nothing happened: nobody was there, or too few events were asked for")
    (folder / "truth-00000.parquet").rename(folder / "truth.parquet")
    made_of = Made(rows, _best(folder / "truth.parquet"))
    _describe(folder, system, settings, made_of)
    return made_of


def write_simulated(folder: Path, *settings: Settings) -> dict[str, int]:
    """Write a simulation's raw tables alone, for a demo; returns rows by table.

    What an earlier run left in the folder is overwritten. Raises BadInputError for a setting that is out of bounds.
    """
    with tempfile.TemporaryDirectory(prefix="simulated-") as work:
        made = simulate(Path(work) / "it", *settings)
        shutil.copytree(Path(work) / "it" / "raw", folder, dirs_exist_ok=True)
    return {table: rows for table, rows in made.rows.items() if table != "truth"}


def _simulated(settings: Sequence[Settings]) -> str:
    """Return the system that such settings simulate; raises BadInputError."""
    kinds = tuple(type(one) for one in settings)
    for system, known in SIMULATED.items():
        if kinds == known:
            return system
    raise BadInputError(f"nothing is simulated with {', '.join(kind.__name__ for kind in kinds)}")


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


def _describe(folder: Path, system: str, settings: Sequence[Settings], made: Made) -> None:
    asked = {"world" if isinstance(one, WorldSettings) else "settings": asdict(one) for one in settings}
    facts = {
        "simulated": True,
        "system": system,
        **asked,
        "rows": made.rows,
        "best_possible": made.best.as_dict() if made.best else None,
    }
    told = json.dumps(facts, indent=1, default=_plain)
    (folder / "simulation.json").write_text(told + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_NOTICE.format(system=system, folder=folder.name), encoding="utf-8")


def _plain(moment: datetime) -> str:
    return moment.isoformat()
