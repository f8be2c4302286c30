"""Labelled examples: what a system learns from whose learning data are no lists that were shown to users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinloop.contracts.artefacts import Case

KEYS = ("example_id", "group_id", "time_ms")
"""The columns that every query of examples returns: text, text, and epoch milliseconds as BIGINT; never NULL."""
SLICES = "slices"
"""A column list<string> beside those of the query: see `Examples.slices`."""
FILE = "examples.parquet"
"""The file of a part of a snapshot: `train/examples.parquet`."""


@dataclass(frozen=True)
class Examples:
    """How a system's raw tables become labelled examples, and examples labelled requests.

    A group is what must not be divided between what is learnt from and what is judged by: a query with all its
    judgments, an author with all their texts. `SystemSpec.split` says which part a group is in: `by_group` or `global`.

    Attributes:
        tables: Raw tables that are read besides `items`, `users` and `events`; each is one of `System.tables`.
        sql: One DuckDB query over views of these names. Each view has every column of its row contract, filled or not;
            times are epoch milliseconds in `..._ms` (`time` is `time_ms`, `created_at` is `created_ms`), objects are
            JSON text. Each row is there once, as `contracts.model.identity` knows it; of tables without a `time` of
            their own, the latest. It returns `KEYS` and columns of the system's own: text, numbers, truth values, or
            lists of those. `example_id` is unique. What it aggregates into lists must say in which order.
        case: All examples of one group, by `example_id` -> the labelled request that the gate replays; None: it cannot
            be judged. Case ids are unique; the group's id is one.
        slices: An example -> the slices that it is in, such as `identity=named`, of those whose members a model is not
            to wrong more often than others; they are written beside it as `SLICES`, which jobs may weigh it by. None:
            there is no such column.
        most_cases: Cases of a snapshot; of more test groups, those with the smallest SHA-256 of their id.
    """

    sql: str
    case: Callable[[Sequence[Mapping[str, Any]]], Case | None]
    tables: tuple[str, ...] = ()
    slices: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    most_cases: int = 5000

    def __post_init__(self) -> None:
        """Raises ValueError where it asks for a table twice, or for no case."""
        named = ("items", "users", "events", *self.tables)
        if len(set(named)) < len(named):
            raise ValueError(f"items, users and events are always read, and a table once: {self.tables}")
        if self.most_cases < 1:
            raise ValueError("at least one case is needed to judge by")
