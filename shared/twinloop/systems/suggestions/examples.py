"""Views, and what came of them, as examples: one query that knows of each moment only what came before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinloop.contracts.artefacts import Case
from twinloop.contracts.examples import Examples
from twinloop.systems.suggestions.features import FACTS, KNOWN_SQL, PLANS_TOLD_SQL, TURN_SQL

OUTCOME_HOURS = 6  # a yes later than that is not owed to the list
LABEL = "rsvp"
FROM_SQL = tuple(
    name for name in FACTS if name not in ("offset_min", "taste", "organizer_effect")
)  # what Python makes of other columns

_WAIT_MS = OUTCOME_HOURS * 3_600_000
_BEFORE = "ORDER BY time_ms RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"

SQL = f"""
WITH acts AS (
    SELECT event_id, type, time_ms, user_id, item_id, request_id, topics[1] AS topic, organizer_id,
        {TURN_SQL} AS turns
    FROM events LEFT JOIN items USING (item_id) WHERE type <> 'view'
),
answers AS (SELECT * FROM acts WHERE turns AND type IN ('rsvp', 'withdraw', 'decline')),
-- Whoever has said yes before is not asked again; a view of that is no question.
viewed AS (
    SELECT event_id AS example_id, request_id AS group_id, time_ms, user_id, item_id,
        coalesce(position, 0) AS position, context,
        lead(time_ms) OVER (PARTITION BY user_id, item_id ORDER BY time_ms, event_id) AS next_ms
    FROM events WHERE type = 'view' AND request_id IS NOT NULL
),
shown AS (
    SELECT v.*, i.topics[1] AS topic, i.organizer_id, i.lat, i.lon, i.starts_ms, i.time_zone, i.published_ms, i.price,
        i.capacity, coalesce(i.topics, []) AS about, list_distinct(about) AS topics,
        u.lat AS home_lat, u.lon AS home_lon, list_distinct(coalesce(u.topics, [])) AS liked,
        coalesce(u.friends, []) AS friends
    FROM viewed v JOIN items i USING (item_id) LEFT JOIN users u USING (user_id)
    WHERE v.time_ms < i.starts_ms
        AND v.time_ms <= (SELECT max(time_ms) FROM events) - {_WAIT_MS}
        AND NOT EXISTS (
            FROM acts a WHERE a.type = 'rsvp' AND a.user_id = v.user_id AND a.item_id = v.item_id
                AND a.time_ms < v.time_ms)
),
came AS (
    SELECT DISTINCT s.example_id FROM shown s JOIN acts a USING (user_id, item_id)
    WHERE a.type = 'rsvp' AND a.time_ms >= s.time_ms AND a.time_ms < s.time_ms + {_WAIT_MS}
        AND (a.request_id = s.group_id
            OR (a.request_id IS NULL AND (s.next_ms IS NULL OR a.time_ms < s.next_ms)))
),
-- Running sums of what came strictly before, over views and answers in one row each.
moments AS (
    SELECT example_id, time_ms, user_id, item_id, topic, organizer_id, 0 AS yes, 0 AS back, 0 AS no FROM shown
    UNION ALL
    SELECT NULL, time_ms, user_id, item_id, topic, organizer_id, (type = 'rsvp')::INT, (type = 'withdraw')::INT,
        (type = 'decline')::INT FROM answers
),
sums AS (
    SELECT example_id,
        sum(yes) OVER (PARTITION BY item_id {_BEFORE}) AS rsvps,
        sum(back) OVER (PARTITION BY item_id {_BEFORE}) AS withdrawals,
        sum(yes) OVER (PARTITION BY user_id {_BEFORE}) AS user_rsvps,
        CASE WHEN topic IS NOT NULL THEN sum(yes) OVER (PARTITION BY user_id, topic {_BEFORE}) END AS topic_rsvps,
        CASE WHEN organizer_id IS NOT NULL
            THEN sum(yes) OVER (PARTITION BY user_id, organizer_id {_BEFORE}) END AS organizer_rsvps,
        CASE WHEN organizer_id IS NOT NULL
            THEN sum(no) OVER (PARTITION BY user_id, organizer_id {_BEFORE}) END AS organizer_declines
    FROM moments
),
-- What was said before an event's start of whether it takes place, and by how much that changed what was known.
called AS (
    SELECT organizer_id, item_id, time_ms,
        off - lag(off, 1, 0) OVER (PARTITION BY item_id ORDER BY time_ms, type) AS more
    FROM (
        SELECT i.organizer_id, i.item_id, a.time_ms, a.type, (a.type = 'cancel')::INT AS off
        FROM items i JOIN acts a USING (item_id)
        WHERE i.organizer_id IS NOT NULL AND a.type IN ('cancel', 'restore') AND a.time_ms < i.starts_ms)
),
-- An event counts for its organiser from when it begins, and one that is called off from when that is said until it is
-- on again. That a row says it is known of no moment; by the start it is.
ended AS (
    SELECT i.organizer_id, i.starts_ms AS time_ms, coalesce(i.cancelled, false)::INT AS dropped,
        count(*) FILTER (WHERE a.type = 'rsvp' AND a.turns AND a.time_ms < i.starts_ms)
            - count(*) FILTER (WHERE a.type = 'withdraw' AND a.turns AND a.time_ms < i.starts_ms) AS came
    FROM items i LEFT JOIN acts a USING (item_id) WHERE i.organizer_id IS NOT NULL
        AND i.item_id NOT IN (SELECT item_id FROM called GROUP BY item_id HAVING sum(more) > 0)
    GROUP BY i.organizer_id, i.item_id, i.starts_ms, i.cancelled
),
organised AS (
    SELECT NULL AS example_id, organizer_id, time_ms, 1 AS held, greatest(came, 0) * (1 - dropped) AS came, dropped,
        0 AS views, 0 AS yeses FROM ended
    UNION ALL
    SELECT NULL, organizer_id, time_ms, more, 0, more, 0, 0 FROM called WHERE more <> 0
    UNION ALL
    SELECT example_id, organizer_id, time_ms, 0, 0, 0, 1, 0 FROM shown WHERE organizer_id IS NOT NULL
    UNION ALL
    SELECT NULL, organizer_id, time_ms, 0, 0, 0, 0, 1 FROM acts
    WHERE type = 'rsvp' AND turns AND organizer_id IS NOT NULL
),
records AS (
    SELECT example_id, sum(held) OVER (PARTITION BY organizer_id {_BEFORE}) AS organizer_held,
        sum(came) OVER (PARTITION BY organizer_id {_BEFORE}) AS organizer_came,
        sum(dropped) OVER (PARTITION BY organizer_id {_BEFORE}) AS organizer_dropped,
        sum(views) OVER (PARTITION BY organizer_id {_BEFORE}) AS organizer_views,
        sum(yeses) OVER (PARTITION BY organizer_id {_BEFORE}) AS organizer_yeses
    FROM organised
),
-- What a friend said last of an event before the moment, where an answer would be told of it.
plans AS (
    SELECT user_id AS friend_id, item_id, time_ms, type = 'rsvp' AS comes,
        lead(time_ms) OVER (PARTITION BY user_id, item_id ORDER BY time_ms, event_id) AS until_ms
    FROM acts WHERE type IN ('rsvp', 'withdraw')
),
asked AS (
    SELECT example_id, item_id, time_ms, unnest({PLANS_TOLD_SQL}) AS friend_id FROM shown
),
friends_going AS (
    SELECT example_id, count(DISTINCT friend_id) AS friends_going FROM asked a JOIN plans p USING (friend_id, item_id)
    WHERE p.comes AND p.time_ms < a.time_ms AND (p.until_ms IS NULL OR p.until_ms >= a.time_ms)
    GROUP BY example_id
)
SELECT example_id, group_id, s.time_ms, s.user_id, s.item_id, s.organizer_id,
    position::DOUBLE AS position, time_zone,
    (c.example_id IS NOT NULL)::INT::DOUBLE AS {LABEL},
    CASE WHEN told THEN context_lat ELSE home_lat END AS place_lat,
    CASE WHEN told THEN context_lon ELSE home_lon END AS place_lon,
    lat, lon, starts_ms::DOUBLE AS starts_ms, published_ms::DOUBLE AS published_ms, price,
    capacity::DOUBLE AS capacity, coalesce(rsvps, 0)::DOUBLE AS rsvps, coalesce(withdrawals, 0)::DOUBLE AS withdrawals,
    len(s.topics)::DOUBLE AS topics, len(liked)::DOUBLE AS user_topics,
    len(list_intersect(s.topics, liked))::DOUBLE AS topics_shared,
    len({KNOWN_SQL})::DOUBLE AS friends,
    coalesce(friends_going, 0)::DOUBLE AS friends_going, coalesce(user_rsvps, 0)::DOUBLE AS user_rsvps,
    coalesce(topic_rsvps, 0)::DOUBLE AS topic_rsvps, coalesce(organizer_rsvps, 0)::DOUBLE AS organizer_rsvps,
    coalesce(organizer_declines, 0)::DOUBLE AS organizer_declines,
    coalesce(organizer_held, 0)::DOUBLE AS organizer_held, coalesce(organizer_came, 0)::DOUBLE AS organizer_came,
    coalesce(organizer_dropped, 0)::DOUBLE AS organizer_dropped,
    coalesce(organizer_views, 0)::DOUBLE AS organizer_views, coalesce(organizer_yeses, 0)::DOUBLE AS organizer_yeses,
    s.about, liked
FROM (
    SELECT *, context_lat BETWEEN -90 AND 90 AND context_lon BETWEEN -180 AND 180 AS told FROM (
        SELECT *, TRY_CAST(json_extract_string(context, '$.lat') AS DOUBLE) AS context_lat,
            TRY_CAST(json_extract_string(context, '$.lon') AS DOUBLE) AS context_lon FROM shown)
) s
LEFT JOIN came c USING (example_id)
LEFT JOIN (FROM sums WHERE example_id IS NOT NULL) USING (example_id)
LEFT JOIN (FROM records WHERE example_id IS NOT NULL) USING (example_id)
LEFT JOIN friends_going USING (example_id)
"""  # noqa: S608 - our own names and numbers

_ACTIVITY = ((0, "new"), (5, "occasional"))


def case(rows: Sequence[Mapping[str, Any]]) -> Case | None:
    """Return a list that was shown as a labelled request; None where nobody said yes to anything of it, or to all."""
    came = [row["item_id"] for row in rows if row[LABEL]]
    if not came or len(came) == len(rows) or len({row["item_id"] for row in rows}) < len(rows):
        return None
    from twinloop.features import geography as geo  # noqa: PLC0415 - functions that only know of rows carry no numpy

    first = rows[0]
    zones = [row["time_zone"] for row in rows]
    offsets = geo.offsets(zones, [_or_nan(row["lon"]) for row in rows], [row["starts_ms"] for row in rows])
    told = [
        {"item_id": row["item_id"], "about": row["about"], "organizer_id": row["organizer_id"]}
        | {name: row[name] for name in FROM_SQL if row[name] is not None}
        | ({"offset_min": offset} if offset == offset else {})  # noqa: PLR0124 - NaN is not told
        for row, offset in zip(rows, offsets.tolist(), strict=True)
    ]
    said = first["user_rsvps"]
    return Case(
        case_id=first["group_id"],
        request={"user_id": first["user_id"], "time_ms": first["time_ms"], "liked": first["liked"], "events": told},
        truth={"came": came},
        slices={
            "activity": next((label for most, label in _ACTIVITY if said <= most), "regular"),
            "place": "unknown" if first["place_lat"] is None else "known",
        },
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


EXAMPLES = Examples(sql=SQL, case=case, most_cases=5_000)
