"""POST /v1/ads/predictions: of a user and some ads, how likely each is clicked, what that is worth, and their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, FiniteFloat, field_validator
from pydantic_core import PydanticCustomError

from twinloop.contracts.api import ApiRequest, Id, PredictionAnswer, PredictionRequest
from twinloop.contracts.endpoint import Endpoint, Origin, Question
from twinloop.contracts.model import Contract

if TYPE_CHECKING:  # functions that only know of rows carry no numpy
    from twinloop.systems.ads.serve import Shown

MOST_ADS = 1000


class AskedAd(ApiRequest):
    """An ad that may be shown."""

    ad: Id
    bid: FiniteFloat | None = Field(
        None, ge=0, le=1_000_000, description="What a click is worth, in a unit that all bids of a request share."
    )


class AdsRequest(PredictionRequest):
    """Ask how likely a user clicks each of some ads, and in which order to show them."""

    user_id: Id
    # The least length is checked below: pydantic would count what is left after the ads that it refuses.
    ads: tuple[AskedAd, ...] = Field(
        max_length=MOST_ADS, description="Each ad once.", json_schema_extra={"minItems": 1}
    )
    limit: int | None = Field(
        None, ge=1, le=MOST_ADS, description="How many ads at most; by default all that may be shown."
    )

    @field_validator("ads")
    @classmethod
    def _each_once(cls, ads: tuple[AskedAd, ...]) -> tuple[AskedAd, ...]:
        """Refuse no ad at all, and one that is there twice: it could have two bids, and would be two of one answer."""
        if not ads:
            raise PydanticCustomError("no_ads", "at least 1 ad")
        first: dict[str, int] = {}
        for place, asked in enumerate(ads):
            if (before := first.setdefault(asked.ad, place)) != place:
                raise PydanticCustomError(
                    "ad_twice", "ads.{place}.ad is the same as ads.{before}.ad", {"place": place, "before": before}
                )
        return ads


class RankedAd(Contract):
    """One ad of an answer."""

    ad: str
    rank: int = Field(ge=1)
    p_click: float = Field(ge=0, le=1, description="Calibrated probability that this user clicks it, if it is shown.")
    bid: float | None = Field(None, description="As it was asked with.")
    expected_value: float | None = Field(None, description="bid x p_click, in the bid's unit; where there is a bid.")
    propensity: float | None = Field(
        None,
        description="With which probability the ad has this place, given which ads may be shown; where the policy "
        "explores.",
    )


class AdsAnswer(PredictionAnswer):
    """The ads that may be shown, best first, and who says so."""

    ads: tuple[RankedAd, ...]
    capped: int = Field(ge=0, description="Ads left out: they, or their campaign, were shown to the user often enough.")
    paced: int = Field(ge=0, description="Ads left out: their budget of the day is spent, or nearly.")


def _tell(question: Question, shown: Shown, origin: Origin) -> AdsAnswer:
    del question
    return AdsAnswer(
        ads=tuple(
            RankedAd(
                ad=one.ad,
                rank=rank,
                p_click=one.p_click,
                bid=one.bid,
                expected_value=one.expected_value,
                propensity=one.propensity,
            )
            for rank, one in enumerate(shown.ads, 1)
        ),
        capped=shown.capped,
        paced=shown.paced,
        **origin.told(),
    )


def _log(question: Question, shown: Shown, answer: AdsAnswer) -> dict[str, Any]:
    """Return what is logged of an answer.

    `items`: [ad, what it was ordered by] of each. `p_click`, `bids`: of each; null is no bid. `p_model`: of each, what
    the release itself said, before the offset of what came in lately. `propensities`: of each at its place; null where
    nothing was left to chance. `asked`: how many ads were asked about.
    """
    explored = any(one.propensity is not None for one in shown.ads)
    return {
        "asked": len(question.request.ads),
        "capped": answer.capped,
        "paced": answer.paced,
        "items": [[one.ad, round(one.worth, 9)] for one in shown.ads],
        "p_click": [round(one.p_click, 9) for one in shown.ads],
        "p_model": [round(one.p_model, 9) for one in shown.ads],
        "bids": [one.bid for one in shown.ads],
        "propensities": [round(one.propensity or 0.0, 9) for one in shown.ads] if explored else None,
    }


def _log_shadow(shown: Shown) -> dict[str, Any]:
    return {
        "items": [[one.ad, round(one.worth, 9)] for one in shown.ads],
        "p_click": [round(one.p_click, 9) for one in shown.ads],
    }


def _counts(answer: AdsAnswer) -> Mapping[str, int]:
    return {"Ads": len(answer.ads), "Capped": answer.capped, "Paced": answer.paced}


PREDICTIONS = Endpoint(
    summary="How likely the user clicks each ad, what showing it is worth, and the order to show them in.",
    request=AdsRequest,
    answer=AdsAnswer,
    subject=lambda request: request.user_id,
    tell=_tell,
    log=_log,
    log_shadow=_log_shadow,
    counts=_counts,
)
