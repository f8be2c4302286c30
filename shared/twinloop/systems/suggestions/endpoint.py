"""POST /v1/suggestions/recommendations: upcoming events for a user, a place and a time, best first, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, field_validator, model_validator
from pydantic_core import PydanticCustomError

from twinloop.contracts.api import Id, Name, PredictionAnswer, PredictionRequest, ReasonGiven
from twinloop.contracts.endpoint import Endpoint, Origin, Question
from twinloop.contracts.model import Contract
from twinloop.errors import BadInputError

if TYPE_CHECKING:  # functions that only know of rows carry no numpy
    from twinloop.systems.suggestions.serve import Found

_OFFSET = 23 * 60 + 59
MOST_ITEMS = 100  # that can be asked about by name, and returned


class SuggestionsRequest(PredictionRequest):
    """Ask what somebody may go to. Without a place it is the user's own that counts, and without that no distance."""

    user_id: Id
    lat: FiniteFloat | None = Field(None, ge=-90, le=90, description="Where the user is, degrees north (WGS 84).")
    lon: FiniteFloat | None = Field(None, ge=-180, le=180, description="Degrees east; with lat, or neither.")
    time_zone: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None,
        description="Of the user, IANA: Europe/Berlin. Starts of events without a place are told by it; others by the "
        "clocks of where they are.",
    )
    utc_offset_min: int | None = Field(
        None, ge=-_OFFSET, le=_OFFSET, description="The same as minutes ahead of UTC, where the zone is not known."
    )
    limit: int = Field(20, ge=1, le=MOST_ITEMS, description="How many events at most.")
    radius_km: FiniteFloat | None = Field(
        None, gt=0, le=25_000, description="Nothing farther; by default the preset's."
    )
    days: FiniteFloat | None = Field(None, gt=0, le=366, description="Nothing later; by default the preset's.")
    topics: tuple[Name, ...] | None = Field(
        None, max_length=100, description="What the user likes, for this request; by default what is known of them."
    )
    items: tuple[Id, ...] | None = Field(
        None,
        min_length=1,
        max_length=MOST_ITEMS,
        description="Rank these events alone, of those that may be suggested; by default all that come up.",
    )
    exclude: tuple[Id, ...] = Field(
        (), max_length=1000, description="Events not to return; those that the user answered never are."
    )
    include: tuple[Literal["reasons"], ...] = Field((), max_length=10, description="What else to tell of every event.")

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, name: str | None) -> str | None:
        """Refuse what is no time zone."""
        if name is not None:
            from twinloop.features.geography import zone  # noqa: PLC0415 - see above

            try:
                zone(name)
            except BadInputError as error:
                raise PydanticCustomError("no_time_zone", "{why}", {"why": str(error)}) from error
        return name

    @model_validator(mode="after")
    def _place(self) -> Self:
        """Refuse half a place."""
        if (self.lat is None) != (self.lon is None):
            raise PydanticCustomError("half_a_place", "lat and lon come together: give both, or neither")
        return self


class SuggestedEvent(Contract):
    """One event of an answer. Scores order the events of one answer; across answers they mean nothing."""

    item_id: str
    rank: int = Field(ge=1)
    score: float
    title: str
    starts_ms: int = Field(description="Epoch milliseconds.")
    local_start: str | None = Field(None, description="The same as clocks there show it, ISO 8601 with the offset.")
    distance_km: float | None = Field(None, description="Great circle; where both places are known.")
    travel_min: float | None = Field(None, description="Estimated minutes from door to door; likewise.")
    propensity: float | None = Field(None, description="With which probability it has this place; where it explores.")
    reasons: tuple[ReasonGiven, ...] | None = Field(None, description="With include=reasons: why, most telling first.")


class SuggestionsAnswer(PredictionAnswer):
    """Upcoming events, best first, and who says so."""

    events: tuple[SuggestedEvent, ...]
    placed: bool = Field(description="Whether it is known where the user is; otherwise nothing is near or far.")


def _tell(question: Question, found: Found, origin: Origin) -> SuggestionsAnswer:
    wants = "reasons" in question.request.include
    return SuggestionsAnswer(
        events=tuple(
            SuggestedEvent(
                item_id=one.item_id,
                rank=rank,
                score=one.score,
                title=one.title,
                starts_ms=one.starts_ms,
                local_start=one.local_start,
                distance_km=one.distance_km,
                travel_min=one.travel_min,
                propensity=one.propensity,
                reasons=tuple(ReasonGiven(code=r.code, text=r.text, weight=r.weight) for r in one.reasons)
                if wants
                else None,
            )
            for rank, one in enumerate(found.events, 1)
        ),
        placed=found.placed,
        **origin.told(),
    )


def _log(question: Question, found: Found, answer: SuggestionsAnswer) -> dict[str, Any]:
    """Return what is logged of an answer.

    `items`: [event, score] of each. `distances_km`: of each; null is unknown. `propensities`: of each at its place;
    null where nothing was left to chance. `full`, `off`, `past`: how many events were left out, and why. Of whom the
    user knows, nothing is logged.
    """
    explored = any(one.propensity is not None for one in found.events)
    return {
        "placed": answer.placed,
        "history_events": len(question.history),
        "items": [[one.item_id, round(one.score, 9)] for one in found.events],
        "distances_km": [one.distance_km for one in found.events],
        "propensities": [round(one.propensity or 0.0, 9) for one in found.events] if explored else None,
        "full": found.full,
        "off": found.off,
        "past": found.past,
    }


def _log_shadow(found: Found) -> dict[str, Any]:
    return {"items": [[one.item_id, round(one.score, 9)] for one in found.events]}


def _counts(answer: SuggestionsAnswer) -> Mapping[str, int]:
    return {"Events": len(answer.events), "Placed": int(answer.placed), "Empty": int(not answer.events)}


RECOMMENDATIONS = Endpoint(
    summary="Upcoming events that the user may go to, best first.",
    request=SuggestionsRequest,
    answer=SuggestionsAnswer,
    subject=lambda request: request.user_id,
    tell=_tell,
    log=_log,
    log_shadow=_log_shadow,
    counts=_counts,
)
