"""Why an event is suggested, in codes for programs and words for people, and what its clocks say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

from twinloop.contracts.system import Reason
from twinloop.systems.suggestions.features import LEAST_FRIENDS

_NEAR_KM, _SOON_H, _DAY_H, _FEW_PLACES, _MANY = 5.0, 48.0, 24.0, 5.0, 20.0
_HOUR_MS = 3_600_000


def reasons(facts: Mapping[str, float], topics: Sequence[str], liked: frozenset[str], km: float) -> tuple[Reason, ...]:
    """Return why, most telling first: facts that are true of the event, and not what weighed most in the model.

    Args:
        facts: Of `features.FACTS`; NaN is unknown.
        topics: Of the event.
        liked: What the user says they like.
        km: How far it is; NaN is unknown.
    """
    going = max(facts["rsvps"] - facts["withdrawals"], 0)
    left = facts["capacity"] - going
    hours = (facts["starts_ms"] - facts["time_ms"]) / _HOUR_MS
    friends = _told_friends(facts["friends_going"], facts["friends"])
    shared = [topic for topic in topics if topic in liked]
    found: list[Reason] = []
    if friends > 0:
        words = "somebody you know comes" if friends == 1 else f"at least {friends:.0f} people you know come"
        found.append(Reason("friends", words, None, friends))
    if facts["organizer_rsvps"] > 0:
        times = facts["organizer_rsvps"]
        words = _count(times, "time you said yes to its organiser", "times you said yes to its organiser")
        found.append(Reason("organizer", words, None, times))
    if shared:
        found.append(Reason("topics", f"about {', '.join(shared[:3])}, which you like", None, float(len(shared))))
    if km <= _NEAR_KM:
        found.append(Reason("near", "less than 1 km away" if km < 1 else f"{km:.0f} km away", None, -km))
    if 0 < hours <= _SOON_H:
        when = f"starts in {hours:.0f} h" if hours >= 1 else "starts within the hour"
        found.append(Reason("soon", when, None, -hours))
    if 0 < left <= _FEW_PLACES:
        found.append(Reason("few_places", _count(left, "place left", "places left"), None, -left))
    if going >= _MANY:
        found.append(Reason("popular", f"{going:.0f} people come", None, going))
    return tuple(found)


def _told_friends(going: float, friends: float) -> float:
    """Return how many at least: never all, since that would name them, and nothing of whoever knows few people."""
    return min(going, friends - 1) if friends >= LEAST_FRIENDS else 0.0


def clock(at_ms: int, offset_min: float) -> str | None:
    """Return a moment as clocks somewhere show it, ISO 8601 to the minute with the offset; None where nobody knows."""
    if offset_min != offset_min:  # noqa: PLR0124 - NaN
        return None
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
        return moment.astimezone(timezone(timedelta(minutes=offset_min))).isoformat(timespec="minutes")
    except (OverflowError, ValueError):
        return None


def _count(number: float, one: str, more: str) -> str:
    return f"1 {one}" if number == 1 else f"{number:.0f} {more}"
