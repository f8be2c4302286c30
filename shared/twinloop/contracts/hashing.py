"""Which ids a model is asked with: crosses of facts, hashed into one range of buckets by `features/hashing.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ConfigDict, Field, field_validator

from twinloop.contracts.model import Contract

MOST_BUCKETS = 2**24
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
_PART = re.compile(r"user_id|item_id|(context|items|users)\.[a-z][a-z0-9_]{0,60}")


@dataclass(frozen=True)
class HashedField:
    """One id of a row: a fact, or several together.

    Attributes:
        name: Says the field; two fields of the same parts are different ids.
        parts: `user_id`, `item_id`, `context.<name>` (a fact of the moment, as `segment_value` has it), or
            `items.<attribute>` and `users.<attribute>` (a text attribute, as `Counting.attributes` has it).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    parts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a hashed field is called by lower-case letters, digits and _, not {self.name!r}")
        wrong = [part for part in self.parts if not _PART.fullmatch(part)]
        if wrong or not self.parts:
            raise ValueError(
                f"hashed field {self.name!r}: parts are user_id, item_id, context.<name>, items.<attribute> and "
                f"users.<attribute>, not {', '.join(map(repr, wrong)) or 'nothing'}"
            )


class Hashed(Contract):
    """The ids of a row, in their order, and how many different ones there can be."""

    fields: tuple[HashedField, ...] = Field(min_length=1)
    buckets: int = Field(ge=2, le=MOST_BUCKETS, description="A power of two; all fields share them.")

    @field_validator("buckets")
    @classmethod
    def _power(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"buckets are a power of two, not {value}")
        return value

    @field_validator("fields")
    @classmethod
    def _different(cls, value: tuple[HashedField, ...]) -> tuple[HashedField, ...]:
        if len({field.name for field in value}) != len(value):
            raise ValueError("two hashed fields have one name")
        return value

    @property
    def parts(self) -> tuple[str, ...]:
        """Every part that a field needs, once, in the order of the fields."""
        return tuple(dict.fromkeys(part for field in self.fields for part in field.parts))
