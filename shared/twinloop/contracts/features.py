"""What a feature is: one definition from which the offline and the online value are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from twinloop.contracts.model import Contract
from twinloop.contracts.tally import HOUR_MS, Layout, identity

Turned = Callable[[tuple[int, ...], Sequence[tuple[int, ...]]], tuple[int, ...]]
Entity = Literal["user", "item", "user_item"]
Source = Literal["history", "counters", "attributes"]

LARGEST = 1e38  # of numbers: models are told in 32 bits, so one beyond, an infinity or a NaN is told as none at all

_FROM_HISTORY = frozenset({"last_n", "count", "mean"})
_FROM_ATTRIBUTES = frozenset({"attribute", "age"})
_HOURLY_TO_DAYS = 2  # windows up to here are counted by the hour, longer ones by the day
_AHEAD_MS = 24 * HOUR_MS  # an event's clock may be this far ahead; see contracts/events.py


class Feature(Contract):
    """A value known of an entity at a moment, computed from what came before it only.

    From the user's history (bounded, positive and other evidence):
    `last_n`: ids of the latest `length` positive events, oldest first. `count`: positive events in the window.
    `mean`: mean strength of the events in the window. `recency`: days since the latest event, default where none.

    From counters of every event (`of` names a measure of the system; see `Counting`):
    `total`: sum of `of` in the window, times `scale`. `rate`: (sum of `of` + prior * weight) / (sum of `per` + weight),
    the default where that divides by nothing. `recency`: days since the latest event with something of `of`.
    `share`, of `user_item` only: (sum of `of` with this item's `attribute` + prior * weight) / (sum of all `of` +
    weight). Of `user_item`, everything else also counts only the user's events on items that share `attribute` with
    the item asked about; it looks at the user's latest events alone, as many as `Counting.memory` says.

    From what is known of the entity itself: `attribute`: the number. `age`: days since the moment it holds
    (epoch milliseconds); not below 0.

    A window of counters is whole buckets, hours up to two days and days above: from the start of the bucket in which
    the window begins up to the moment.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")
    entity: Entity
    kind: Literal["last_n", "count", "mean", "recency", "total", "rate", "share", "attribute", "age"]
    description: str
    window_days: float | None = Field(None, gt=0, description="None: everything before the moment.")
    length: int = Field(0, ge=0, description="Of a last_n list.")
    default: float = 0.0
    time_to_live_days: float = Field(30.0, gt=0, description="Online values older than this read as the default.")
    owner: str = "recommendations"
    version: int = Field(1, ge=1)
    of: str = Field("", description="The measure that is counted.")
    per: str = Field("", description="The measure that a rate divides by.")
    attribute: str = Field("", description="Of the item or user; for user_item, what two items must share.")
    prior: float = Field(0.0, description="What a rate or share is believed to be before anything is seen.")
    weight: float = Field(0.0, ge=0, description="How much of the denominator that belief is worth.")
    scale: float = Field(1.0, description="A total is multiplied by this (.001 makes seconds of milliseconds).")

    @property
    def source(self) -> Source:
        """What it is computed from."""
        if self.kind in _FROM_ATTRIBUTES:
            return "attributes"
        return "history" if self.kind in _FROM_HISTORY or (self.kind == "recency" and not self.of) else "counters"

    @property
    def bucket_ms(self) -> int:
        """Length of the buckets in which counters know the window; 0 where it has no start."""
        if self.window_days is None:
            return 0
        return HOUR_MS if self.window_days <= _HOURLY_TO_DAYS else 24 * HOUR_MS

    @property
    def buckets(self) -> int:
        """How many whole buckets the window holds beside the one of the moment."""
        return -(-round(self.window_days * 24 * HOUR_MS) // self.bucket_ms) if self.window_days is not None else 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse a definition that leaves out what its kind needs."""
        needs = {"total": ("of",), "rate": ("of", "per"), "share": ("of", "attribute")}.get(self.kind, ())
        if self.source == "attributes" or self.entity == "user_item":
            needs = (*needs, "attribute")
        missing = sorted({name for name in needs if not getattr(self, name)})
        if missing:
            raise ValueError(f"feature {self.name!r}: a {self.kind} of a {self.entity} needs {' and '.join(missing)}")
        if self.kind == "share" and self.entity != "user_item":
            raise ValueError(f"feature {self.name!r}: a share is of a user_item")
        if self.entity == "user_item" and self.source != "counters":
            raise ValueError(f"feature {self.name!r}: what is known of a user_item comes from counters")
        return self


@dataclass(frozen=True)
class Counting:
    """What a system counts, of whom, and the features made of it.

    Attributes:
        features: Definitions, of every source.
        measures: Names of what an event adds to.
        amounts: An event's whole-numbered amounts (0 to 2^32 - 1), by measure. Nothing but zeros is not counted.
        amounts_sql: The same rules over a row of the lake's events, by measure; with `turned` applied.
        attributes: Per table (`users`, `items`): DuckDB expression over its latest row, by the attribute's name. Texts
            and numbers; the same values go to the online store. A number beyond `LARGEST` is none.
        marks: What two items can have in common: `item_id`, or an attribute of items that is a text.
        turned: (an event's amounts, those of what the user did with the item before, oldest first) -> the amounts that
            count: what says again what holds already is no news. It sees what the user's memory has; None: every event
            counts. An event that comes late does not change what was counted of later ones until the lake is counted.
        memory: How many of the latest events are remembered one by one, per entity. Within it a duplicate is known.
    """

    features: tuple[Feature, ...]
    measures: tuple[str, ...]
    amounts: Callable[[Mapping[str, Any]], tuple[int, ...]]
    amounts_sql: tuple[str, ...]
    attributes: Mapping[str, Mapping[str, str]]
    marks: tuple[str, ...]
    memory: Mapping[str, int]
    turned: Turned | None = None

    def layout(self, entity: Literal["user", "item"]) -> Layout:
        """Return how an entity's counters are kept: for every window of its definitions, and no longer."""
        spans: dict[int, int] = {}
        for feature in self.features:
            if feature.entity == entity and feature.kind in {"total", "rate"}:
                ahead = -(-_AHEAD_MS // feature.bucket_ms) + 1 if feature.bucket_ms else 0
                spans[feature.bucket_ms] = max(spans.get(feature.bucket_ms, 0), feature.buckets + ahead)
        marks = self.marks if entity == "user" else ()
        return Layout(
            len(self.measures),
            len(marks),
            self.memory[entity],
            tuple(sorted(spans.items())),
            identity((*self.measures, "", *marks)),
        )
