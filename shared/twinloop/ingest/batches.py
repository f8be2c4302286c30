"""What readers of every format hand on: typed rows in the file's order, and rejected ones with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from twinloop.ingest.columns import Table
from twinloop.ingest.rows import Fault


class Reject(NamedTuple):
    """A rejected row: its line (1 is the first; None for a file as a whole), why, and the row as it was delivered."""

    line: int | None
    fault: Fault
    row: bytes | None


@dataclass(frozen=True)
class Batch:
    """Rows of one block."""

    table: pa.Table
    rejects: list[Reject] = field(default_factory=list)


class Slow(NamedTuple):
    """What became of rows that went one by one: their place among the block's rows, and their values."""

    places: list[int]
    values: list[dict[str, Any]]
    rejects: list[Reject]


def doubtful(fine: Any) -> NDArray[np.int64]:
    """Return the places of the rows that a mask does not let through."""
    return np.flatnonzero(~fine.to_numpy(zero_copy_only=False))


def merged(typed: pa.Table, fine: Any, slow: Slow, table: Table) -> Batch:
    """Return the rows beyond doubt and those that passed one by one, in their order."""
    kept = typed.filter(fine)
    if not slow.values:
        return Batch(kept, slow.rejects)
    places = np.concatenate([np.flatnonzero(fine.to_numpy(zero_copy_only=False)), np.asarray(slow.places)])
    both = pa.concat_tables([kept, rows_table(slow.values, table)])
    return Batch(both.take(pa.array(np.argsort(places, kind="stable"))), slow.rejects)


def rows_table(values: Sequence[dict[str, Any]], table: Table) -> pa.Table:
    """Return rows as the contract gave them back, as a table; moments are cut to the millisecond."""
    times = [column.name for column in table.columns if column.kind == "time"]
    cut = [{**row, **{name: _milliseconds(row[name]) for name in times}} for row in values] if times else values
    return pa.Table.from_pylist(list(cut), schema=table.schema)


def _milliseconds(moment: Any) -> Any:
    return None if moment is None else moment.replace(microsecond=moment.microsecond // 1000 * 1000)
