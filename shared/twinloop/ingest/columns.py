"""What a contract asks of each column, in terms that whole columns can be checked against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator
from pydantic.fields import FieldInfo

from twinloop.contracts import events
from twinloop.contracts.columns import UPDATED, kind_of, parts, rule
from twinloop.contracts.model import Contract, OnlyWhere, identity
from twinloop.ingest.rows import EXTRA

# Validators of the contracts that the checks of whole columns repeat; with any other, rows are checked one by one.
_REPEATED = {events.as_time, events.as_utc, events.plausible, events.as_text, events.as_list}
_KEYWORDS = {
    *("type", "format", "enum", "const", "minLength", "maxLength", "minimum", "maximum", "maxItems", "items"),
    *("title", "description", "default", "additionalProperties"),
}
TIME = pa.timestamp("ms", tz="UTC")
_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "time": TIME,
    "list": pa.list_(pa.string()),
    "json": pa.string(),
}


@dataclass(frozen=True)
class Column:
    """One column: its kind, and what its values must keep to. Lengths are in characters."""

    name: str
    kind: str
    required: bool
    numbers_too: bool = False  # text that may be written as a whole number
    plausible: bool = False  # a time between 1990 and tomorrow
    choices: tuple[str, ...] | None = None
    shortest: int = 0
    longest: int | None = None
    least: float | None = None
    greatest: float | None = None
    most_items: int | None = None
    exact: bool = True  # whether the checks of whole columns say all that the contract says

    @property
    def type(self) -> pa.DataType:
        """The column's type in the lake."""
        return _TYPES[self.kind]


@dataclass(frozen=True)
class Table:
    """A raw table: its contract and its columns."""

    name: str
    model: type[Contract]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The table's columns in the lake."""
        return pa.schema([(column.name, column.type) for column in self.columns])

    @property
    def exact(self) -> bool:
        """Whether whole columns can be checked instead of rows."""
        decorators = self.model.__pydantic_decorators__
        own = {**decorators.field_validators, **decorators.root_validators, **decorators.model_validators}
        if issubclass(self.model, OnlyWhere):
            own.pop(OnlyWhere.told_only_where.__name__, None)
        return not own and all(column.exact for column in self.columns)

    @property
    def only_where(self) -> Mapping[str, tuple[str, str]]:
        """Columns that may be told only where another one has a value; see `OnlyWhere`."""
        return self.model.only_where if issubclass(self.model, OnlyWhere) else {}

    @property
    def dated(self) -> bool:
        """Whether rows are partitioned by their own time; entities have none and go by the time of upload."""
        return any(column.name == "time" and column.kind == "time" and column.required for column in self.columns)

    @property
    def newest_by(self) -> str | None:
        """The column that says which of an entity's rows is the newest, where it says so."""
        return UPDATED if not self.dated and any(column.name == UPDATED for column in self.columns) else None

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns by which readers see a row once: an event's or an entity's id; none where all columns are."""
        return identity(self.model)


def table_of(name: str, model: type[Contract]) -> Table:
    """Return a contract's table."""
    properties = model.model_json_schema(mode="validation")["properties"]
    columns = tuple(_column(field, info, properties[field]) for field, info in model.model_fields.items())
    return Table(name, model, columns)


def _column(name: str, info: FieldInfo, schema: dict[str, Any]) -> Column:
    if name == EXTRA:
        return Column(name, "json", required=False)
    wanted = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    told = rule(schema)
    validators = set(_validators(info))
    items = told.get("items", {})
    choices = told.get("enum", [told["const"]] if "const" in told else None)
    return Column(
        name,
        kind=kind_of(name, info, told),
        required=info.is_required(),
        numbers_too=events.as_text in validators,
        plausible=events.plausible in validators,
        choices=tuple(choices) if choices else None,
        shortest=told.get("minLength", 0),
        longest=items.get("maxLength") if items else told.get("maxLength"),
        least=told.get("minimum"),
        greatest=told.get("maximum"),
        most_items=told.get("maxItems"),
        exact=validators <= _REPEATED
        and len(wanted) == 1
        and set(told) <= _KEYWORDS
        and set(items) <= {"type", "maxLength"},
    )


def _validators(info: FieldInfo) -> Iterator[Any]:
    for part in (*info.metadata, *parts(info.annotation)):
        if isinstance(part, BeforeValidator | AfterValidator):
            yield part.func
