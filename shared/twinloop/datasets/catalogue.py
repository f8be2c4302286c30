"""The data sets that come with the project, by name and by the system that each of them shows.

Another system is shown by another entry; neither `twinloop data` nor `twinloop demo` knows of any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinloop.datasets.movielens import write_movielens_100k
from twinloop.datasets.simulator.settings import (
    AdsSettings,
    ModerationSettings,
    SearchSettings,
    Settings,
    SuggestionsSettings,
    WorldSettings,
)
from twinloop.errors import NotFoundError


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
        name: What `twinloop data` knows it by.
        title: Its name in words.
        system: The system whose raw tables it is written as.
        write: Writes the tables to a folder; returns rows by table. The same bytes every time.
        question: What `twinloop demo` asks of a model that learned from it, in words.
        request: The same as the body of a request.
        rungs: What the demo trains on it: those of the ladder that are done in minutes on a laptop.
        listed: Which member of an answer is the list to show; None for answers that are none.
        columns: What to show of each of its members, beside the rank.
    """

    name: str
    title: str
    system: str
    write: Callable[[Path], dict[str, int]]
    question: str
    request: Mapping[str, Any]
    rungs: tuple[str, ...]
    listed: str | None = "items"
    columns: tuple[str, ...] = ("title", "item_id")


def _made_up(*settings: Settings) -> Callable[[Path], dict[str, int]]:
    def write(folder: Path) -> dict[str, int]:
        from twinloop.datasets.simulator.run import write_simulated  # noqa: PLC0415 - it takes pyarrow

        return write_simulated(folder, *settings)

    return write


DATASETS = (
    Dataset(
        name="movielens-100k",
        title="MovieLens 100K",
        system="video",
        write=write_movielens_100k,
        question="what should user 196 watch next?",
        request={"user_id": "196", "limit": 10, "include": ["titles"]},
        rungs=("popularity", "ease", "xgboost_trees", "two_tower"),
    ),
    Dataset(
        name="simulated-ads",
        title="a made-up fortnight of ads",
        system="ads",
        write=_made_up(
            WorldSettings(users=1000, items=200, days=14, seed=1), AdsSettings(events=150_000, click_rate=0.1)
        ),
        question="which of these ads is worth most to user u1, at the top of a page?",
        request={
            "user_id": "u1",
            "ads": [{"ad": f"ad{number}", "bid": 0.5 + number % 5 / 10} for number in range(20)],
            "context": {"slot": "top"},
            "limit": 10,
        },
        rungs=("base_rate", "logistic"),
        listed="ads",
        columns=("ad", "p_click", "bid", "expected_value"),
    ),
    Dataset(
        name="simulated-search",
        title="a made-up catalogue with judgments and searches",
        system="search",
        write=_made_up(SearchSettings(items=1000, topics=10, queries=600, searches=5000, seed=1)),
        question="what answers `gidodse meki mirazuvi`, a word of which is mistyped?",
        request={"query": "gidodse meki mirazuvi", "limit": 10},
        rungs=("bm25", "hybrid", "learned_ranking"),
        columns=("title", "item_id", "score"),
    ),
    Dataset(
        name="simulated-moderation",
        title="a made-up forum whose texts people were asked about",
        system="moderation",
        write=_made_up(ModerationSettings(seed=1)),
        question="what is done about an advertisement in disguise?",
        request={
            "items": [
                {"item_id": "disguised", "text": "Roses and compost! D0uble y\u200bour s4vings, cl1ck this l\u200bink"},
                {"item_id": "harmless", "text": "the choir sang about trains and tomatoes again today"},
            ]
        },
        rungs=("lexicon", "hashed_linear"),
        listed="decisions",
        columns=("item_id", "action", "because", "labels"),
    ),
    Dataset(
        name="simulated-suggestions",
        title="three made-up weeks of events in towns",
        system="suggestions",
        write=_made_up(WorldSettings(users=1500, items=1500, days=21, seed=1), SuggestionsSettings(events=80_000)),
        question="what may user u1 go to, in Berlin, when the last day is over?",
        request={
            "user_id": "u1",
            "lat": 52.52,
            "lon": 13.405,
            "time_zone": "Europe/Berlin",
            "time_ms": 1_737_504_000_000,  # 22 January 2025, when the simulated time is over
            "limit": 10,
        },
        rungs=("distance_popularity", "event_logistic"),
        listed="events",
        columns=("title", "local_start", "distance_km", "score"),
    ),
)


def dataset(name: str) -> Dataset:
    """Return the data set of that name; raises NotFoundError."""
    return _first("data set", {known.name: known for known in reversed(DATASETS)}, name)


def shown_with(system: str) -> Dataset:
    """Return the data set that a system is shown with, the first of several; raises NotFoundError."""
    return _first("demo of", {known.system: known for known in reversed(DATASETS)}, system)


def _first(what: str, known: Mapping[str, Dataset], name: str) -> Dataset:
    if name not in known:
        raise NotFoundError(f"there is no {what} {name!r}; known: {', '.join(sorted(known))}")
    return known[name]
