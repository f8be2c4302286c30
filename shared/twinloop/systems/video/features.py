"""Video's meaning of events: what speaks for an item, what is counted, and the features computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.outcomes import Outcomes

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


# What an event adds to; a rating of a liked video is a like. Times are whole milliseconds, so that sums are exact.
MEASURES = (
    "impressions",
    "clicks",
    "watches",
    "long_watches",  # as `strength` has it
    "likes",
    "hides",
    "watch_ms",
    "seen_ms",  # of watches with a known duration: watched, rewatching aside
    "duration_ms",  # of the same watches: what there was to see
)

_WATCHED_SQL = "(type = 'watch' AND watch_s IS NOT NULL AND NOT isnan(watch_s::DOUBLE))"
_TIMED_SQL = f"({_WATCHED_SQL} AND duration_s::DOUBLE > 0 AND NOT isnan(duration_s::DOUBLE))"
_WATCH_MS_SQL = "floor(watch_s::DOUBLE * 1000 + 0.5)"
_DURATION_MS_SQL = "floor(duration_s::DOUBLE * 1000 + 0.5)"

# The same rules as `amounts`, for DuckDB; a property test holds the two together.
AMOUNTS_SQL = (
    "CASE WHEN type = 'impression' THEN 1 ELSE 0 END",
    "CASE WHEN type = 'click' THEN 1 ELSE 0 END",
    f"CASE WHEN {_WATCHED_SQL} THEN 1 ELSE 0 END",
    f"CASE WHEN {_WATCHED_SQL} AND ({STRENGTH_SQL}) = 1 THEN 1 ELSE 0 END",
    f"CASE WHEN type = 'like' OR (type = 'rating' AND ({STRENGTH_SQL}) = 1) THEN 1 ELSE 0 END",
    "CASE WHEN type = 'hide' THEN 1 ELSE 0 END",
    f"CASE WHEN {_WATCHED_SQL} THEN {_WATCH_MS_SQL} ELSE 0 END",
    f"CASE WHEN {_TIMED_SQL} THEN least({_WATCH_MS_SQL}, {_DURATION_MS_SQL}) ELSE 0 END",
    f"CASE WHEN {_TIMED_SQL} THEN {_DURATION_MS_SQL} ELSE 0 END",
)


def amounts(event: Mapping[str, Any]) -> tuple[int, ...]:
    """What an event adds to each of `MEASURES`."""
    kind, liked = event["type"], strength(event) == 1.0
    watched = _number(event.get("watch_s")) if kind == "watch" else None
    duration = _number(event.get("duration_s")) if watched is not None else None
    timed = duration is not None and duration > 0
    watch_ms = _whole_ms(watched)
    duration_ms = _whole_ms(duration) if timed else 0
    return (
        int(kind == "impression"),
        int(kind == "click"),
        int(watched is not None),
        int(watched is not None and liked),
        int(kind == "like" or (kind == "rating" and liked)),
        int(kind == "hide"),
        watch_ms,
        min(watch_ms, duration_ms),
        duration_ms,
    )


def _whole_ms(seconds: float | None) -> int:
    return 0 if seconds is None else math.floor(seconds * 1000 + 0.5)


def _total(name: str, of: str, days: float, description: str, **more: Any) -> Feature:
    fields = {"entity": "item" if name.startswith("item_") else "user", "time_to_live_days": days + 1} | more
    return Feature(name=name, kind="total", of=of, window_days=days, description=description, **fields)


def _click_rate(name: str, days: float, description: str, **more: Any) -> Feature:
    """Clicks per impression; what was seen less than 20 times is believed to be much like everything else."""
    return _rate(name, "clicks", "impressions", days, description, prior=0.1, weight=20.0, **more)


def _rate(
    name: str, of: str, per: str, days: float, description: str, *, prior: float, weight: float, **more: Any
) -> Feature:
    fields = {"entity": "item" if name.startswith("item_") else "user", "time_to_live_days": days + 1} | more
    return Feature(
        name=name,
        kind="rate",
        of=of,
        per=per,
        window_days=days,
        description=description,
        prior=prior,
        weight=weight,
        default=prior,
        **fields,
    )


def _share(name: str, attribute: str, prior: float, description: str) -> Feature:
    """Share of watch time; a minute of it is worth the prior."""
    return Feature(
        name=name,
        entity="user_item",
        kind="share",
        of="watch_ms",
        attribute=attribute,
        window_days=30,
        time_to_live_days=31,
        description=description,
        prior=prior,
        weight=60_000.0,
        default=prior,
    )


# What serving can read of a user, an item and the two together beside `FEATURES`; `counting` says how it is kept.
STORED: tuple[Feature, ...] = (
    Feature(
        name="user_last_liked",
        entity="user",
        kind="last_n",
        length=20,
        description="The latest 20 videos that the user liked.",
        time_to_live_days=365,
    ),
    _total("user_impressions_1d", "impressions", 1, "Videos shown to the user since this hour yesterday."),
    _total("user_impressions_7d", "impressions", 7, "Videos shown to the user in 7 days."),
    _total("user_clicks_1d", "clicks", 1, "Videos the user clicked since this hour yesterday."),
    _total("user_clicks_7d", "clicks", 7, "Videos the user clicked in 7 days."),
    _total("user_watches_7d", "watches", 7, "Watches of the user in 7 days."),
    _total("user_watch_s_1d", "watch_ms", 1, "Seconds the user watched since this hour yesterday.", scale=0.001),
    _total("user_watch_s_7d", "watch_ms", 7, "Seconds the user watched in 7 days.", scale=0.001),
    _total("user_hides_30d", "hides", 30, "Videos the user hid in 30 days."),
    _click_rate("user_click_rate_1d", 1, "Clicks per video shown to the user since this hour yesterday."),
    _click_rate("user_click_rate_7d", 7, "Clicks per video shown to the user in 7 days."),
    _rate(
        "user_long_watch_rate_7d",
        "long_watches",
        "watches",
        7,
        "Share of the user's watches in 7 days that went at least half way.",
        prior=0.3,
        weight=10.0,
    ),
    _rate(
        "user_watch_through_7d",
        "seen_ms",
        "duration_ms",
        7,
        "How much of what the user started in 7 days they saw, by time.",
        prior=0.3,
        weight=300_000.0,
    ),
    Feature(
        name="user_days_since_click",
        entity="user",
        kind="recency",
        of="clicks",
        description="Days since the user clicked anything; a year where they never did.",
        default=365.0,
        time_to_live_days=365,
    ),
    Feature(
        name="user_account_age_days",
        entity="user",
        kind="age",
        attribute="registered_ms",
        description="Days since the user registered, where the users' rows say so in `registered_ms`.",
        default=-1.0,
    ),
    _total("item_impressions_1d", "impressions", 1, "How often the video was shown since this hour yesterday."),
    _total("item_impressions_7d", "impressions", 7, "How often the video was shown in 7 days."),
    _total("item_likes_30d", "likes", 30, "Likes of the video in 30 days."),
    _click_rate("item_click_rate_1d", 1, "Clicks per impression of the video since this hour yesterday."),
    _click_rate("item_click_rate_30d", 30, "Clicks per impression of the video in 30 days."),
    _rate(
        "item_long_watch_rate_30d",
        "long_watches",
        "watches",
        30,
        "Share of the video's watches in 30 days that went at least half way.",
        prior=0.3,
        weight=10.0,
    ),
    _rate(
        "item_watch_through_30d",
        "seen_ms",
        "duration_ms",
        30,
        "How much of the video its watchers of 30 days saw, by time.",
        prior=0.3,
        weight=300_000.0,
    ),
    _rate(
        "item_mean_watch_ms_30d",
        "watch_ms",
        "watches",
        30,
        "Milliseconds that a watch of the video took in 30 days.",
        prior=10_000.0,
        weight=5.0,
    ),
    Feature(
        name="item_days_since_shown",
        entity="item",
        kind="recency",
        of="impressions",
        description="Days since the video was last shown to anybody; a year where it never was.",
        default=365.0,
        time_to_live_days=365,
    ),
    Feature(
        name="item_age_days",
        entity="item",
        kind="age",
        attribute="published_ms",
        description="Days since the video was published; -1 where that is unknown.",
        default=-1.0,
    ),
    Feature(
        name="item_duration_s",
        entity="item",
        kind="attribute",
        attribute="duration_s",
        description="The video's length; 0 where it is unknown.",
    ),
    _share("user_author_watch_share_30d", "author_id", 0.02, "Share of the user's watch time on this author's videos."),
    _share("user_tag_watch_share_30d", "tag", 0.1, "Share of the user's watch time on videos of this first tag."),
    _click_rate(
        "user_author_click_rate_30d",
        30,
        "The user's clicks per impression of this author's videos.",
        entity="user_item",
        attribute="author_id",
    ),
    _click_rate(
        "user_tag_click_rate_30d",
        30,
        "The user's clicks per impression of videos of this first tag.",
        entity="user_item",
        attribute="tag",
    ),
    Feature(
        name="user_item_impressions_30d",
        entity="user_item",
        kind="total",
        of="impressions",
        attribute="item_id",
        window_days=30,
        time_to_live_days=31,
        description="How often this video was shown to the user already.",
    ),
    Feature(
        name="user_author_days_since_watch",
        entity="user_item",
        kind="recency",
        of="watches",
        attribute="author_id",
        description="Days since the user watched this author; a year where they never did.",
        default=365.0,
        time_to_live_days=365,
    ),
)

COUNTING = Counting(
    features=STORED,
    measures=MEASURES,
    amounts=amounts,
    amounts_sql=AMOUNTS_SQL,
    attributes={
        "users": {"registered_ms": "TRY_CAST(json_extract_string(extra, '$.registered_ms') AS BIGINT)"},
        "items": {
            "author_id": "author_id::VARCHAR",
            "tag": "tags[1]",
            "duration_s": "duration_s::DOUBLE",
            "published_ms": "published_ms::BIGINT",
        },
    },
    marks=("item_id", "author_id", "tag"),
    # About a hundred videos shown, some of them clicked and watched; on an item, what comes twice comes soon.
    memory={"user": 256, "item": 32},
)

# What becomes of a video that is shown. A watch is reported when it ends, so an impression is waited for as long as
# most videos take.
OUTCOMES = Outcomes(
    shown_sql="type = 'impression'",
    labels={
        "click": "CASE WHEN type = 'click' THEN 1 END",
        "long_watch": f"CASE WHEN type = 'watch' THEN ({STRENGTH_SQL}) END",
        "watch_s": f"CASE WHEN {_WATCHED_SQL} THEN watch_s::DOUBLE END",
    },
    window_minutes=60.0,
    item_facts={"duration_s": "duration_s"},
    # Where in the application, and on what, a list is looked at. Nothing of who looks.
    context=("page", "tab", "slot", "device", "platform", "network"),
)
