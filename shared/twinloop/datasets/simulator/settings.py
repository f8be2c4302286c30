"""What a simulation is asked to be, by system. Every option has a default that fits a laptop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from twinloop.contracts.events import EARLIEST
from twinloop.errors import BadInputError

_LARGEST = 5_000_000  # users or items: each takes some hundred bytes of memory
_LONGEST_DAYS = 3650


@dataclass(frozen=True)
class WorldSettings:
    """People, things and time, whatever is done with them.

    Attributes:
        users: How many people there are in the end.
        items: How many things there are in the end.
        days: How long it lasts.
        seed: The same settings give the same world, byte by byte.
        start: The first day's midnight.
        drift: How far tags go in and out of fashion, in logits; 0 is no drift. Day 0 is the same with and without.
        season_days: How long a fashion takes to go and come back.
        taste_turn_days: How long a person takes to come to other tastes and back.
        cold_users: Share of the users who join while it lasts, evenly over time.
        cold_items: Share of the items that are published while it lasts, evenly over time.
        popularity: Exponent of Zipf's law of the items' fame; 0 makes all alike.
    """

    users: int = 1000
    items: int = 500
    days: int = 28
    seed: int = 0
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    drift: float = 0.0
    season_days: float = 56.0
    taste_turn_days: float = 360.0
    cold_users: float = 0.1
    cold_items: float = 0.1
    popularity: float = 0.8

    def __post_init__(self) -> None:
        within("users", self.users, 1, _LARGEST)
        within("items", self.items, 50, _LARGEST)
        within("days", self.days, 1, _LONGEST_DAYS)
        within("seed", self.seed, 0, 2**63 - 1)
        within("drift", self.drift, 0, 10)
        within("season_days", self.season_days, 1, 10_000)
        within("taste_turn_days", self.taste_turn_days, 1, 1_000_000)
        within("cold_users", self.cold_users, 0, 0.9)
        within("cold_items", self.cold_items, 0, 0.9)
        within("popularity", self.popularity, 0, 3)
        _check_start(self.start)

    @property
    def start_ms(self) -> int:
        """The beginning, epoch milliseconds."""
        return int(self.start.timestamp() * 1000)

    @property
    def end(self) -> datetime:
        """The last day's end. A session that began before it may go on for some minutes."""
        return self.start + timedelta(days=self.days)


@dataclass(frozen=True)
class ApplicationSettings:
    """What an application shows to the world's people, and how they take it.

    Attributes:
        events: About how many events there are; within a few percent.
        slots: Length of a list that is shown.
        position_bias: A place k (from 0) is looked at with probability (1 + k) ** -position_bias.
        click_rate: Clicks an impression, on average and before any drift.
        exploring: Share of the places that are filled without looking at fame or taste.
        ranked: Share of the lists that are ordered by a noisy guess of what the user wants; the others in any order.
    """

    events: int = 100_000
    slots: int = 10
    position_bias: float = 0.5
    click_rate: float = 0.15
    exploring: float = 0.2
    ranked: float = 0.5

    def __post_init__(self) -> None:
        within("events", self.events, 100, 10_000_000_000)
        within("slots", self.slots, 1, 25)
        within("position_bias", self.position_bias, 0, 3)
        within("click_rate", self.click_rate, 0.0005, 0.5)
        within("exploring", self.exploring, 0, 1)
        within("ranked", self.ranked, 0, 1)


@dataclass(frozen=True)
class VideoSettings(ApplicationSettings):
    """A video application: lists of videos."""


@dataclass(frozen=True)
class AdsSettings(ApplicationSettings):
    """An application with some places for ads on each of its pages.

    Attributes:
        late: Share of the clicks that come minutes after the ad was shown instead of seconds.
        late_minutes: How late those are, on average (exponential).
    """

    slots: int = 3
    click_rate: float = 0.02
    late: float = 0.1
    late_minutes: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within("late", self.late, 0, 1)
        within("late_minutes", self.late_minutes, 0, 10_000)


@dataclass(frozen=True)
class SuggestionsSettings(ApplicationSettings):
    """An application that shows upcoming events near somebody. A click is a yes (an `rsvp`).

    Attributes:
        friends: How many people somebody knows, on average about that many.
        online: Share of the events that have no place.
        cancelled: Share that is called off before it starts.
        withdrawn: Share of the yeses that are taken back before it starts.
        travelling: Share of the requests from a town drawn by chance.
        reach_km: Nothing farther is shown.
    """

    slots: int = 20
    click_rate: float = 0.08
    position_bias: float = 0.3
    exploring: float = 0.3
    friends: float = 6.0
    online: float = 0.05
    cancelled: float = 0.04
    withdrawn: float = 0.1
    travelling: float = 0.05
    reach_km: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within("friends", self.friends, 0, 50)
        for name in ("online", "cancelled", "withdrawn", "travelling"):
            within(name, getattr(self, name), 0, 0.4)
        within("reach_km", self.reach_km, 1, 20_000)


@dataclass(frozen=True)
class SearchSettings:
    """A catalogue, what people ask it, and how they look at what they are shown.

    Attributes:
        items: How many documents there are.
        topics: What they are about; at least ten documents have each.
        queries: How many different ones there are: some are asked often and most seldom.
        searches: How many lists are shown.
        users: How many people search.
        days: How long it lasts.
        judged: Share of the queries that people judged.
        slots: Length of a list.
        position_bias: A place k (from 0) is looked at with probability (1 + k) ** -position_bias.
        noise: How much lists vary, against what attracts.
        mistyped: Share of the queries with a letter too few.
        seed: The same settings write the same bytes.
        start: The first day's midnight.
    """

    items: int = 2000
    topics: int = 20
    queries: int = 800
    searches: int = 30_000
    users: int = 2000
    days: int = 14
    judged: float = 0.6
    slots: int = 10
    position_bias: float = 0.8
    noise: float = 0.25
    mistyped: float = 0.05
    seed: int = 0
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        within("items", self.items, 50, 1_000_000)
        within("topics", self.topics, 2, self.items // 10)
        within("queries", self.queries, 10, 100_000)
        within("searches", self.searches, 0, 10_000_000)
        within("users", self.users, 1, _LARGEST)
        within("days", self.days, 1, _LONGEST_DAYS)
        within("judged", self.judged, 0, 1)
        within("slots", self.slots, 1, 50)
        within("position_bias", self.position_bias, 0, 5)
        within("noise", self.noise, 0, 10)
        within("mistyped", self.mistyped, 0, 1)
        within("seed", self.seed, 0, 2**63 - 1)
        _check_start(self.start)

    @property
    def end(self) -> datetime:
        """The last day's end; clicks may come some seconds after it."""
        return self.start + timedelta(days=self.days)


@dataclass(frozen=True)
class ModerationSettings:
    """A forum, and people who are asked about its texts.

    Attributes:
        items: How many texts there are.
        users: How many people write.
        days: How long it lasts.
        reviewers: How many people are asked about texts.
        asked: How many of them a text.
        every_label: Share of the texts of which people are asked about all labels; of the others, about one.
        disguised: Share of the phrases that are written so that a list of words does not find them.
        quoted: Share of the texts with phrases that only tell of somebody else's.
        seed: The same settings write the same bytes.
        start: The first day's midnight.
    """

    items: int = 6000
    users: int = 300
    days: int = 14
    reviewers: int = 12
    asked: int = 3
    every_label: float = 0.7
    disguised: float = 0.3
    quoted: float = 0.15
    seed: int = 0
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        within("items", self.items, 50, 1_000_000)
        within("users", self.users, 1, _LARGEST)
        within("days", self.days, 1, _LONGEST_DAYS)
        within("reviewers", self.reviewers, 1, 1000)
        within("asked", self.asked, 1, self.reviewers)
        for name in ("every_label", "disguised", "quoted"):
            within(name, getattr(self, name), 0, 1)
        within("seed", self.seed, 0, 2**63 - 1)
        _check_start(self.start)

    @property
    def end(self) -> datetime:
        """The last day's end; people answer some hours after it."""
        return self.start + timedelta(days=self.days)


Settings = WorldSettings | ApplicationSettings | SearchSettings | ModerationSettings
SIMULATED: Mapping[str, tuple[type[Settings], ...]] = {
    "video": (WorldSettings, VideoSettings),
    "ads": (WorldSettings, AdsSettings),
    "search": (SearchSettings,),
    "moderation": (ModerationSettings,),
    "suggestions": (WorldSettings, SuggestionsSettings),
}
"""System -> what is asked of its simulation."""


def _check_start(start: datetime) -> None:
    if start.tzinfo is None or start < EARLIEST:
        raise BadInputError(f"start is a time in UTC from 1990 on, not {start.isoformat()}")


def within(name: str, value: float, least: float, greatest: float) -> None:
    """Raise BadInputError where a setting is out of its bounds."""
    if not least <= value <= greatest:
        raise BadInputError(f"{name} lies between {least:,} and {greatest:,}, not at {value:,}")


def fingerprint(*settings: Settings) -> str:
    """Return eight hex digits that tell settings apart; ids of events begin with them."""
    told = json.dumps([asdict(entry) for entry in settings], default=str, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]
