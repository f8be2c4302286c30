"""Segments of requests: what training counts popularity by and what serving looks up, under the same name."""

from __future__ import annotations

LONGEST_VALUE = 100
_GREATEST = 10**15  # numbers of more digits name nothing; as floats they are not exact either


def segment_value(value: object) -> str | None:
    """Return a fact as a segment's name (`de`, `true`, `7`); None for nothing, fractions, and what is too long."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < _GREATEST else None
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < _GREATEST else None
        case str():
            name = value.strip().casefold()
            return name if 0 < len(name) <= LONGEST_VALUE else None
        case _:
            return None
