"""What a feature is: one definition from which the offline and the online value are computed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from twinloop.contracts.model import Contract


class Feature(Contract):
    """A value known of an entity at a moment, computed from its earlier events only.

    `last_n`: ids of the latest `length` positive events, oldest first. `count`: positive events in the window.
    `mean`: mean strength of the events in the window. `recency`: days since the latest event, default where none.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")
    entity: Literal["user", "item"]
    kind: Literal["last_n", "count", "mean", "recency"]
    description: str
    window_days: float | None = Field(None, gt=0, description="None: everything before the moment.")
    length: int = Field(0, ge=0, description="Of a last_n list.")
    default: float = 0.0
    time_to_live_days: float = Field(30.0, gt=0, description="Online values older than this read as the default.")
    owner: str = "recommendations"
    version: int = Field(1, ge=1)
