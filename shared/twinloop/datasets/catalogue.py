"""The public data sets, by name and by the system that each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinloop.datasets.movielens import write_movielens_100k
from twinloop.errors import NotFoundError


@dataclass(frozen=True)
class Dataset:
    """One public data set.

    Attributes:
        name: What `twinloop data` knows it by.
        title: Its name in words.
        system: The system whose raw tables it is written as.
        write: Writes the tables to a folder; returns rows by table. The same bytes every time.
        question: What `twinloop demo` asks of a model that learned from it, in words.
        request: The same as the body of a request.
        rungs: What the demo trains on it: those of the ladder that are done in minutes on a laptop.
    """

    name: str
    title: str
    system: str
    write: Callable[[Path], dict[str, int]]
    question: str
    request: Mapping[str, Any]
    rungs: tuple[str, ...]


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
