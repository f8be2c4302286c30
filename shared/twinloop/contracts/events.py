"""Rows as users deliver them: users, items, events. One class a table, bounds included.

A column that a contract does not name is kept in `extra`, as JSON; the reader of raw data puts it there. `updated_at`
is a row's own word on how new it is: of rows of one user or item the one with the latest counts, whichever came first;
rows without it come before all that have one, and among themselves the latest upload counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from twinloop.contracts.model import Contract, OnlyWhere

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)  # clocks of phones are wrong, but not by more
_WHOLE_HOUR = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d(Z|[+-]\d\d(:?\d\d)?)?", re.ASCII)


def as_time(value: object) -> object:
    """Epoch milliseconds or ISO 8601; a number is never seconds, and a text of digits is a number."""
    if isinstance(value, bool):
        raise ValueError("a time is ISO 8601 text or epoch milliseconds")
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, str) and _WHOLE_HOUR.fullmatch(value):  # ISO 8601, and pydantic does not know it
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value / 1000, tz=UTC)
        except (OverflowError, ValueError, OSError):
            raise ValueError("is no time in epoch milliseconds that a calendar knows") from None
    return value


def as_utc(value: datetime) -> datetime:
    """Times without a zone are UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def plausible(value: datetime) -> datetime:
    """Refuse what no event's clock can have said: before 1990, or after tomorrow."""
    if not EARLIEST <= value <= datetime.now(UTC) + AHEAD:
        raise PydanticCustomError(
            "not_between_1990_and_tomorrow",
            "{date} is not between 1990 and tomorrow; epoch times are in milliseconds",
            {"date": value.date().isoformat()},
        )
    return value


def as_text(value: object) -> object:
    """Ids are text, but people write numbers; 12 and "12" are the same id."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_list(value: object) -> object:
    """A CSV cell holds a list as `a|b|c`."""
    if isinstance(value, str):
        return tuple(part for part in value.split("|") if part)
    return () if value is None else value


Id = Annotated[str, BeforeValidator(as_text), StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(max_length=10_000)]
Moment = Annotated[datetime, BeforeValidator(as_time), AfterValidator(as_utc)]
EventTime = Annotated[Moment, AfterValidator(plausible)]
Tags = Annotated[tuple[Annotated[str, StringConstraints(max_length=256)], ...], BeforeValidator(as_list)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class UserRow(Contract):
    """A person or an account. Whatever else is known of them is in `extra`."""

    user_id: Id
    updated_at: Moment | None = None
    extra: str | None = None


class VideoItemRow(Contract):
    """A video."""

    item_id: Id
    title: Text
    tags: Tags = Field((), max_length=100)
    author_id: Id | None = None
    duration_s: Amount | None = None
    published_at: Moment | None = None
    updated_at: Moment | None = None
    extra: str | None = None


class VideoEventRow(Contract):
    """One thing that a user did with a video, or that was shown to them."""

    event_id: Id
    type: Literal["impression", "click", "watch", "like", "rating", "hide"]
    time: EventTime
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    watch_s: Annotated[Amount, Field(le=1_000_000)] | None = None
    duration_s: Annotated[Amount, Field(le=1_000_000)] | None = None
    rating: Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)] | None = None
    context: dict[str, Any] | None = None
    extra: str | None = None


VIDEO_TABLES: dict[str, type[Contract]] = {"users": UserRow, "items": VideoItemRow, "events": VideoEventRow}


class AdItemRow(Contract):
    """An ad. What it may cost a day is `daily_budget` among its attributes."""

    item_id: Id
    advertiser_id: Id | None = None
    campaign_id: Id | None = None
    attributes: dict[str, Any] | None = None
    updated_at: Moment | None = None
    extra: str | None = None


class AdEventRow(OnlyWhere):
    """An ad that was shown, or a click on one.

    An application that waits for what came of a showing may send one impression, with `clicked` 0 or 1; then it sends
    no event of the click beside it. A click has no `clicked`: it would be a second showing.
    """

    only_where: ClassVar[Mapping[str, tuple[str, str]]] = {"clicked": ("type", "impression")}

    event_id: Id
    type: Literal["impression", "click"]
    time: EventTime
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    bid: Annotated[Amount, Field(le=1_000_000)] | None = None
    clicked: Annotated[int, Field(ge=0, le=1)] | None = None
    attributes: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    extra: str | None = None


ADS_TABLES: dict[str, type[Contract]] = {"users": UserRow, "items": AdItemRow, "events": AdEventRow}


class SearchItemRow(Contract):
    """A document that can be found; texts and numbers among its attributes are searched and filtered by, too.

    One that is `deleted` is found no more, from the next index on; delivered again without that, it is.
    """

    item_id: Id
    title: Text
    text: Text | None = None
    tags: Tags = Field((), max_length=100)
    attributes: dict[str, Any] | None = None
    deleted: bool | None = None
    updated_at: Moment | None = None
    extra: str | None = None


class SearchEventRow(Contract):
    """A query with the list that answered it, or a click on an item of that list.

    A query and the clicks that came of it share `request_id`; without it nothing is learnt from them. `shown` are the
    items of the list, best first, as far as the user could see them; `offset` says how many stood before the first of
    them, on earlier pages. `position` of a click counts from 0.
    """

    event_id: Id
    type: Literal["query", "click"]
    time: EventTime
    user_id: Id
    query: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    item_id: Id | None = None
    request_id: Id | None = None
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    shown: Tags = Field((), max_length=100)
    offset: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    context: dict[str, Any] | None = None
    extra: str | None = None


class SearchJudgmentRow(Contract):
    """What a person thinks of an item as an answer to a query: 0 is no answer, more is better."""

    identity_columns = ("query", "item_id")

    query: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    item_id: Id
    grade: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    judged_at: Moment | None = None
    extra: str | None = None


SEARCH_TABLES: dict[str, type[Contract]] = {
    "users": UserRow,
    "items": SearchItemRow,
    "events": SearchEventRow,
    "judgments": SearchJudgmentRow,
}


LabelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,60}$")]


class ModerationItemRow(Contract):
    """A text that somebody wrote."""

    item_id: Id
    text: Annotated[str, StringConstraints(max_length=100_000)]
    author_id: Id | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    extra: str | None = None


class ModerationEventRow(Contract):
    """One thing that happened to an author's text. What is counted is counted of the author, who is `user_id`.

    `view`: somebody saw it. `report`: somebody reported it. `violation`: a person decided that it breaks the rules.
    `restoration`: that decision was overturned; its `time` is the decision's, so that both are forgotten at once.
    Who saw, reported or decided is `actor_id`.
    """

    event_id: Id
    type: Literal["view", "report", "violation", "restoration"]
    time: EventTime
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    actor_id: Id | None = None
    context: dict[str, Any] | None = None
    extra: str | None = None


class ModerationLabelRow(Contract):
    """What one person says of one label of one text. Whoever was not asked about a label says nothing of it.

    A reviewer's latest word counts. Where there are appeals, the latest counts alone. Rows without `reviewer_id` are
    one reviewer of their source. `text` is what the person read, where that may not be what the item has by now, or not
    all of it.
    """

    identity_columns: ClassVar[tuple[str, ...] | None] = ()  # many say something of one item

    item_id: Id
    label: LabelName
    value: Annotated[int, Field(ge=0, le=1)]
    source: Literal["reviewer", "appeal", "import"]
    time: EventTime
    reviewer_id: Id | None = None
    text: Annotated[str, StringConstraints(max_length=100_000)] | None = None
    extra: str | None = None


MODERATION_TABLES: dict[str, type[Contract]] = {
    "users": UserRow,
    "items": ModerationItemRow,
    "events": ModerationEventRow,
    "labels": ModerationLabelRow,
}


def as_zone(value: str) -> str:
    """Refuse what cannot be an IANA time zone's name; whether there is one of that name is not looked up."""
    if not _ZONE.fullmatch(value):
        raise PydanticCustomError("no_time_zone", "is no IANA time zone's name, such as Europe/Berlin")
    return value


_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,2}", re.ASCII)
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(as_zone)]


class _Placed(Contract):
    """What may have a place, `lat` and `lon` in degrees (WGS 84)."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        """Refuse half a place."""
        if (getattr(self, "lat", None) is None) != (getattr(self, "lon", None) is None):
            raise PydanticCustomError("half_a_place", "lat and lon come together, or neither does")
        return self


class SuggestionsUserRow(_Placed):
    """A person: where they usually are, what they say they like, and whom they know."""

    user_id: Id
    lat: Latitude | None = None
    lon: Longitude | None = None
    topics: Tags = Field((), max_length=100)
    friends: Annotated[tuple[Id, ...], BeforeValidator(as_list)] = Field((), max_length=5_000)
    updated_at: Moment | None = None
    extra: str | None = None


class SuggestionsItemRow(_Placed):
    """An event that people may go to. One without a place is held online, or nobody said where."""

    item_id: Id
    title: Text
    description: Text | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    starts_at: Moment
    topics: Tags = Field((), max_length=100)
    organizer_id: Id | None = None
    price: Annotated[Amount, Field(le=1_000_000)] | None = None
    capacity: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    time_zone: Zone | None = None
    published_at: Moment | None = None
    cancelled: bool | None = None
    updated_at: Moment | None = None
    extra: str | None = None


class SuggestionsEventRow(Contract):
    """What a user did with an event, or that it was shown to them (`view`).

    `withdraw` takes back an `rsvp`. `cancel` and `restore` are of whoever organises: the event is off, or on again.
    """

    event_id: Id
    type: Literal["view", "rsvp", "decline", "withdraw", "cancel", "restore"]
    time: EventTime
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    context: dict[str, Any] | None = None
    extra: str | None = None


SUGGESTIONS_TABLES: dict[str, type[Contract]] = {
    "users": SuggestionsUserRow,
    "items": SuggestionsItemRow,
    "events": SuggestionsEventRow,
}
