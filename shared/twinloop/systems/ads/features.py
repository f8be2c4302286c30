"""What ads' events mean: what is counted, the features made of it, what came of a showing, and what is hashed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.hashing import Hashed, HashedField
from twinloop.contracts.live import LiveSettings
from twinloop.contracts.outcomes import Outcomes
from twinloop.contracts.segments import segment_value

# An event shows the ad, or says that it was clicked; an impression with `clicked` 0 or 1 says both.
SHOWN_SQL = "(type = 'impression')"
CLICKED_SQL = "(type = 'click' OR coalesce(clicked, 0) = 1)"

MEASURES = ("impressions", "clicks", "spend_milli")  # thousandths, so that sums are exact
MILLI = 1000

# The same rules as `amounts`, for DuckDB; a property test holds the two together.
AMOUNTS_SQL = (
    f"CASE WHEN {SHOWN_SQL} THEN 1 ELSE 0 END",
    f"CASE WHEN {CLICKED_SQL} THEN 1 ELSE 0 END",
    f"CASE WHEN {CLICKED_SQL} AND bid IS NOT NULL THEN floor(bid::DOUBLE * {MILLI} + 0.5) ELSE 0 END",
)


def amounts(event: Mapping[str, Any]) -> tuple[int, ...]:
    """What an event adds to each of `MEASURES`: a click costs what was bid for it."""
    bid, clicked = event.get("bid"), event["type"] == "click" or event.get("clicked") == 1
    shown = event["type"] == "impression"
    return int(shown), int(clicked), math.floor(bid * MILLI + 0.5) if clicked and bid is not None else 0


_PRIOR = 0.02  # clicks of a showing, before anything is known


def _total(name: str, days: float, description: str, *, of: str = "impressions", **more: Any) -> Feature:
    return _counted(name, days, description, kind="total", of=of, **more)


def _click_rate(name: str, days: float, weight: float, description: str, **more: Any) -> Feature:
    """Clicks of a showing; what was shown less often than `weight` is believed to be much like everything else."""
    fields = {"kind": "rate", "of": "clicks", "per": "impressions", "prior": _PRIOR, "weight": weight}
    return _counted(name, days, description, default=_PRIOR, **fields, **more)


def _counted(name: str, days: float, description: str, **more: Any) -> Feature:
    entity = "user_item" if "attribute" in more else "item" if name.startswith("item_") else "user"
    fields = {"entity": entity, "window_days": days, "time_to_live_days": days + 1, "owner": "ads"} | more
    return Feature.model_validate({"name": name, "description": description} | fields)


def _days_since(name: str, of: str, description: str, **more: Any) -> Feature:
    fields = {"kind": "recency", "of": of, "default": 365.0, "time_to_live_days": 365, "owner": "ads"} | more
    return Feature.model_validate({"name": name, "description": f"{description} A year where never."} | fields)


# What policy asks for, whatever the model does.
AD_SHOWN, CAMPAIGN_SHOWN = "user_item_impressions_1d", "user_campaign_impressions_1d"
SPEND, BUDGET = "item_spend_1d", "item_daily_budget"

STORED: tuple[Feature, ...] = (
    _total("user_impressions_1d", 1, "Ads shown to the user since this hour yesterday."),
    _total("user_impressions_7d", 7, "Ads shown to the user in 7 days."),
    _total("user_impressions_30d", 30, "Ads shown to the user in 30 days."),
    _total("user_clicks_1d", 1, "Ads that the user clicked since this hour yesterday.", of="clicks"),
    _total("user_clicks_7d", 7, "Ads that the user clicked in 7 days.", of="clicks"),
    _total("user_clicks_30d", 30, "Ads that the user clicked in 30 days.", of="clicks"),
    _click_rate("user_click_rate_1d", 1, 50.0, "The user's clicks of a showing since this hour yesterday."),
    _click_rate("user_click_rate_7d", 7, 50.0, "The user's clicks of a showing in 7 days."),
    _click_rate("user_click_rate_30d", 30, 50.0, "The user's clicks of a showing in 30 days."),
    _days_since("user_days_since_click", "clicks", "Days since the user clicked any ad.", entity="user"),
    _total("item_impressions_1d", 1, "How often the ad was shown since this hour yesterday."),
    _total("item_impressions_7d", 7, "How often the ad was shown in 7 days."),
    _total("item_impressions_30d", 30, "How often the ad was shown in 30 days."),
    _total("item_clicks_1d", 1, "Clicks on the ad since this hour yesterday.", of="clicks"),
    _total("item_clicks_7d", 7, "Clicks on the ad in 7 days.", of="clicks"),
    _total("item_clicks_30d", 30, "Clicks on the ad in 30 days.", of="clicks"),
    _click_rate("item_click_rate_1d", 1, 200.0, "The ad's clicks of a showing since this hour yesterday."),
    _click_rate("item_click_rate_7d", 7, 200.0, "The ad's clicks of a showing in 7 days."),
    _click_rate("item_click_rate_30d", 30, 200.0, "The ad's clicks of a showing in 30 days."),
    _total(
        SPEND,
        1,
        "What was bid for the ad's clicks since this hour yesterday, in the unit of the bids.",
        of="spend_milli",
        scale=1 / MILLI,
    ),
    Feature(
        name=BUDGET,
        entity="item",
        kind="attribute",
        attribute="daily_budget",
        description="What the ad may cost in a day; -1 where nothing limits it.",
        default=-1.0,
        owner="ads",
    ),
    _total(AD_SHOWN, 1, "How often the ad was shown to the user since this hour yesterday.", attribute="item_id"),
    _total("user_item_impressions_7d", 7, "How often the ad was shown to the user in 7 days.", attribute="item_id"),
    _total("user_item_impressions_30d", 30, "How often the ad was shown to the user in 30 days.", attribute="item_id"),
    _total(
        "user_item_clicks_30d", 30, "How often the user clicked the ad in 30 days.", of="clicks", attribute="item_id"
    ),
    _days_since(
        "user_item_days_since_shown",
        "impressions",
        "Days since the ad was shown to the user.",
        entity="user_item",
        attribute="item_id",
    ),
    _total(
        CAMPAIGN_SHOWN,
        1,
        "How often ads of the campaign were shown to the user since this hour yesterday.",
        attribute="campaign_id",
    ),
    _click_rate(
        "user_campaign_click_rate_30d",
        30,
        20.0,
        "The user's clicks of a showing of the campaign's ads in 30 days.",
        attribute="campaign_id",
    ),
    _click_rate(
        "user_advertiser_click_rate_30d",
        30,
        20.0,
        "The user's clicks of a showing of the advertiser's ads in 30 days.",
        attribute="advertiser_id",
    ),
)

# Advertisers write what they like there. No number, or one so great that it limits nothing, is none.
_BUDGET_SQL = "TRY_CAST(json_extract_string(attributes, '$.daily_budget') AS DOUBLE)"

COUNTING = Counting(
    features=STORED,
    measures=MEASURES,
    amounts=amounts,
    amounts_sql=AMOUNTS_SQL,
    attributes={
        # Of who looks, only what an advertiser may choose an audience by anyway.
        "users": {
            "country": "json_extract_string(extra, '$.country')",
            "age_group": "json_extract_string(extra, '$.age_group')",
        },
        "items": {
            "advertiser_id": "advertiser_id::VARCHAR",
            "campaign_id": "campaign_id::VARCHAR",
            "category": "json_extract_string(attributes, '$.category')",
            "daily_budget": f"CASE WHEN abs({_BUDGET_SQL}) < 1e9 THEN {_BUDGET_SQL} END",
        },
    },
    marks=("item_id", "campaign_id", "advertiser_id"),
    # A frequency cap counts what is remembered of a day: of who is shown more ads than that in one, too little.
    memory={"user": 256, "item": 32},
)

# Where in the application, and on what, the ad is looked at.
CONTEXT = ("page", "slot", "device", "platform")

# What models are asked with besides counters: facts by themselves, and pairs of who looks, what is shown and where. A
# linear model knows of a pair only what it is told as one; a pair of ids has no row of its own in counters.
FIELDS: tuple[HashedField, ...] = (
    HashedField("user", ("user_id",)),
    HashedField("ad", ("item_id",)),
    HashedField("advertiser", ("items.advertiser_id",)),
    HashedField("campaign", ("items.campaign_id",)),
    HashedField("category", ("items.category",)),
    HashedField("country", ("users.country",)),
    HashedField("age_group", ("users.age_group",)),
    *(HashedField(name, (f"context.{name}",)) for name in CONTEXT),
    HashedField("user_advertiser", ("user_id", "items.advertiser_id")),
    HashedField("user_category", ("user_id", "items.category")),
    *(HashedField(f"ad_{name}", (f"context.{name}", "item_id")) for name in ("page", "slot", "device")),
    HashedField("ad_country", ("users.country", "item_id")),
    HashedField("ad_age_group", ("users.age_group", "item_id")),
    HashedField("category_device", ("context.device", "items.category")),
    HashedField("category_country", ("users.country", "items.category")),
    HashedField("category_age_group", ("users.age_group", "items.category")),
    HashedField("place", ("context.page", "context.slot", "context.device")),
)
HASHED = Hashed(fields=FIELDS, buckets=2**20)

_BUSY = ((0, "new"), (20, "light"), (200, "medium"))  # ads shown to the user in 30 days, up to


def slices_of(request: Mapping[str, Any]) -> dict[str, str]:
    """Return what the gate looks at by itself: how many ads the user has been shown, and on what the ad is seen.

    A device that nobody told is one of its own, so that the slice is there whatever the data say.
    """
    shown = request["known"].get("user_impressions_30d") or 0.0
    activity = next((label for most, label in _BUSY if shown <= most), "heavy")
    device = segment_value((request.get("context") or {}).get("device"))
    return {"activity": activity, "device": device or "unknown"}


OUTCOMES = Outcomes(
    shown_sql=SHOWN_SQL,
    labels={"click": f"CASE WHEN {CLICKED_SQL} THEN 1 END"},
    window_minutes=60.0,
    context=CONTEXT,
    texts=(
        "items.advertiser_id",
        "items.campaign_id",
        "items.category",
        "users.country",
        "users.age_group",
    ),
    hashed=HASHED,
    judged=True,
    most_judged=20_000,
    slices_of=slices_of,
)

# Window and ridges are chosen on two days of public data, of pages alone: `python -m benchmarks.ads --choose-live`.
LIVE = LiveSettings(label="click", logged="p_model", facts=CONTEXT, window_hours=6.0, ridge=50.0, ridge_of_value=500.0)
