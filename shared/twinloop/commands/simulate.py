"""`twinloop simulate`: made-up data whose truth is known, for tests, load and demos."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly
from twinloop.datasets.simulator.settings import (
    AdsSettings,
    ApplicationSettings,
    SuggestionsSettings,
    VideoSettings,
    WorldSettings,
)
from twinloop.errors import BadInputError, NotFoundError

SIMULATED: dict[str, type[ApplicationSettings]] = {
    "video": VideoSettings,
    "ads": AdsSettings,
    "suggestions": SuggestionsSettings,
}
_WORLD, _VIDEO, _ADS, _SUGGESTIONS = WorldSettings(), VideoSettings(), AdsSettings(), SuggestionsSettings()


def _by_system(name: str) -> str:
    """Return a setting's defaults in words: the usual one, then those of systems that have another."""
    usual = getattr(_VIDEO, name)
    others = {"ads": getattr(_ADS, name), "suggestions": getattr(_SUGGESTIONS, name)}
    return "; ".join([f"{usual}", *(f"{system}: {value}" for system, value in others.items() if value != usual)])


@plainly
def simulate(
    system: System,
    folder: Annotated[Path, typer.Argument(help="A new folder: raw/ for `twinloop load`, truth.parquet beside it.")],
    *,
    users: Annotated[int, typer.Option(help="People, those who join later too.")] = _WORLD.users,
    items: Annotated[int, typer.Option(help="Videos, ads or events, those published later too.")] = _WORLD.items,
    days: Annotated[int, typer.Option(help="How long it lasts.")] = _WORLD.days,
    events: Annotated[int, typer.Option(help="About how many events.")] = _VIDEO.events,
    seed: Annotated[int, typer.Option(help="The same options and seed write the same bytes.")] = _WORLD.seed,
    start: Annotated[
        datetime,
        typer.Option(help="The first day, UTC.", formats=["%Y-%m-%d"], show_default=f"{_WORLD.start:%Y-%m-%d}"),
    ] = _WORLD.start,
    drift: Annotated[float, typer.Option(help="How far tags go in and out of fashion, in logits.")] = _WORLD.drift,
    season_days: Annotated[float, typer.Option(help="How long a fashion takes, with --drift.")] = _WORLD.season_days,
    taste_turn_days: Annotated[
        float, typer.Option(help="How long a person takes to other tastes and back.")
    ] = _WORLD.taste_turn_days,
    cold_users: Annotated[float, typer.Option(help="Share of users who join meanwhile.")] = _WORLD.cold_users,
    cold_items: Annotated[float, typer.Option(help="Share of videos or ads published meanwhile.")] = _WORLD.cold_items,
    popularity: Annotated[float, typer.Option(help="How uneven fame is (Zipf's exponent).")] = _WORLD.popularity,
    slots: Annotated[
        int | None,
        typer.Option(help="Length of a list that is shown.", show_default=_by_system("slots")),
    ] = None,
    position_bias: Annotated[
        float | None,
        typer.Option(
            help="Place k, from 0, is looked at with probability (1+k)^-this.",
            show_default=_by_system("position_bias"),
        ),
    ] = None,
    click_rate: Annotated[
        float | None,
        typer.Option(
            help="Clicks an impression (of events: yeses a view), without drift.",
            show_default=_by_system("click_rate"),
        ),
    ] = None,
    late: Annotated[
        float | None,
        typer.Option(help="Share of the clicks that come minutes later; of ads.", show_default=str(_ADS.late)),
    ] = None,
    exploring: Annotated[
        float | None,
        typer.Option(help="Share of places filled at random.", show_default=_by_system("exploring")),
    ] = None,
    ranked: Annotated[float, typer.Option(help="Share of lists with the better ones first.")] = _VIDEO.ranked,
    form: Annotated[str, typer.Option("--format", help="jsonl.gz or parquet.")] = "jsonl.gz",
) -> None:
    """Make up raw tables of people who watch videos, see ads, or go to events: for tests, load and demos. None is real.

    The true probabilities are known, so the best possible score is known too.
    """
    if system not in SIMULATED:
        raise NotFoundError(f"there is no simulator of {system!r}; known: {', '.join(SIMULATED)}")
    world = WorldSettings(
        users=users,
        items=items,
        days=days,
        seed=seed,
        start=start.replace(tzinfo=UTC),
        drift=drift,
        season_days=season_days,
        taste_turn_days=taste_turn_days,
        cold_users=cold_users,
        cold_items=cold_items,
        popularity=popularity,
    )
    if world.end > datetime.now(UTC):
        raise BadInputError(
            f"the last day ends on {world.end:%Y-%m-%d}, and events of the future are refused; "
            "begin earlier (--start) or simulate fewer --days"
        )
    chosen: dict[str, Any] = {
        "slots": slots,
        "click_rate": click_rate,
        "late": late,
        "position_bias": position_bias,
        "exploring": exploring,
    }
    if late is not None and system != "ads":
        raise BadInputError(f"--late is of ads; what people do in {system} comes when it is reported")
    settings = SIMULATED[system](
        events=events,
        ranked=ranked,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    _make(system, folder, world, settings, form)


def _make(system: str, folder: Path, world: WorldSettings, settings: ApplicationSettings, form: str) -> None:
    from twinloop.datasets.simulator.run import simulate as write  # noqa: PLC0415 - it takes pyarrow

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("events", total=settings.events)
        made = write(folder, world, settings, kind=form, progress=lambda count: progress.advance(task, count))
    for table in ("users", "items", "events"):
        console.print(f"{folder / 'raw' / table}: {made.rows[table]:,} rows", soft_wrap=True)
    console.print(f"{folder / 'truth.parquet'}: {made.rows['truth']:,} impressions", soft_wrap=True)
    if made.best:
        outcomes = {"yes" if system == "suggestions" else "click": made.best.click, "long view": made.best.long_view}
        told = (f"{what} AUC {p.auc:.4f}, NE {p.normalised_entropy:.4f}" for what, p in outcomes.items() if p)
        console.print(f"the best possible: {'; '.join(told)}", soft_wrap=True)
        if made.best.ranking:
            ndcg, lists = made.best.ranking.ndcg_at_10, made.best.ranking.lists
            console.print(f"the best possible ranking: NDCG@10 {ndcg:.4f} of {lists:,} lists", soft_wrap=True)
    console.print(f"simulated, not real; `twinloop load {system} {folder / 'raw'}` takes it in", soft_wrap=True)
