"""The model's columns, made of facts.

Facts come from three sides: a query over the lake (`examples.py`), a labelled request of the gate, and serving's
catalogue with the online store. `matrix` makes the columns of all of them, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.features import geography as geo
from twinloop.systems.suggestions.features import FACTS

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_RATE, _WEIGHT = 0.1, 10.0  # of yeses to what is shown, before anything is known, and how many views that is worth

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

FEATURES: dict[str, str] = {
    "distance_km": "Great-circle distance, km.",
    "travel_min": "Estimated way door to door at the local time when one would set out.",
    "placed": "Whether the distance is known.",
    "hours_until": "Hours until it starts.",
    "hours_until_squared": "The square of log(1 + those): what suits best may be neither at once nor far ahead.",
    "hours_to_spare": "Hours until one would have to set out.",
    "start_sin": "Local time of day at which it starts, as an angle.",
    "start_cos": "Likewise.",
    "weekend": "Whether it starts on Saturday or Sunday, there.",
    "topics_shared": "Topics of the event that the user says they like.",
    "topics_share": "The same as a share of the event's.",
    "user_topics": "Topics that the user says they like.",
    "price": "In the application's currency.",
    "free": "Whether it costs nothing.",
    "going": "How many come.",
    "going_a_day": "How many a day since it was published.",
    "fullness": "How many come, over the places that there are.",
    "places_left": "Places that are left.",
    "days_published": "Days since it was published.",
    "organizer_held": "Events of its organiser so far.",
    "organizer_came": "How many came to one of those, on average.",
    "organizer_dropped": "Which share of those was called off.",
    "organizer_rate": "How often people say yes to its events that they are shown, smoothed.",
    "organizer_effect": "The same in logits, beside what else is known of its events.",
    "taste": "How much the event's topics suit what the user likes, logits.",
    "friends": "How many people the user knows.",
    "friends_going": "How many of those come.",
    "user_rsvps": "Events that the user said they come to.",
    "topic_rsvps": "Of those, how many with its first topic.",
    "topic_share": "The same as a share, smoothed.",
    "organizer_rsvps": "Of those, how many of its organiser.",
    "organizer_declines": "Events of its organiser that the user declined.",
}
"""The model's columns, in order, and what each is."""


def matrix(facts: Mapping[str, Floats]) -> Floats32:
    """Return the model's columns of events, float32[events, FEATURES]; NaN where something is not known.

    Args:
        facts: A column for each of `FACTS`, float64[events].
    """
    at, starts = facts["time_ms"], facts["starts_ms"]
    km = geo.distance_km(facts["place_lat"], facts["place_lon"], facts["lat"], facts["lon"])
    hour, day = geo.local(starts, facts["offset_min"])
    # The way is travelled just before; an hour earlier is near enough to tell a rush hour by.
    travel = geo.travel_minutes(km, (hour - 1) % 24)
    until = (starts - at) / HOUR_MS
    going = np.maximum(facts["rsvps"] - facts["withdrawals"], 0)
    days = np.maximum(at - facts["published_ms"], 0) / DAY_MS
    capacity, held = facts["capacity"], facts["organizer_held"]
    angle = hour / 24 * 2 * np.pi
    columns = {
        "distance_km": km,
        "travel_min": travel,
        "placed": np.isfinite(km),
        "hours_until": until,
        "hours_until_squared": np.log1p(np.maximum(until, 0)) ** 2,
        "hours_to_spare": until - np.nan_to_num(travel) / 60,
        "start_sin": np.sin(angle),
        "start_cos": np.cos(angle),
        "weekend": np.where(np.isnan(day), np.nan, day >= 5),
        "topics_shared": facts["topics_shared"],
        "topics_share": facts["topics_shared"] / np.maximum(facts["topics"], 1),
        "user_topics": facts["user_topics"],
        "price": facts["price"],
        "free": np.where(np.isnan(facts["price"]), np.nan, facts["price"] == 0),
        "going": going,
        "going_a_day": going / (days + 1),
        "fullness": going / np.maximum(capacity, 1),
        "places_left": capacity - going,
        "days_published": days,
        "organizer_held": held,
        "organizer_came": facts["organizer_came"] / np.where(held > 0, held, np.nan),
        "organizer_dropped": facts["organizer_dropped"] / np.where(held > 0, held, np.nan),
        "organizer_rate": np.log((facts["organizer_yeses"] + _RATE * _WEIGHT) / (facts["organizer_views"] + _WEIGHT)),
        "organizer_effect": facts["organizer_effect"],
        "taste": facts["taste"],
        "friends": facts["friends"],
        "friends_going": facts["friends_going"],
        "user_rsvps": facts["user_rsvps"],
        "topic_rsvps": facts["topic_rsvps"],
        "topic_share": facts["topic_rsvps"] / (facts["user_rsvps"] + 5),
        "organizer_rsvps": facts["organizer_rsvps"],
        "organizer_declines": facts["organizer_declines"],
    }
    return np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)


def facts_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """Return the facts of rows, by name; what a row does not tell is NaN."""
    return {name: np.array([_number(row.get(name)) for row in rows], np.float64) for name in FACTS}


def shared(topics: Sequence[str], liked: frozenset[str]) -> int:
    """Return how many different topics of an event somebody likes."""
    return len(liked.intersection(topics))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
