"""One row through its contract: the typed values, or the reason in words. Exact, and slow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from twinloop.contracts.model import Contract

EXTRA = "extra"
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=False)
_ASCII = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)
_SHOWN = 80  # characters of a faulty value that the reason repeats


class Fault(NamedTuple):
    """Why a row was rejected: a sentence about this row, and the kind of fault it counts under."""

    reason: str
    kind: str


def check_row(model: type[Contract], row: Mapping[str, Any]) -> dict[str, Any] | Fault:
    """Return the row's values by column, unknown ones gathered in `extra`, or the fault."""
    known = {name: value for name, value in row.items() if name in model.model_fields and name != EXTRA}
    unknown = {name: value for name, value in row.items() if name not in model.model_fields or name == EXTRA}
    try:
        checked = model.model_validate(known)
    except ValidationError as error:
        return _fault(error)
    values = {name: _plain(getattr(checked, name)) for name in model.model_fields}
    if EXTRA in model.model_fields:
        values[EXTRA] = extra_text(unknown)
    elif unknown:
        names = ", ".join(sorted(unknown))
        return Fault(f"{names}: this table has no such column", "unknown column")
    return values


def parse_line(model: type[Contract], line: bytes) -> dict[str, Any] | Fault:
    """Return the values of one JSON line, or the fault."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return Fault(f"the line is not UTF-8 (byte {error.start})", "not UTF-8")
    try:
        row = json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        return Fault(f"the line is not JSON: {error}", "not JSON")
    if not isinstance(row, dict):
        return Fault("the line is not a JSON object", "not a JSON object")
    if "\\ud" in text.lower() and not _encodable(row):
        return Fault("the line holds half of a surrogate pair (\\ud800 to \\udfff), which is no character", "not JSON")
    try:
        return check_row(model, row)
    except RecursionError:
        return Fault("the line nests objects too deeply", "nested too deeply")


def _encodable(row: Mapping[str, Any]) -> bool:
    """Whether everything in a parsed line can be written down again as UTF-8."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def extra_text(unknown: Mapping[str, Any]) -> str | None:
    """Return unknown columns as JSON text. An `extra` that is such text already is merged, so rows can come back."""
    if not unknown:
        return None
    members = {name: value for name, value in unknown.items() if name != EXTRA}
    given = unknown.get(EXTRA)
    if isinstance(given, str):
        try:
            earlier = json.loads(given)
        except ValueError:
            earlier = None
        given = None if isinstance(earlier, dict) else given
        members = {**earlier, **members} if isinstance(earlier, dict) else members
    if given is not None:
        members[EXTRA] = given
    text = json_text(members)
    return None if text == "{}" else text


def json_text(value: object) -> str:
    """Return JSON of one spelling, so that equal values are equal bytes. Null members are left out of objects."""
    text = _ENCODER.encode(_without_nulls(value))
    return text if text.isascii() or _is_text(text) else _ASCII.encode(_without_nulls(value))


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return value


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can hold it
        return False
    return True


def _plain(value: object) -> object:
    """Return a contract's value as a lake column holds it."""
    if isinstance(value, dict):
        return json_text(value)
    return list(value) if isinstance(value, tuple) else value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _fault(error: ValidationError) -> Fault:
    faults = error.errors(include_url=False)
    sentences = []
    for fault in faults[:5]:
        where = ".".join(str(part) for part in fault["loc"]) or "row"
        shown = "" if fault["type"] == "missing" else f" (got {_shorten(fault['input'])})"
        message = fault["msg"].replace(" item", " character") if isinstance(fault["input"], str) else fault["msg"]
        sentences.append(f"{where}: {message}{shown}")
    first = faults[0]
    column = str(first["loc"][0]) if first["loc"] else "row"
    return Fault("; ".join(sentences), f"{column}: {first['type'].replace('_', ' ')}")


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
