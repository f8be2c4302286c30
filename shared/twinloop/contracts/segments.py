"""Segments of requests: what training counts popularity by and what serving looks up, under the same name."""

from __future__ import annotations

LONGEST_VALUE = 100


def segment_value(value: object) -> str | None:
    """Return a fact as a segment's name (`de`, `true`, `7`); None for what is none: nothing, fractions, long text."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else None
        case str():
            name = value.strip().casefold()
            return name if 0 < len(name) <= LONGEST_VALUE else None
        case _:
            return None
