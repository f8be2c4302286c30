"""The base of every contract: frozen, and strict about names."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Contract(BaseModel):
    """A value that crosses a border: immutable, unknown fields forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)

    identity_columns: ClassVar[tuple[str, ...] | None] = None
    """Of a row contract: the columns that tell its rows apart, where `identity` would not find them."""


class OnlyWhere(Contract):
    """A row of which some columns may be told only where another one has a certain value.

    The reader of whole columns checks the same (`twinloop.ingest.checks`), so such rows need not go one by one.
    """

    only_where: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Column -> the other column, and the value that it must have."""

    @model_validator(mode="after")
    def told_only_where(self) -> Self:
        """Refuse what is told elsewhere."""
        for name, (other, value) in self.only_where.items():
            if getattr(self, name) is not None and getattr(self, other) != value:
                raise PydanticCustomError(
                    "told_only_where",
                    "{name} is told only where {other} is {value}, not {found}",
                    {"name": name, "other": other, "value": value, "found": str(getattr(self, other))},
                )
        return self


def identity(row: type[Contract]) -> tuple[str, ...]:
    """Return the columns of a raw table by which a row is known again, whichever file it came in.

    These are `identity_columns` where the contract sets them: ("query", "item_id") of judgments, say. Otherwise the
    first column, where it is required and its name ends in `_id`: an event's or an entity's id. Otherwise none: then
    rows are the same that are equal in every column. A row that begins with the id of something that many rows speak of
    (a label of an item) must set `identity_columns`, to () where it has no id.

    Of rows with the same identity the first counts where rows have a required `time`, and the latest otherwise.

    Raises ValueError for a column that the contract does not have.
    """
    if row.identity_columns is not None:
        missing = [name for name in row.identity_columns if name not in row.model_fields]
        if missing:
            raise ValueError(f"{row.__name__} has no column {missing[0]!r} to know its rows by")
        return row.identity_columns
    name, field = next(iter(row.model_fields.items()))
    return (name,) if field.is_required() and name.endswith("_id") else ()
