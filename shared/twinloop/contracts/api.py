"""Requests and answers of the HTTP API. The OpenAPI document is generated from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, StringConstraints

from twinloop.contracts.model import Contract

Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
ShortText = Annotated[str, StringConstraints(max_length=500)]
Arm = Literal["champion", "challenger", "control"]


class ApiRequest(Contract):
    """A request's body: unknown fields are refused, and nothing is converted to another type on the quiet."""

    model_config = ConfigDict(strict=True)


class PredictionRequest(ApiRequest):
    """What every system can be asked with; what a system is asked about comes beside it."""

    context: dict[Name, ShortText | bool | int | FiniteFloat | None] = Field(
        default_factory=dict,
        max_length=50,
        description="Facts of the moment, such as the device or the country; they are heard as far as what the models "
        "learnt from had the same facts, and are kept in the log.",
    )
    preset: Name | None = Field(
        None,
        description="Named settings of the policy; the OpenAPI document lists them. By default the first of them.",
    )
    explore: bool = Field(
        True, description="False: nothing is tried out in this answer, for previews, tests and evaluations."
    )
    time_ms: int | None = Field(
        None,
        ge=0,
        le=253_402_300_799_999,
        description="The moment to answer for, epoch milliseconds, where it is not now: to ask past requests again. "
        "What is known of the user is the history and the counters as they stand; features computed from them are "
        "those of this moment.",
    )


class PredictionAnswer(Contract):
    """What every answer says of where it comes from."""

    model_version: str = Field(description="The release that answered.")
    arm: Arm = Field(description="control: a fallback answered, the release before or the trivial baseline.")
    prediction_id: str = Field(description="Send it back as request_id with the events that follow.")
    degraded: bool = Field(description="True where a fallback answered, or something that the models ask for was away.")
    preset: str | None = Field(None, description="The settings of the policy that were used, where the system has any.")


class RecommendationsRequest(PredictionRequest):
    """Ask for items a user may like next."""

    user_id: Id
    limit: int = Field(20, ge=1, le=100, description="How many items at most.")
    include: tuple[Literal["titles", "reasons"], ...] = Field(
        (), max_length=10, description="What else to tell of every item."
    )
    exclude: tuple[Id, ...] = Field((), max_length=1000, description="Items not to return; seen ones never are.")


class ReasonGiven(Contract):
    """Why an item is in the list."""

    code: str = Field(description="For programs; docs/api.md lists them.")
    text: str = Field(description="For people.")
    item_id: str | None = Field(None, description="The item that the text speaks of.")
    weight: float | None = Field(None, description="Comparable among reasons of one code in one answer.")


class RecommendedItem(Contract):
    """One item of a list. Scores order the items of one answer; across answers they mean nothing."""

    item_id: str
    rank: int = Field(ge=1)
    score: float
    p_click: float | None = Field(None, description="Probability of a click, where the release predicts it.")
    watch_s: float | None = Field(None, description="Expected seconds of watching, where the release predicts them.")
    title: str | None = Field(None, description="With include=titles, where the item has one.")
    reason: Literal["history", "popular", "new"] | None = Field(
        None, description="With include=reasons: chosen by what the user did, because many like it, or to be tried out."
    )
    reasons: tuple[ReasonGiven, ...] | None = Field(None, description="With include=reasons: why, most telling first.")


class RecommendationsAnswer(PredictionAnswer):
    """A list of items, best first, and who made it."""

    items: tuple[RecommendedItem, ...]
    cold: bool = Field(
        description="True where nothing usable is known of the user: everybody in their context gets this list."
    )


class FieldFault(Contract):
    """What is wrong with one field."""

    field: str = Field(description="Path in the body, such as exclude.3; empty for the body itself.")
    reason: str


class EventsRequest(ApiRequest):
    """What users did. Each event is checked by itself, so that a bad one does not hold up the others."""

    events: tuple[dict[str, Any], ...] = Field(min_length=1, max_length=500)


class RejectedEvent(Contract):
    """An event that was not taken."""

    index: int = Field(ge=0, description="Its place in the request, from 0.")
    event_id: str | None
    errors: tuple[FieldFault, ...]
    retry: bool = Field(description="True: nothing is wrong with it, send it again.")


class EventsAnswer(Contract):
    """What became of a batch of events."""

    accepted: int = Field(ge=0, description="Events queued, and repetitions of those.")
    rejected: tuple[RejectedEvent, ...]


class Problem(Contract):
    """An error as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[FieldFault, ...] = ()
