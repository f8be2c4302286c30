"""Columns of objects to columns of JSON text, all rows at once.

The text means what the rows said; its spelling is one of several (1.0 for 1 where a column has both). Members that are
null are left out, as everywhere in the lake: Arrow cannot tell them from absent ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_EXACT = 2.0**53  # whole numbers beyond it may have lost digits as floats
_ESCAPED = r'["\\\x00-\x1f]'


def object_texts(members: Mapping[str, Any], *, plain: bool) -> Any:
    """Return the text of one object a row, from its members by name; `{}` where all of them are null.

    `plain`: no text in the block needs escapes. Raises ValueError for types that go row by row.
    """
    written = [
        pc.binary_join_element_wise(json.dumps(name, ensure_ascii=False) + ":", _texts(values, plain=plain), "")
        for name, values in sorted(members.items())
        if not pa.types.is_null(values.type)
    ]
    if not written:
        return None
    joined = pc.binary_join_element_wise(*written, ",", null_handling="skip") if len(written) > 1 else written[0]
    return pc.binary_join_element_wise("{", pc.fill_null(joined, ""), "}", "")


def _texts(values: Any, *, plain: bool) -> Any:
    kind = values.type
    if pa.types.is_struct(kind):
        return struct_texts(values, plain=plain)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values.cast(pa.string())
    if pa.types.is_floating(kind):
        fine = pc.and_(pc.is_finite(values), pc.less(pc.abs(values), _EXACT))
        if not pc.all(fine, min_count=0).as_py():
            raise ValueError("a number needs a closer look")
        return values.cast(pa.string())
    if pa.types.is_string(kind) and (plain or not _any(pc.match_substring_regex(values, _ESCAPED))):
        return pc.binary_join_element_wise('"', values, '"', "")
    raise ValueError(f"{kind} goes row by row")


def struct_texts(values: Any, *, plain: bool) -> Any:
    """Return the text of a column of objects, null where there is none. Raises ValueError as above."""
    names = [field.name for field in values.type]
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    members = {name: pc.struct_field(values, [place]) for place, name in enumerate(names)}
    texts = object_texts(members, plain=plain)
    empty = pa.scalar("{}")
    found = empty if texts is None else texts
    return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.string()))


def _any(values: Any) -> bool:
    return bool(pc.any(values, min_count=0).as_py())


def without_moments(kind: pa.DataType) -> pa.DataType:
    """Return a type as Arrow inferred it, with text where it saw moments: their spelling is not ours to change."""
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, without_moments(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(without_moments(kind.value_type))
    return kind
