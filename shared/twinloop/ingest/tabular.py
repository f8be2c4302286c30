"""Parquet to typed rows: columns by name, read from disk a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinloop.errors import BadInputError, TooLargeError
from twinloop.ingest.batches import Batch, Reject, Slow, merged, rows_table
from twinloop.ingest.checks import check
from twinloop.ingest.columns import Table
from twinloop.ingest.limits import Limits
from twinloop.ingest.rows import EXTRA, Fault, check_row, extra_text, json_text
from twinloop.ingest.source import Content

_ROWS = 32_768
_FEW = 32
_PIECE_BYTES = 32_000_000


def read_parquet(content: Content, table: Table, folder: Path, limits: Limits) -> Iterator[Batch]:
    """Yield a Parquet file's rows; raises BadInputError for damage and for a file without the required columns."""
    path = _spool(content, folder, limits)
    try:
        file = pq.ParquetFile(path, read_dictionary=_texts(path))
    except (ValueError, OSError, pa.ArrowException) as error:
        raise BadInputError(f"the file is not readable as Parquet: {error}") from error
    with file:
        names = file.schema_arrow.names
        missing = [column.name for column in table.columns if column.required and column.name not in names]
        if missing:
            raise BadInputError(f"the Parquet has no column {', '.join(missing)}; it has: {', '.join(names)[:300]}")
        size = sum(file.metadata.row_group(g).total_byte_size for g in range(file.metadata.num_row_groups))
        if size > limits.decompressed_bytes:
            raise TooLargeError(f"decompressed, the file is over {limits.decompressed_bytes} bytes; split it")
        rows = max(1, file.metadata.num_rows)
        yield from _batches(file, table, max(1, min(_ROWS, _PIECE_BYTES * rows // max(1, size))))


def _texts(path: Path) -> list[str]:
    """Columns of text: read as references into a dictionary, a text repeated a million times is there once."""
    schema = pq.read_schema(path)
    return [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]


def _batches(file: Any, table: Table, size: int) -> Iterator[Batch]:
    row = 1
    try:
        for piece in file.iter_batches(batch_size=size):
            _refuse_bomb(piece, row)
            rows = pa.Table.from_batches([piece])
            yield from _read(row, rows, table)
            row += rows.num_rows
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"the Parquet file is damaged after row {row - 1}: {error}") from error


def _refuse_bomb(piece: Any, row: int) -> None:
    """Raise TooLargeError where references would grow to far more text than the file's size lets expect."""
    for column in piece.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.binary_length(column.dictionary).cast(pa.int64())
            if (pc.sum(lengths.take(column.indices)).as_py() or 0) > _PIECE_BYTES * 4:
                raise TooLargeError(
                    f"{piece.num_rows} rows from row {row} on grow to more than {_PIECE_BYTES * 4} bytes of text, "
                    "as in a zip bomb; shorten the texts"
                )


def _spool(content: Content, folder: Path, limits: Limits) -> Path:
    path, size = folder / "input.parquet", 0
    with path.open("wb") as out:
        for chunk in content.chunks():
            size += len(chunk)
            if size > limits.spool_bytes:
                raise TooLargeError(f"the Parquet file is over {limits.spool_bytes} bytes; split it into smaller files")
            out.write(chunk)
    if not size:
        raise BadInputError("the file is empty: it holds no rows")
    return path


def _read(first: int, rows: pa.Table, table: Table) -> Iterator[Batch]:
    try:
        if not table.exact:
            raise ValueError("rows go one by one")
        typed, fine = check(_with_texts(rows, table), table)
    except (ValueError, TypeError, pa.ArrowException):
        half = rows.num_rows // 2
        if rows.num_rows <= _FEW or not table.exact:
            slow = _slow(first, rows, table, range(rows.num_rows))
            yield Batch(rows_table(slow.values, table), slow.rejects)
        else:
            yield from _read(first, rows.slice(0, half), table)
            yield from _read(first + half, rows.slice(half), table)
        return
    if fine is None:
        yield Batch(typed)
    else:
        doubted = [place for place, good in enumerate(fine.to_pylist()) if not good]
        yield merged(typed, fine, _slow(first, rows, table, doubted), table)


def _with_texts(rows: pa.Table, table: Table) -> pa.Table:
    """Turn nested columns into JSON text, and gather those that the contract does not name in `extra`."""
    kinds = {column.name: column.kind for column in table.columns if column.name != EXTRA}
    unknown = [name for name in rows.column_names if name not in kinds]
    for place, name in enumerate(rows.column_names):
        if kinds.get(name) == "json":
            values = [None if value is None else _object_text(value) for value in rows.column(name).to_pylist()]
            rows = rows.set_column(place, name, pa.array(values, pa.string()))
    if not unknown:
        return rows
    if EXTRA not in table.model.model_fields:
        raise ValueError("the table takes no unknown columns")
    others = rows.select(unknown).to_pylist()
    extra = [extra_text({name: value for name, value in row.items() if value is not None}) for row in others]
    kept = rows.select([name for name in rows.column_names if name in kinds])
    return kept.append_column(EXTRA, pa.array(extra, pa.string()))


def _object_text(value: object) -> str:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    return json_text(value)


def _slow(first: int, rows: pa.Table, table: Table, places: Any) -> Slow:
    slow, wanted = Slow([], [], []), list(places)
    for place, row in zip(wanted, rows.take(pa.array(wanted, pa.int64())).to_pylist(), strict=True):
        given = {name: value for name, value in row.items() if value is not None}
        values = check_row(table.model, given)
        if isinstance(values, Fault):
            slow.rejects.append(Reject(first + place, values, json_text(given).encode()))
        else:
            slow.places.append(place)
            slow.values.append(values)
    return slow
