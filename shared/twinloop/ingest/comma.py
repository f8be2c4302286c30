"""CSV with a header to typed rows: blocks as columns, and record by record only where a block does not fit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as arrow_csv

from twinloop.errors import BadInputError
from twinloop.ingest.batches import Batch, Reject, Slow, doubtful, merged, rows_table
from twinloop.ingest.checks import check
from twinloop.ingest.columns import Table
from twinloop.ingest.jsonl import overlong
from twinloop.ingest.limits import Limits
from twinloop.ingest.lines import Block, Overlong, halves, has_overlong
from twinloop.ingest.parallel import in_order
from twinloop.ingest.rows import EXTRA, Fault, check_row, extra_text, json_text

_LONGEST_RECORD = 200  # lines; an open quote that swallows more is a stray one


class Record(NamedTuple):
    """A record, the line it begins at, and its text; `cells` is None where a quote is never closed."""

    line: int
    text: str
    cells: list[str] | None


class CommaSeparated:
    """A reader of one file's blocks. An empty cell is an absent value."""

    def __init__(self, table: Table, limits: Limits) -> None:
        self._table, self._limits = table, limits
        self._header: list[str] = []
        self._json = {column.name for column in table.columns if column.kind == "json" and column.name != EXTRA}

    def read(self, blocks: Iterable[Block | Overlong]) -> Iterator[Batch]:
        """Yield the rows of every block; raises BadInputError for a header that cannot be one."""
        remaining = iter(blocks)
        for first in remaining:
            if isinstance(first, Overlong):
                raise BadInputError(f"the first line has {first.size} bytes; it must be the header")
            yield from self._read_one(self._take_header(first))
            break
        yield from in_order(self._read_one, remaining)

    def _read_one(self, block: Block | Overlong) -> Iterator[Batch]:
        if isinstance(block, Overlong):
            yield Batch(self._table.schema.empty_table(), [overlong(block, self._limits)])
        elif block.data:
            yield from self._read(block)

    def _take_header(self, block: Block) -> Block:
        data = block.data.lstrip(b"\r\n")
        line = block.line + block.data.count(b"\n", 0, len(block.data) - len(data))
        end = data.find(b"\n") + 1 or len(data)
        try:
            header = [name.strip() for name in next(csv.reader([data[:end].decode()]))]
        except (UnicodeDecodeError, csv.Error, StopIteration) as error:
            raise BadInputError(f"the header cannot be read: {error or 'there is none'}") from error
        missing = [c.name for c in self._table.columns if c.required and c.name not in header]
        if missing:
            found = ", ".join(header)[:300]
            raise BadInputError(f"the header has no column {', '.join(missing)}; it has: {found}")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise BadInputError(f"the header names {', '.join(twice)} twice")
        self._header = header
        return Block(line + 1, data[end:])

    def _read(self, block: Block) -> Iterator[Batch]:
        data = block.data
        quoted = b'"' in data
        odd = data.count(b'"') % 2 or has_overlong(data, self._limits.line_bytes)
        if not self._table.exact or odd:
            yield self._one_by_one(block)
            return
        try:
            typed, fine = check(self._columns(data, quoted=quoted), self._table)
        except (ValueError, pa.ArrowException):
            parts = halves(block, quoted=True)
            if parts is None:
                yield self._one_by_one(block)
            for part in parts or ():
                yield from self._read(part)
            return
        if fine is None:
            yield Batch(typed)
        else:
            yield merged(typed, fine, self._slow(block, set(doubtful(fine).tolist())), self._table)

    def _columns(self, data: bytes, *, quoted: bool) -> pa.Table:
        text = {name: pa.string() for name in self._header}
        raw = arrow_csv.read_csv(
            io.BytesIO(data),
            read_options=arrow_csv.ReadOptions(column_names=self._header, use_threads=False, block_size=2_000_000),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=quoted),
            convert_options=arrow_csv.ConvertOptions(
                column_types=text, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True
            ),
        )
        known = {column.name for column in self._table.columns if column.name != EXTRA}
        unknown = [name for name in self._header if name not in known]
        for name in (name for name in self._header if name in self._json):
            values = [None if cell is None else _object(cell) for cell in raw.column(name).to_pylist()]
            raw = raw.set_column(raw.schema.get_field_index(name), name, pa.array(values, pa.string()))
        if not unknown:
            return raw
        if EXTRA not in self._table.model.model_fields:
            raise ValueError("the table takes no unknown columns")
        rows = raw.select(unknown).to_pylist()
        extra = [extra_text({name: cell for name, cell in row.items() if cell is not None}) for row in rows]
        kept = raw.select([name for name in self._header if name in known])
        return kept.append_column(EXTRA, pa.array(extra, pa.string()))

    def _one_by_one(self, block: Block) -> Batch:
        slow = self._slow(block, None)
        return Batch(rows_table(slow.values, self._table), slow.rejects)

    def _slow(self, block: Block, wanted: set[int] | None) -> Slow:
        slow = Slow([], [], [])
        for place, record in enumerate(_records(block.line, block.data)):
            if wanted is not None and place not in wanted:
                continue
            if len(record.text) > self._limits.line_bytes:
                line = Overlong(record.line, record.text[:1000].encode(errors="surrogateescape"), len(record.text))
                slow.rejects.append(overlong(line, self._limits))
                continue
            values = self._check(record)
            if isinstance(values, Fault):
                slow.rejects.append(Reject(record.line, values, self._kept(record)))
            else:
                slow.places.append(place)
                slow.values.append(values)
        return slow

    def _kept(self, record: Record) -> bytes:
        """Return a rejected record as quarantine keeps it: a JSON object where its cells have names, else its text."""
        text = record.text.encode(errors="surrogateescape")
        if record.cells is None or len(record.cells) != len(self._header):
            return text
        try:
            text.decode()
        except UnicodeDecodeError:
            return text
        row: dict[str, Any] = {name: cell for name, cell in zip(self._header, record.cells, strict=True) if cell}
        for name in self._json & row.keys():  # an object, as the row comes back when it is mended
            with suppress(ValueError, RecursionError):
                row[name] = json.loads(row[name])
        return json_text(row).encode()

    def _check(self, record: Record) -> dict[str, Any] | Fault:
        if record.cells is None:
            return Fault("a quote is opened and never closed", "open quote")
        try:
            record.text.encode()
        except UnicodeEncodeError as error:
            return Fault(f"the line is not UTF-8 (character {error.start})", "not UTF-8")
        if len(record.cells) != len(self._header):
            counts = f"{len(record.cells)} cells where the header has {len(self._header)}"
            return Fault(f"the line has {counts}", "wrong number of cells")
        row: dict[str, Any] = {k: v for k, v in zip(self._header, record.cells, strict=True) if v != ""}
        for name in sorted(self._json & row.keys()):
            try:
                row[name] = json.loads(row[name])
            except (ValueError, RecursionError):
                return Fault(f"{name}: the cell is not JSON", f"{name}: not JSON")
        return check_row(self._table.model, row)


def _object(cell: str) -> str:
    value = json.loads(cell)
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return json_text(value)


def _records(first: int, data: bytes) -> Iterator[Record]:
    """Yield the records of a block. Bytes that are no text come as surrogates."""
    lines = data.decode(errors="surrogateescape").split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        ahead = lines[at : at + (_LONGEST_RECORD if '"' in lines[at] else 1)]
        reader = csv.reader((line + "\n" for line in ahead), strict=True)
        try:
            cells: list[str] | None = next(reader)
            taken = reader.line_num
        except csv.Error:
            cells, taken = None, 1
        yield Record(first + at, "\n".join(lines[at : at + taken]), cells)
        at += taken
