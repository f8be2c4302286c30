"""What becomes of an item that was shown: which events show one, and what later ones say came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from twinloop.contracts.hashing import Hashed
from twinloop.contracts.model import Contract

MOST_JUDGED = 5_000


def text_column(name: str) -> str:
    """Return the column of a text attribute in `impressions.parquet`: `text_items_brand` of `items.brand`."""
    return "text_" + name.replace(".", "_")


def _unused(value: object) -> bool:
    """Whether a field says nothing. Left out then, so that snapshots from before it stay what they are."""
    return value in ((), False, MOST_JUDGED)


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
        hashed: The ids that models of impressions are asked with; None: they are not asked with any.
        texts: Text attributes that say something of what will come: `items.<name>` and `users.<name>`, where the name
            is one of `Counting.attributes`.
        judged: The system's models are judged by impressions, one by one, and not by lists. Its snapshots are parted by
            time, at the same moments for everybody, and have neither interactions nor cases of lists.
        most_judged: Impressions that the gate is given; of more, those with the smallest hashes.
        slices_of: The request of an impression's case -> slice -> its label, for the gate; what has no label is in no
            slice. The request is as `Predictions.ask` has it, but for `known`: feature -> number, or None.
    """

    shown_sql: str
    labels: Mapping[str, str]
    window_minutes: float
    item_facts: Mapping[str, str] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    most: int = 2_000_000
    hashed: Hashed | None = None
    texts: tuple[str, ...] = ()
    judged: bool = False
    most_judged: int = MOST_JUDGED
    slices_of: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None

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
            texts=self.texts,
            judged=self.judged,
            most_judged=self.most_judged,
            hashed=self.hashed,
        )


class OutcomesTold(Contract):
    """What `impressions.parquet` of a snapshot holds, beside who was shown what, when and where, and features."""

    labels: tuple[str, ...] = Field(description="Columns `label_<name>`, float32.")
    window_minutes: float = Field(gt=0, description="How long an impression was waited for.")
    item_facts: tuple[str, ...] = Field((), description="Columns of facts of the item, float32, 0 where unknown.")
    context: tuple[str, ...] = Field((), description="Columns `context_<name>`, JSON text, null where nothing is said.")
    texts: tuple[str, ...] = Field(
        (),
        description="Attributes, `items.<name>` or `users.<name>`: columns `text_items_<name>`, null where unknown.",
        exclude_if=_unused,
    )
    judged: bool = Field(
        False,
        description="Models are judged by impressions, and parts are by time; there are no interactions and no lists.",
        exclude_if=_unused,
    )
    most_judged: int = Field(
        MOST_JUDGED, gt=0, description="Impressions in `cases/impressions.jsonl.gz` at most.", exclude_if=_unused
    )
    hashed: Hashed | None = Field(
        None,
        description="The ids that models are asked with, of columns above.",
        exclude_if=lambda value: value is None,
    )
