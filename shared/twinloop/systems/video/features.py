"""Video's meaning of events: what speaks for an item, and the features computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twinloop.contracts.features import Feature

LIKED_RATING = 4.0
WATCHED_SHARE = 0.5  # of the video's duration
WATCHED_SECONDS = 30.0  # where the duration is unknown

# What the tree ranker is asked with beside the history. Models that take the history alone are asked with none of them.
FEATURES: tuple[Feature, ...] = (
    Feature(
        name="user_positives_30d",
        entity="user",
        kind="count",
        description="How many videos the user liked in the last 30 days.",
        window_days=30,
    ),
    Feature(
        name="user_mean_strength",
        entity="user",
        kind="mean",
        description="Share of what the user saw that they liked.",
        default=0.5,
        time_to_live_days=36_500,
    ),
    Feature(
        name="user_days_idle",
        entity="user",
        kind="recency",
        description="Days since the user's latest event; a year where there is none.",
        default=365.0,
        time_to_live_days=365,
    ),
)

# The same rules as `strength`, for DuckDB; a property test holds the two together.
STRENGTH_SQL = f"""
CASE type
    WHEN 'like' THEN 1.0
    WHEN 'click' THEN 1.0
    WHEN 'hide' THEN 0.0
    WHEN 'rating' THEN CASE
        WHEN rating IS NULL OR isnan(rating::DOUBLE) THEN NULL
        WHEN rating::DOUBLE >= {LIKED_RATING} THEN 1.0 ELSE 0.0 END
    WHEN 'watch' THEN CASE
        WHEN watch_s IS NULL OR isnan(watch_s::DOUBLE) THEN NULL
        WHEN watch_s::DOUBLE >= CASE
            WHEN duration_s::DOUBLE > 0 AND NOT isnan(duration_s::DOUBLE) THEN duration_s::DOUBLE * {WATCHED_SHARE}
            ELSE {WATCHED_SECONDS} END
        THEN 1.0 ELSE 0.0 END
END
"""


def strength(event: Mapping[str, Any]) -> float | None:
    """How much an event speaks for its item: 1 liked, 0 seen without liking, None no evidence (an impression)."""
    match event["type"]:
        case "like" | "click":
            return 1.0
        case "hide":
            return 0.0
        case "rating":
            rating = _number(event.get("rating"))
            return None if rating is None else float(rating >= LIKED_RATING)
        case "watch":
            watched = _number(event.get("watch_s"))
            if watched is None:
                return None
            duration = _number(event.get("duration_s"))
            enough = duration * WATCHED_SHARE if duration is not None and duration > 0 else WATCHED_SECONDS
            return float(watched >= enough)
        case _:
            return None


def _number(value: Any) -> float | None:
    """Return a float, None for nothing and for NaN."""
    if value is None or math.isnan(value):
        return None
    return float(value)
