"""JSON lines to typed rows: blocks as columns, and line by line only where a block does not fit."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json
from numpy.typing import NDArray
from pydantic_core import from_json

from twinloop.ingest.batches import Batch, Reject, Slow, doubtful, merged, rows_table
from twinloop.ingest.checks import check
from twinloop.ingest.columns import Column, Table
from twinloop.ingest.limits import Limits
from twinloop.ingest.lines import Block, Overlong, count_ends, ends_of, halves, has_deep, has_overlong
from twinloop.ingest.parallel import in_order
from twinloop.ingest.rows import EXTRA, Fault, extra_text, json_text, parse_line
from twinloop.ingest.texts import object_texts, struct_texts, without_moments

_SNIFFED = 20
_DEEPEST = 500
_PARSE = arrow_json.ReadOptions(use_threads=False, block_size=2_000_000)


class _Line(NamedTuple):
    """A line that is a row: its place among the block's rows and among its lines, and its text."""

    place: int
    offset: int
    text: bytes


class JsonLines:
    """A reader of one file's blocks. It remembers how the file spells ids and times (numbers or text)."""

    def __init__(self, table: Table, limits: Limits) -> None:
        self._table, self._limits = table, limits
        self._spelling: pa.Schema | None = None
        self._unknown = pa.schema([])  # types of unknown columns where Arrow's own idea of them would not do
        self._mixed = False  # unknown columns whose type changes from row to row

    def read(self, blocks: Iterable[Block | Overlong]) -> Iterator[Batch]:
        """Yield the rows of every block, in order.

        What the first block taught, and no other, is known to the rest: which is ready first makes no difference.
        """
        remaining = iter(blocks)
        for first in remaining:
            yield from self._read_one(first)
            if isinstance(first, Block):
                break
        yield from in_order(lambda block: copy(self)._read_one(block), remaining)

    def _read_one(self, block: Block | Overlong) -> Iterator[Batch]:
        if isinstance(block, Overlong):
            yield Batch(self._table.schema.empty_table(), [overlong(block, self._limits)])
        else:
            yield from self._read(block, first_try=True)

    def _read(self, block: Block, *, first_try: bool = False) -> Iterator[Batch]:
        if not self._table.exact:
            yield self._one_by_one(block)
            return
        try:
            typed, fine = self._columns(block.data, first_try=first_try)
        except (ValueError, pa.ArrowException):
            parts = halves(block)
            if parts is None:
                yield self._one_by_one(block)
            for part in parts or ():
                yield from self._read(part)
            return
        if fine is None:
            yield Batch(typed)
        else:
            doubted = _lines_of(block.data, doubtful(fine), typed.num_rows)
            yield merged(typed, fine, self._slow(block.line, doubted), self._table)

    def _columns(self, data: bytes, *, first_try: bool) -> tuple[pa.Table, Any]:
        """Return typed columns and the mask of rows beyond doubt; raises ValueError where the block does not fit."""
        if has_overlong(data, self._limits.line_bytes):
            raise ValueError("a line is too long")
        if has_deep(data, _DEEPEST):
            raise ValueError("a line may nest too deeply")
        if not data.isascii():
            data.decode()  # Arrow takes any bytes for text
        if self._spelling is None:
            self._spelling = self._sniff(data)
        try:
            return self._typed(data, self._spelling)
        except (ValueError, pa.ArrowException):
            spelling = self._sniff(data)
            if not first_try or spelling == self._spelling:
                raise
            self._spelling = spelling
        return self._typed(data, self._spelling)

    def _typed(self, data: bytes, spelling: pa.Schema) -> tuple[pa.Table, Any]:
        raw = None
        if not self._mixed:
            with suppress(pa.ArrowInvalid):  # perhaps only an unknown column changes its type; the next parse tells
                raw = self._loose(data, spelling)
        mixed = raw is None
        raw = _parse(data, spelling, "ignore") if raw is None else raw
        # Blank lines are no rows, and counting line ends is much cheaper than looking for them.
        if raw.num_rows != count_ends(data) + (data[-1:] != b"\n") and raw.num_rows != len(_lines(data)):
            raise ValueError("a row is not a line")
        self._mixed = mixed
        loose = [name for name in raw.column_names if name not in spelling.names]
        known = raw.select([name for name in raw.column_names if name in spelling.names])
        if mixed or loose:
            try:
                if mixed or EXTRA in loose:
                    raise ValueError("goes row by row")
                raw = self._with_texts(known, raw.select(loose), plain=b"\\" not in data)
            except ValueError:
                raw = self._with_texts_of_rows(known, _lines(data))
        return check(raw, self._table)

    def _loose(self, data: bytes, spelling: pa.Schema) -> pa.Table:
        """Parse with whatever columns there are; text that looks like a moment stays text."""
        schema = pa.unify_schemas([spelling, self._unknown])
        raw = _parse(data, schema, "infer")
        fields = [field for field in raw.schema if field.name not in spelling.names]
        texts = [field for field in fields if without_moments(field.type) != field.type]
        if texts:
            kept = [field for field in self._unknown if field.name not in {text.name for text in texts}]
            self._unknown = pa.schema([*kept, *(field.with_type(without_moments(field.type)) for field in texts)])
            raw = _parse(data, pa.unify_schemas([spelling, self._unknown]), "infer")
        return raw

    def _with_texts(self, known: pa.Table, loose: pa.Table, *, plain: bool) -> pa.Table:
        """Add the columns that hold JSON text, all rows at once; raises ValueError where that is not possible."""
        members = {name: loose.column(name).combine_chunks() for name in loose.column_names}
        for column in self._table.columns:
            if column.kind == "json" and column.name in members:
                values = members.pop(column.name)
                if pa.types.is_struct(values.type):
                    known = known.append_column(column.name, struct_texts(values, plain=plain))
                elif not pa.types.is_null(values.type):
                    raise ValueError(f"{column.name} is no object")
        texts = object_texts(members, plain=plain)
        if texts is None:
            return known
        if EXTRA not in self._table.model.model_fields:
            raise ValueError("the table takes no unknown columns")
        filled = pc.if_else(pc.equal(texts, "{}"), pa.scalar(None, pa.string()), texts)
        return known.append_column(EXTRA, filled)

    def _with_texts_of_rows(self, raw: pa.Table, lines: list[bytes]) -> pa.Table:
        """Add the columns that hold JSON text, row by row."""
        texts = [column.name for column in self._table.columns if column.kind == "json"]
        rows = from_json(b"[" + b",".join(lines) + b"]", allow_inf_nan=False)
        known = self._table.model.model_fields.keys() - {EXTRA}
        for name in texts:
            if name == EXTRA:
                values = [extra_text({k: row[k] for k in row.keys() - known}) for row in rows]
            else:
                found = [row.get(name) for row in rows]
                if not all(value is None or isinstance(value, dict) for value in found):
                    raise ValueError(f"{name} is not an object everywhere")
                values = [None if value is None else json_text(value) for value in found]
            raw = raw.append_column(name, pa.array(values, pa.string()))
        if EXTRA not in texts and any(row.keys() - known for row in rows):
            raise ValueError("the table takes no unknown columns")
        return raw

    def _sniff(self, data: bytes) -> pa.Schema:
        """Return how the first lines spell each column; a file seldom changes its mind."""
        rows = []
        for line in _lines(data[:200_000])[:_SNIFFED]:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                rows.append(row)
        columns = (column for column in self._table.columns if column.kind != "json")
        return pa.schema(
            [(column.name, _spelled(column, [row.get(column.name) for row in rows])) for column in columns]
        )

    def _one_by_one(self, block: Block) -> Batch:
        slow = self._slow(block.line, _lines_of(block.data))
        return Batch(rows_table(slow.values, self._table), slow.rejects)

    def _slow(self, first: int, lines: Iterable[_Line]) -> Slow:
        slow = Slow([], [], [])
        for place, offset, line in lines:
            if len(line) > self._limits.line_bytes:
                slow.rejects.append(overlong(Overlong(first + offset, line[:1000], len(line)), self._limits))
                continue
            values = parse_line(self._table.model, line)
            if isinstance(values, Fault):
                slow.rejects.append(Reject(first + offset, values, line))
            else:
                slow.places.append(place)
                slow.values.append(values)
        return slow


def overlong(line: Overlong, limits: Limits) -> Reject:
    """Return the rejection of a line that is too long to be a row."""
    reason = f"the line has {line.size} bytes, over the limit of {limits.line_bytes}; its beginning is kept"
    return Reject(line.line, Fault(reason, "line too long"), line.head)


def _parse(data: bytes, spelling: pa.Schema, unknown: str) -> pa.Table:
    options = arrow_json.ParseOptions(explicit_schema=spelling, unexpected_field_behavior=unknown)
    return arrow_json.read_json(io.BytesIO(data), read_options=_PARSE, parse_options=options)


def _lines_of(data: bytes, wanted: NDArray[np.int64] | None = None, rows: int = 0) -> Iterator[_Line]:
    """Yield the lines of a block that are rows; of its `rows` rows only the `wanted` ones, where these are given."""
    if wanted is not None and len(ends := ends_of(data)) == rows:  # no blank lines: a row's place is its line's
        for place in wanted.tolist():
            yield _Line(place, place, data[ends[place - 1] + 1 if place else 0 : ends[place]])
        return
    chosen = None if wanted is None else set(wanted.tolist())
    lines = ((offset, line) for offset, line in enumerate(data.split(b"\n")) if line.strip())
    for place, (offset, line) in enumerate(lines):
        if chosen is None or place in chosen:
            yield _Line(place, offset, line)


def _lines(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if line and not line.isspace()]


def _spelled(column: Column, values: list[Any]) -> pa.DataType:
    seen = [value for value in values if value is not None]
    whole = bool(seen) and all(isinstance(value, int) and not isinstance(value, bool) for value in seen)
    if column.kind in {"text", "time"}:
        return pa.int64() if whole and (column.numbers_too or column.kind == "time") else pa.string()
    texts = bool(seen) and all(isinstance(value, str) for value in seen)
    return pa.string() if texts else column.type
