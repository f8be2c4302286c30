"""What becomes of an item that was shown: which events show one, and what later ones say came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from twinloop.contracts.model import Contract


@dataclass(frozen=True)
class Outcomes:
    """How a system's events become labelled impressions. Expressions are DuckDB's, over a row of the lake's events.

    An event that says something belongs to the latest impression of the same user and item at or before it and within
    the window; where both carry a `request_id`, these must be equal. What belongs to no impression is no label.

    Attributes:
        shown_sql: Whether an event shows the item to the user; never NULL.
        labels: Label -> the amount that an event says of it, NULL where it says nothing. Of several events of one
            impression the greatest amount counts; an impression that nothing is said of has 0.
        window_minutes: How long an impression is waited for.
        item_facts: Further columns of an impression -> attribute of items (`Counting.attributes`), a number; 0 where it
            is not known.
        context: Facts of the moment, by their names in an event's `context`, that say something of what will come.
        most: Impressions of a snapshot; where there are more, a sample by hash.
    """

    shown_sql: str
    labels: Mapping[str, str]
    window_minutes: float
    item_facts: Mapping[str, str] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    most: int = 2_000_000

    @property
    def window_ms(self) -> int:
        """The window in whole milliseconds."""
        return round(self.window_minutes * 60_000)

    def told(self) -> OutcomesTold:
        """Return what a snapshot's manifest says of them."""
        return OutcomesTold(
            labels=tuple(self.labels),
            window_minutes=self.window_minutes,
            item_facts=tuple(self.item_facts),
            context=self.context,
        )


class OutcomesTold(Contract):
    """What `impressions.parquet` of a snapshot holds, beside who was shown what, when and where, and features."""

    labels: tuple[str, ...] = Field(description="Columns `label_<name>`, float32.")
    window_minutes: float = Field(gt=0, description="How long an impression was waited for.")
    item_facts: tuple[str, ...] = Field((), description="Columns of facts of the item, float32, 0 where unknown.")
    context: tuple[str, ...] = Field((), description="Columns `context_<name>`, JSON text, null where nothing is said.")
