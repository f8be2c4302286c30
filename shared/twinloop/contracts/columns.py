"""What kind of values each column of a row contract holds, wherever its rows are: raw files, the lake, a query."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from twinloop.contracts.model import Contract

Kind = Literal["text", "float", "int", "bool", "time", "list", "json"]
_EXTRA = "extra"
UPDATED = "updated_at"
"""An entity's own word on how new its row is: of several the latest by it counts, and any that has one before none."""


def kinds(row: type[Contract]) -> dict[str, Kind]:
    """Return the kind of each column of a row contract. A `list` is one of texts; `json` is an object as JSON text."""
    properties = row.model_json_schema(mode="validation")["properties"]
    return {name: kind_of(name, field, rule(properties[name])) for name, field in row.model_fields.items()}


def dated(row: type[Contract]) -> bool:
    """Return whether rows happened at a `time` of their own; entities have none and go by the time of upload."""
    field = row.model_fields.get("time")
    return field is not None and field.is_required() and kinds(row)["time"] == "time"


def rule(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a column's JSON schema without the null that it may be."""
    wanted = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    return {**{key: value for key, value in schema.items() if key != "anyOf"}, **(wanted[0] if wanted else {})}


def kind_of(name: str, field: FieldInfo, schema: Mapping[str, Any]) -> Kind:
    """Return the kind of one column, from its field and its `rule`."""
    if name == _EXTRA:
        return "json"
    if any(part is datetime for part in parts(field.annotation)):
        return "time"
    known: dict[str, Kind] = {
        "string": "text",
        "number": "float",
        "integer": "int",
        "boolean": "bool",
        "array": "list",
    }
    kind = known.get(str(schema.get("type")), "json")
    return "json" if kind == "list" and schema.get("items", {}).get("type") != "string" else kind


def parts(annotation: Any) -> Iterator[Any]:
    """Yield every class and piece of metadata within an annotation."""
    metadata = getattr(annotation, "__metadata__", None)
    if metadata is not None:
        yield from metadata
        yield from parts(annotation.__origin__)
    elif get_origin(annotation) in (Union, types.UnionType, tuple, list):
        for part in get_args(annotation):
            yield from parts(part)
    else:
        yield annotation
