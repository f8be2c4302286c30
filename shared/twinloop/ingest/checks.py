"""Whole columns against a contract: typed columns, and which rows need a closer look.

What is let through here would pass the contract row by row, with the same values. The reverse does not hold: a row
that is doubted here goes through the contract itself, which has the last word and the words.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from twinloop.contracts.events import AHEAD, EARLIEST
from twinloop.ingest.columns import TIME, Column, Table

_MICROSECONDS = pa.timestamp("us")
_DIGITS = r"^\d{1,18}$"
_WHOLE = r"^-?\d{1,18}$"


class Doubt:
    """The rows that need a closer look, gathered check by check."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._mask: Any = None

    def add(self, fine: Any) -> None:
        """Doubt the rows for which `fine` is false; null means that there is nothing to doubt."""
        fine = pc.fill_null(fine, True)
        fine = fine.combine_chunks() if isinstance(fine, pa.ChunkedArray) else fine
        self._mask = fine if self._mask is None else pc.and_(self._mask, fine)

    def everything(self) -> None:
        """Doubt every row."""
        self._mask = pa.repeat(pa.scalar(False), self.rows)

    @property
    def fine(self) -> Any | None:
        """A boolean array of the rows that are fine, or None for all of them."""
        return None if self._mask is None or pc.all(self._mask, min_count=0).as_py() else self._mask


def check(raw: pa.Table, table: Table) -> tuple[pa.Table, Any | None]:
    """Return a raw table's columns in the lake's types and the mask of rows beyond doubt (None: all).

    Raises pyarrow.ArrowInvalid where a column as a whole cannot be converted.
    """
    doubt, columns = Doubt(raw.num_rows), []
    for column in table.columns:
        index = raw.schema.get_field_index(column.name)
        if index < 0:
            if column.required:
                doubt.everything()
            columns.append(_default(column, raw.num_rows))
            continue
        typed = _convert(raw.column(index), column, doubt)
        if column.required and typed.null_count:
            doubt.add(typed.is_valid())
        _BOUNDS.get(column.kind, _unbounded)(typed, column, doubt)
        if column.kind == "list" and typed.null_count:
            typed = pc.coalesce(typed, pa.scalar([], column.type))
        columns.append(typed)
    made = pa.table(columns, schema=table.schema)
    for name, (other, value) in table.only_where.items():
        doubt.add(pc.or_kleene(pc.is_null(made.column(name)), pc.equal(made.column(other), value)))
    return made, doubt.fine


def _default(column: Column, rows: int) -> Any:
    if column.kind == "list":
        return pa.repeat(pa.scalar([], column.type), rows)
    return pa.nulls(rows, column.type)


def _convert(values: Any, column: Column, doubt: Doubt) -> Any:
    if values.type == column.type or pa.types.is_null(values.type):
        return values.cast(column.type)
    if pa.types.is_dictionary(values.type):
        return _convert(values.cast(values.type.value_type), column, doubt)
    if column.kind == "time":
        return _times(values)
    if pa.types.is_large_string(values.type):
        values = values.cast(pa.string())
    text = pa.types.is_string(values.type)
    if column.kind == "text" and (text or (pa.types.is_integer(values.type) and column.numbers_too)):
        return values.cast(pa.string())
    if column.kind == "list" and text:
        return _lists(values)
    number = _is_number(values.type) or (text and (column.kind == "float" or _all_match(values, _WHOLE)))
    if column.kind == "list" or (column.kind in {"float", "int"} and number):
        return values.cast(column.type)
    raise pa.ArrowInvalid(f"{column.name} as {values.type} goes row by row")


def _lists(values: Any) -> Any:
    """Return the lists of cells such as `a|b`."""
    lists = pc.split_pattern(values, "|")
    if pc.any(pc.equal(pc.binary_length(pc.list_flatten(lists)), 0), min_count=0).as_py():
        raise pa.ArrowInvalid("empty parts are left out row by row")
    return lists


def _all_match(values: Any, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern), min_count=0).as_py())


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _times(values: Any) -> Any:
    """Return times in UTC to the millisecond, from epoch milliseconds, ISO 8601 text, or timestamps."""
    kind = values.type
    if pa.types.is_integer(kind):
        return values.cast(pa.int64()).cast(TIME)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _times_of_text(values)
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            values = values.cast(pa.timestamp(kind.unit, tz="UTC"))
        return values.cast(TIME, safe=False)
    raise pa.ArrowInvalid("is neither a number, nor text, nor a timestamp")


def _times_of_text(values: Any) -> Any:
    first = next((value.as_py() for chunk in values.chunks for value in chunk[:1] if value.is_valid), "")
    if first.isdigit():
        if not _all_match(values, _DIGITS):
            raise pa.ArrowInvalid("times are mixed")
        return values.cast(pa.int64()).cast(TIME)
    zoned = first.endswith("Z") or "+" in first or first.count("-") > 2
    target = pa.timestamp("us", tz="UTC") if zoned else _MICROSECONDS
    parsed = values.cast(target)
    return (parsed if zoned else parsed.cast(pa.timestamp("us", tz="UTC"))).cast(TIME, safe=False)


def _text_bounds(values: Any, column: Column, doubt: Doubt) -> None:
    if column.choices is not None:
        doubt.add(pc.is_in(values, value_set=pa.array([*column.choices, None], pa.string())))
    elif (column.shortest or column.longest is not None) and not _short_in_bytes(values, column):
        _lengths(pc.utf8_length(values), column, doubt)


def _short_in_bytes(values: Any, column: Column) -> bool:
    """Whether lengths in bytes, which need no look at the text, already say that all lengths in characters fit."""
    extremes = pc.min_max(pc.binary_length(values)).as_py()
    if extremes["min"] is None:
        return True
    long = column.longest is not None and extremes["max"] > column.longest
    return not long and column.shortest <= min(extremes["min"], 1)


def _lengths(lengths: Any, column: Column, doubt: Doubt) -> None:
    extremes = pc.min_max(lengths).as_py()
    if extremes["min"] is None:
        return
    if extremes["min"] < column.shortest or (column.longest is not None and extremes["max"] > column.longest):
        fine = pc.greater_equal(lengths, column.shortest)
        doubt.add(fine if column.longest is None else pc.and_(fine, pc.less_equal(lengths, column.longest)))


def _number_bounds(values: Any, column: Column, doubt: Doubt) -> None:
    if column.kind == "float":
        finite = pc.is_finite(values)
        if not pc.all(finite, min_count=0).as_py():
            doubt.add(finite)
    _between(values, column.least, column.greatest, doubt)


def _time_bounds(values: Any, column: Column, doubt: Doubt) -> None:
    if column.plausible:
        latest = datetime.now(UTC) + AHEAD
        _between(values, pa.scalar(EARLIEST, TIME), pa.scalar(latest.replace(microsecond=0), TIME), doubt)
    else:
        _between(values, pa.scalar(_FIRST, TIME), pa.scalar(_LAST, TIME), doubt)


_FIRST = datetime(1, 1, 2, tzinfo=UTC)  # a calendar's range: outside it the contract has no datetime
_LAST = datetime(9999, 12, 30, tzinfo=UTC)


def _between(values: Any, least: Any, greatest: Any, doubt: Doubt) -> None:
    if least is not None:
        doubt.add(pc.greater_equal(values, least))
    if greatest is not None:
        doubt.add(pc.less_equal(values, greatest))


def _list_bounds(values: Any, column: Column, doubt: Doubt) -> None:
    if column.most_items is not None:
        doubt.add(pc.less_equal(pc.list_value_length(values), column.most_items))
    flat = pc.list_flatten(values)
    if not len(flat):
        return
    longest = pc.max(pc.utf8_length(flat)).as_py()
    if flat.null_count or (column.longest is not None and longest is not None and longest > column.longest):
        doubt.everything()


def _unbounded(values: Any, column: Column, doubt: Doubt) -> None:
    del values, column, doubt


_BOUNDS: dict[str, Callable[[Any, Column, Doubt], None]] = {
    "text": _text_bounds,
    "float": _number_bounds,
    "int": _number_bounds,
    "time": _time_bounds,
    "list": _list_bounds,
}
