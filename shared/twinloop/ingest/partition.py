"""Typed rows to Parquet files by date, in bounded memory: past a buffer's size, rows wait on disk, grouped by date."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinloop.ingest.limits import Limits

_EPOCH = date(1970, 1, 1)
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Part:
    """What one Parquet file of a date will hold."""

    day: date
    number: int
    rows: pa.Table
    duplicates: int


class DatePartitions:
    """Rows gathered by date. What comes out depends on the rows and the limits only, so a retry writes the same."""

    def __init__(
        self,
        schema: pa.Schema,
        identity: tuple[str, ...],
        folder: Path,
        limits: Limits,
        *,
        newest_by: str | None = None,
    ) -> None:
        self._schema, self._identity, self._folder, self._limits = schema, identity, folder, limits
        self._newest_by = newest_by
        self._held: defaultdict[int, list[pa.Table]] = defaultdict(list)
        self._bytes = 0
        self._runs: list[tuple[Path, dict[int, int]]] = []  # file, row group of each day

    def add(self, rows: pa.Table, day: date | None = None) -> None:
        """Take rows: all of one day, or each by its `time`."""
        if not rows.num_rows:
            return
        if day is not None:
            self._held[(day - _EPOCH).days].append(rows)
        else:
            days = rows.column("time").cast(pa.int64()).to_numpy() // _DAY_MS
            if np.any(days[1:] < days[:-1]):
                order = np.argsort(days, kind="stable")
                rows, days = rows.take(pa.array(order)), days[order]
            starts = np.concatenate([[0], np.flatnonzero(np.diff(days)) + 1, [len(days)]])
            for start, end in pairwise(starts.tolist()):
                self._held[int(days[start])].append(rows.slice(start, end - start))
        self._bytes += rows.nbytes
        if self._bytes > self._limits.buffer_bytes:
            self._spill()

    def parts(self) -> Iterator[Part]:
        """Yield the files, day by day. A repeated id within a file's rows is left out, after the first or newest."""
        days = sorted({*self._held, *(day for _, groups in self._runs for day in groups)})
        runs = [(pq.ParquetFile(path), groups) for path, groups in self._runs]
        for day in days:
            for number, table in enumerate(self._of_size(self._tables(day, runs))):
                once = first_of_each(table, self._identity, newest_by=self._newest_by)
                moment = _EPOCH + timedelta(days=day)
                yield Part(moment, number, once, table.num_rows - once.num_rows)
        for file, _ in runs:
            file.close()

    def _tables(self, day: int, runs: list[tuple[Any, dict[int, int]]]) -> Iterator[pa.Table]:
        for file, groups in runs:
            if day in groups:
                yield file.read_row_group(groups[day])
        yield from self._held.pop(day, [])

    def _of_size(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Join tables and cut them at `part_rows`."""
        held: list[pa.Table] = []
        rows = 0
        for table in tables:
            held.append(table)
            rows += table.num_rows
            while rows >= self._limits.part_rows:
                joined = pa.concat_tables(held)
                yield joined.slice(0, self._limits.part_rows)
                held = [joined.slice(self._limits.part_rows)]
                rows -= self._limits.part_rows
        if rows:
            yield pa.concat_tables(held)

    def _spill(self) -> None:
        """Write what is held as one file, a row group a day."""
        path, groups = self._folder / f"run-{len(self._runs):04d}.parquet", {}
        with pq.ParquetWriter(path, self._schema, compression="lz4", use_dictionary=False) as writer:
            for number, day in enumerate(sorted(self._held)):
                tables = self._held.pop(day)
                writer.write_table(pa.concat_tables(tables), row_group_size=self._limits.buffer_bytes)
                groups[day] = number
        self._runs.append((path, groups))
        self._bytes = 0


def first_of_each(
    table: pa.Table, identity: tuple[str, ...], *, last: bool = False, newest_by: str | None = None
) -> pa.Table:
    """Return the rows without repetitions of an identity, in their order.

    Args:
        table: The rows.
        identity: The columns by which a row is known again; all rows stay where there are none.
        last: Whether the last of each stays, and not the first.
        newest_by: A column, which may be missing. What is latest by it stays, before rows that have nothing there; of
            equal ones the first, or the last.
    """
    if not identity:
        return table
    if len(identity) == 1 and pc.count_distinct(table.column(identity[0])).as_py() == table.num_rows:
        return table  # nearly always, and quicker to see so
    places = np.arange(table.num_rows)
    best = places[::-1] if last else places  # of rows that are the same the one with the smallest number stays
    if newest_by is not None and newest_by in table.column_names:
        ranked = pa.table({"newest": table.column(newest_by), "place": best})
        order = pc.sort_indices(ranked, [("newest", "descending"), ("place", "ascending")])  # nulls come last
        best = np.empty(table.num_rows, np.int64)
        best[order.to_numpy()] = places
    names = [f"id{number}" for number in range(len(identity))]
    ids = pa.table([*(table.column(name) for name in identity), pa.array(best)], names=[*names, "best"])
    kept = ids.group_by(names).aggregate([("best", "min")]).column("best_min").to_numpy()
    stays = np.zeros(table.num_rows, bool)
    stays[kept] = True
    return table.filter(pa.array(stays[best]))


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as Parquet, with the choices that every file of the lake shares."""
    buffer = io.BytesIO()
    pq.write_table(table.combine_chunks(), buffer, compression="zstd", compression_level=1, row_group_size=250_000)
    return buffer.getvalue()
