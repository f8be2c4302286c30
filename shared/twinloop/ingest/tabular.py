"""Parquet to typed rows: columns by name, read from disk a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinloop.errors import BadInputError, TooLargeError
from twinloop.ingest.batches import Batch, Reject, Slow, doubtful, merged, rows_table
from twinloop.ingest.checks import check
from twinloop.ingest.columns import Table
from twinloop.ingest.limits import Limits
from twinloop.ingest.rows import EXTRA, Fault, check_row, extra_text, json_text
from twinloop.ingest.source import Content

_ROWS = 32_768
_FEW = 32
_PIECE_BYTES = 32_000_000
_VALUE_BYTES = 8
_VALUES_A_ROW = 1000  # on average, in one column
_LISTS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_fixed_size_list, pa.list_),
)


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
        yield from _batches(file, table, _rows_at_once(file, limits))


def _texts(path: Path) -> list[str]:
    """Columns of text: read as references into a dictionary, a text repeated a million times is there once."""
    schema = pq.ParquetFile(path).schema
    leaves = (schema.column(place) for place in range(len(schema.names)))
    return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]


def _rows_at_once(file: Any, limits: Limits) -> int:
    """Return how many rows to read at once; raises TooLargeError for what cannot be read in bounded memory."""
    metadata, schema = file.metadata, file.schema
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    rows = max(1, metadata.num_rows)
    size = sum(group.total_byte_size for group in groups)
    if size > limits.decompressed_bytes:
        raise TooLargeError(f"decompressed, the file is over {limits.decompressed_bytes} bytes; split it")
    for place in range(len(schema.names)):
        leaf = schema.column(place)
        values = sum(group.column(place).num_values for group in groups)
        if values > _VALUES_A_ROW * rows + _PIECE_BYTES:
            raise TooLargeError(
                f"column {leaf.path} has {values} values in {rows} rows, over {_VALUES_A_ROW} a row; shorten its lists"
            )
        # Equal values are written once, whatever room they take when read.
        size += values * (leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else _VALUE_BYTES)
    return max(1, min(_ROWS, int(_PIECE_BYTES * rows // max(1, size))))


def _batches(file: Any, table: Table, size: int) -> Iterator[Batch]:
    row = 1
    try:
        for piece in _pieces(file, size):
            if sum(map(_text_bytes, piece.columns)) > _PIECE_BYTES * 4:
                raise TooLargeError(
                    f"{piece.num_rows} rows from row {row} on grow to more than {_PIECE_BYTES * 4} bytes of text, "
                    "as in a zip bomb; shorten the texts"
                )
            rows = pa.Table.from_arrays([_plain(column) for column in piece.columns], names=piece.schema.names)
            yield from _read(row, rows, table)
            row += rows.num_rows
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"the Parquet file is damaged after row {row - 1}: {error}") from error


def _pieces(file: Any, size: int) -> Iterator[Any]:
    """Yield rows, never of two row groups: Arrow cannot join the references inside of objects of both."""
    for group in range(file.metadata.num_row_groups):
        yield from file.iter_batches(batch_size=size, row_groups=[group])


def _text_bytes(values: Any) -> Any:
    """Return what an array's references to texts would grow to, also those inside of lists and objects."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(values.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(values.indices)).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(_text_bytes(member) for member in values.flatten())
    if pa.types.is_map(kind):
        return _text_bytes(values.keys) + _text_bytes(values.items)
    return _text_bytes(values.flatten()) if any(is_kind(kind) for is_kind, _ in _LISTS) else 0


def _plain(values: Any) -> Any:
    """Return an array with its nested references to texts resolved; those at the top are left to the checks."""
    if pa.types.is_dictionary(values.type):
        return values
    wanted = _without_references(values.type)
    return values if wanted == values.type else values.cast(wanted)


def _without_references(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_references(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_without_references(kind.key_type), _without_references(kind.item_type))
    for is_kind, make in _LISTS:
        if is_kind(kind):
            return make(_without_references(kind.value_type))
    return kind


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
        yield merged(typed, fine, _slow(first, rows, table, doubtful(fine).tolist()), table)


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
