"""What suggestions' events mean: what is counted, the features made of it, and the facts that models are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinloop.contracts.features import Counting, Feature

# Who says again that they come, or takes back what they never said, changes nothing: people are counted, not events.
# Such events are `repeats`, and not nothing: what was counted live is told from what the lake has by the event.
MEASURES = ("rsvps", "withdrawals", "declines", "cancels", "restores", "repeats")
TYPES = ("rsvp", "withdraw", "decline", "cancel", "restore")  # of events, in the order of the measures

TURN_SQL = """(type NOT IN ('rsvp', 'withdraw') OR (type = 'rsvp') != coalesce(last_value(
    CASE WHEN type IN ('rsvp', 'withdraw') THEN type = 'rsvp' END IGNORE NULLS) OVER (
    PARTITION BY user_id, item_id ORDER BY time_ms, md5_number_upper(event_id::VARCHAR)
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false))"""
"""Whether a row of events is another word than the user's last one on the event; nobody comes who has not said so."""

# Views are nine events of ten and say nothing of an event's state: they are learnt from, and not counted.
AMOUNTS_SQL = (
    *(f"CASE WHEN type = '{kind}' AND {TURN_SQL} THEN 1 ELSE 0 END" for kind in TYPES),
    f"CASE WHEN NOT {TURN_SQL} THEN 1 ELSE 0 END",
)


def amounts(event: Mapping[str, Any]) -> tuple[int, ...]:
    """What an event by itself adds to each of `MEASURES`: one to its own, nothing where it is a view."""
    return (*(int(event["type"] == kind) for kind in TYPES), 0)


def turned(said: tuple[int, ...], before: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the amounts that count of what a user says of an event, given what they said before: `TURN_SQL`."""
    yes, back = said[:2]
    comes = next((bool(last[0]) for last in reversed(before) if last[0] or last[1]), False)
    return (0,) * len(TYPES) + (1,) if (yes and comes) or (back and not comes) else said


# Evidence for histories: whom an event was offered to and what they said. A withdrawal is a no after a yes.
STRENGTH_SQL = "CASE type WHEN 'rsvp' THEN 1.0 WHEN 'decline' THEN 0.0 WHEN 'withdraw' THEN 0.0 END"
_STRENGTHS = {"rsvp": 1.0, "decline": 0.0, "withdraw": 0.0}


def strength(event: Mapping[str, Any]) -> float | None:
    """Return the rules of `STRENGTH_SQL` over one event."""
    return _STRENGTHS.get(event["type"])


def _total(name: str, of: str, description: str, *, attribute: str = "") -> Feature:
    """Count from the beginning on: an event lives for days, so a window would say the same."""
    entity = "user_item" if attribute else "item" if name.startswith("item_") else "user"
    fields: dict[str, Any] = {"attribute": attribute} if attribute else {}
    fields |= {"name": name, "entity": entity, "kind": "total", "of": of, "description": description}
    return Feature.model_validate(fields | {"time_to_live_days": 3650.0, "owner": "suggestions"})


def _latest(name: str, of: str, description: str) -> Feature:
    """Days since the latest event of an item with something of a measure."""
    fields = {"name": name, "entity": "item", "kind": "recency", "of": of, "description": description}
    return Feature.model_validate(fields | {"default": NEVER, "time_to_live_days": 3650.0, "owner": "suggestions"})


def _attribute(name: str, of: str, description: str) -> Feature:
    entity = name.partition("_")[0]
    fields = {"name": name, "entity": entity, "kind": "attribute", "attribute": of, "description": description}
    return Feature.model_validate(fields | {"default": UNKNOWN, "owner": "suggestions"})


NEVER = 1e6  # days since what has not happened
UNKNOWN = -1000.0  # of an attribute; no latitude, longitude, price or capacity
STATE = (
    *("item_rsvps", "item_withdrawals", "item_cancels", "item_restores"),
    *("item_cancel_days", "item_restore_days", "item_cancelled"),
)
PERSONAL = ("user_rsvps", "user_topic_rsvps", "user_organizer_rsvps", "user_organizer_declines")
HOME = ("user_lat", "user_lon")

STORED: tuple[Feature, ...] = (
    _total("item_rsvps", "rsvps", "How often somebody said that they come who did not."),
    _total("item_withdrawals", "withdrawals", "How often somebody took that back."),
    _total("item_cancels", "cancels", "How often the event was called off."),
    _total("item_restores", "restores", "How often it was put on again."),
    _latest("item_cancel_days", "cancels", "Days since it was last called off."),
    _latest("item_restore_days", "restores", "Days since it was last put on again."),
    _attribute("item_cancelled", "cancelled", "1 where its row says that it was called off."),
    _attribute("user_lat", "lat", "Where the user usually is, degrees north."),
    _attribute("user_lon", "lon", "Where the user usually is, degrees east."),
    _total("user_rsvps", "rsvps", "Events that the user said they come to."),
    _total("user_topic_rsvps", "rsvps", "Of those, how many with the event's first topic.", attribute="topic"),
    _total("user_organizer_rsvps", "rsvps", "Of those, how many of its organiser.", attribute="organizer_id"),
    _total("user_organizer_declines", "declines", "Events of its organiser that they declined.",
           attribute="organizer_id"),
)  # fmt: skip

MOST_FRIENDS = 100  # whose plans are read: one batch of the store
LEAST_FRIENDS = 3  # whoever knows fewer people than that would know whose plan it is
KNOWN_SQL = f"list_distinct(friends[1:{MOST_FRIENDS}])"
"""Whom a user knows, of the row's `friends`."""
PLANS_TOLD_SQL = f"CASE WHEN len({KNOWN_SQL}) >= {LEAST_FRIENDS} THEN {KNOWN_SQL} ELSE [] END"
"""Of these, whose plans may have a part in a list: nobody's where it would show whose."""


def plans_told(known: tuple[str, ...]) -> tuple[str, ...]:
    """Return `PLANS_TOLD_SQL` of whom a user knows."""
    return known if len(known) >= LEAST_FRIENDS else ()


COUNTING = Counting(
    features=STORED,
    measures=MEASURES,
    amounts=amounts,
    amounts_sql=AMOUNTS_SQL,
    attributes={
        "users": {
            "lat": "lat::DOUBLE",
            "lon": "lon::DOUBLE",
            "topics": "to_json(topics)::VARCHAR",
            "friends": f"to_json(friends[1:{MOST_FRIENDS}])::VARCHAR",
        },
        "items": {
            "topic": "topics[1]::VARCHAR",
            "organizer_id": "organizer_id::VARCHAR",
            "cancelled": "CASE WHEN cancelled THEN 1 ELSE 0 END",
        },
    },
    # `item_id` tells which of a friend's plans is about the event; of the others see `STORED`.
    marks=("item_id", "topic", "organizer_id"),
    memory={"user": 256, "item": 32},
    turned=turned,
)

FACTS: tuple[str, ...] = (
    *("place_lat", "place_lon", "time_ms"),  # of who asks, and when
    *("lat", "lon", "starts_ms", "offset_min", "published_ms", "price", "capacity"),  # of the event
    *("rsvps", "withdrawals", "topics", "user_topics", "topics_shared", "friends", "friends_going"),
    *("user_rsvps", "topic_rsvps", "organizer_rsvps", "organizer_declines"),
    *("organizer_held", "organizer_came", "organizer_dropped", "organizer_views", "organizer_yeses"),
    *("taste", "organizer_effect"),
)
"""Numbers, NaN where unknown. Times are epoch milliseconds, `offset_min` minutes that local clocks are ahead of UTC
when it starts. `organizer_held`: events of the organiser that have begun or are off; `organizer_came`: people
who said that they come to those, in all; `organizer_dropped`: how many of those are off; `organizer_yeses` of
`organizer_views`: how often somebody said yes to any of its events that they were shown. `taste`,
`organizer_effect`: see `tastes.py`."""
