"""`twinloop simulate`: made-up data whose truth is known, for tests, load and demos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly
from twinloop.datasets.simulator.settings import SIMULATED, ApplicationSettings, Settings
from twinloop.errors import BadInputError, NotFoundError

_NO_SETTINGS = ("system", "folder", "form")


def _defaults(name: str) -> str:
    """Return the default of a setting, of each system where they differ."""
    found = {
        system: str(field.default.date() if isinstance(field.default, datetime) else field.default)
        for system, kinds in SIMULATED.items()
        for kind in kinds
        for field in fields(kind)
        if field.name == name
    }
    if len(found) == len(SIMULATED) and len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{system} {default}" for system, default in found.items())


def _option(name: str, words: str, **more: Any) -> Any:
    """Return an option that is only passed on where it is given: each simulation has defaults of its own."""
    return typer.Option(f"--{name.replace('_', '-')}", help=words, show_default=_defaults(name), **more)


@plainly
def simulate(
    context: typer.Context,
    system: System,
    folder: Annotated[Path, typer.Argument(help="A new folder: raw/ for `twinloop load`, truth.parquet beside it.")],
    *,
    users: Annotated[int | None, _option("users", "People, those who join later too.")] = None,
    items: Annotated[
        int | None, _option("items", "Videos, ads, documents, texts or events, those published later too.")
    ] = None,
    days: Annotated[int | None, _option("days", "How long it lasts.")] = None,
    events: Annotated[int | None, _option("events", "About how many events.")] = None,
    seed: Annotated[int | None, _option("seed", "The same options and seed write the same bytes.")] = None,
    start: Annotated[datetime | None, _option("start", "The first day, UTC.", formats=["%Y-%m-%d"])] = None,
    drift: Annotated[float | None, _option("drift", "How far tags go in and out of fashion, in logits.")] = None,
    season_days: Annotated[float | None, _option("season_days", "How long a fashion takes, with --drift.")] = None,
    taste_turn_days: Annotated[
        float | None, _option("taste_turn_days", "How long a person takes to other tastes and back.")
    ] = None,
    cold_users: Annotated[float | None, _option("cold_users", "Share of users who join meanwhile.")] = None,
    cold_items: Annotated[float | None, _option("cold_items", "Share of videos or ads published meanwhile.")] = None,
    popularity: Annotated[float | None, _option("popularity", "How uneven fame is (Zipf's exponent).")] = None,
    slots: Annotated[int | None, _option("slots", "Length of a list that is shown.")] = None,
    position_bias: Annotated[
        float | None, _option("position_bias", "Place k, from 0, is looked at with probability (1+k)^-this.")
    ] = None,
    click_rate: Annotated[
        float | None, _option("click_rate", "Clicks an impression (of events: yeses a view), without drift.")
    ] = None,
    late: Annotated[float | None, _option("late", "Share of the clicks that come minutes later.")] = None,
    exploring: Annotated[float | None, _option("exploring", "Share of places filled at random.")] = None,
    ranked: Annotated[float | None, _option("ranked", "Share of lists with the better ones first.")] = None,
    topics: Annotated[int | None, _option("topics", "What documents are about.")] = None,
    queries: Annotated[int | None, _option("queries", "Different queries.")] = None,
    searches: Annotated[
        int | None, _option("searches", "Lists that are shown; each is an event, and each click.")
    ] = None,
    judged: Annotated[float | None, _option("judged", "Share of the queries that people judged.")] = None,
    noise: Annotated[float | None, _option("noise", "How much lists vary, against what attracts.")] = None,
    mistyped: Annotated[float | None, _option("mistyped", "Share of the queries with a letter too few.")] = None,
    reviewers: Annotated[int | None, _option("reviewers", "People who are asked about texts.")] = None,
    asked: Annotated[int | None, _option("asked", "How many of them a text.")] = None,
    disguised: Annotated[float | None, _option("disguised", "Share of phrases that a list of words misses.")] = None,
    quoted: Annotated[float | None, _option("quoted", "Share of texts that only tell of somebody else's.")] = None,
    form: Annotated[str, typer.Option("--format", help="jsonl.gz or parquet.")] = "jsonl.gz",
) -> None:
    """Make up raw tables of people and what they do. For tests, load and demos: nothing is real.

    The true probabilities are known, so the best possible score is known too.
    """
    if system not in SIMULATED:
        raise NotFoundError(f"there is no simulator of {system!r}; known: {', '.join(SIMULATED)}")
    given = {name: value for name, value in context.params.items() if value is not None and name not in _NO_SETTINGS}
    if start is not None:
        given["start"] = start.replace(tzinfo=UTC)
    settings = _settings(system, given)
    end = next(one.end for one in settings if not isinstance(one, ApplicationSettings))
    if end > datetime.now(UTC):
        raise BadInputError(
            f"the last day ends on {end:%Y-%m-%d}, and events of the future are refused; "
            "begin earlier (--start) or simulate fewer --days"
        )
    _make(system, folder, settings, form)


def _settings(system: str, given: Mapping[str, Any]) -> tuple[Settings, ...]:
    """Return what a system's simulation is asked; raises BadInputError for an option that is another's."""
    known = {name: {field.name for kind in kinds for field in fields(kind)} for name, kinds in SIMULATED.items()}
    for name in given:
        if name not in known[system]:
            others = " and ".join(other for other, names in known.items() if name in names)
            raise BadInputError(f"--{name.replace('_', '-')} is of {others}, and not of {system}")
    return tuple(
        kind(**{field.name: given[field.name] for field in fields(kind) if field.name in given})
        for kind in SIMULATED[system]
    )


def _make(system: str, folder: Path, settings: tuple[Settings, ...], form: str) -> None:
    from twinloop.datasets.simulator.run import simulate as write  # noqa: PLC0415 - it takes pyarrow

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("events", total=getattr(settings[-1], "events", None))
        made = write(folder, *settings, kind=form, progress=lambda count: progress.advance(task, count))
    for table, rows in made.rows.items():
        if table != "truth":
            console.print(f"{folder / 'raw' / table}: {rows:,} rows", soft_wrap=True)
    console.print(f"{folder / 'truth.parquet'}: {made.rows['truth']:,} rows", soft_wrap=True)
    if made.best:
        outcomes = {made.best.outcome: made.best.click, "long view": made.best.long_view}
        told = (f"{what} AUC {p.auc:.4f}, NE {p.normalised_entropy:.4f}" for what, p in outcomes.items() if p)
        console.print(f"the best possible: {'; '.join(told)}", soft_wrap=True)
        if made.best.ranking:
            ndcg, lists = made.best.ranking.ndcg_at_10, made.best.ranking.lists
            console.print(f"the best possible ranking: NDCG@10 {ndcg:.4f} of {lists:,} lists", soft_wrap=True)
    console.print(f"simulated, not real; `twinloop load {system} {folder / 'raw'}` takes it in", soft_wrap=True)
