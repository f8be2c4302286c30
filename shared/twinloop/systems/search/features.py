"""What search learns from: people's judgments, and clicks on lists with the places that they were at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinloop.contracts.artefacts import Case
from twinloop.contracts.examples import Examples

_GROUP = r"lower(trim(regexp_replace(query, '\s+', ' ', 'g')))"

# Put together from our own expressions; no value of data is in it.
SQL = f"""
WITH asked AS (
    SELECT {_GROUP} AS group_id, request_id, min(query) AS query, min(time_ms) AS time_ms,
        arg_min(shown, time_ms) AS shown, arg_min(coalesce("offset", 0), time_ms) AS before
    FROM events WHERE type = 'query' AND request_id IS NOT NULL AND len(shown) > 0 GROUP BY ALL
),
places AS (
    SELECT group_id, request_id, query, time_ms, unnest(shown) AS item_id,
        (before + unnest(range(len(shown))))::INTEGER AS position
    FROM asked
),
clicks AS (
    SELECT DISTINCT request_id, item_id FROM events
    WHERE type = 'click' AND request_id IS NOT NULL AND item_id IS NOT NULL
),
looked AS (
    SELECT group_id, item_id, position, min(query) AS query, min(time_ms) AS time_ms, count(*) AS shown,
        count(clicks.item_id) AS clicked
    FROM places LEFT JOIN clicks USING (request_id, item_id) GROUP BY ALL
),
judged AS (
    SELECT {_GROUP} AS group_id, query, item_id, grade, coalesce(judged_ms, 0) AS time_ms
    FROM judgments
)
SELECT 'judged ' || sha256(query || chr(10) || item_id) AS example_id, group_id, time_ms::BIGINT AS time_ms, query,
    item_id, grade::DOUBLE AS grade, NULL::INTEGER AS position, 0::BIGINT AS shown, 0::BIGINT AS clicked
FROM judged WHERE group_id <> ''
UNION ALL
SELECT 'looked ' || sha256(group_id || chr(10) || item_id || chr(10) || position), group_id, time_ms::BIGINT, query,
    item_id, NULL, position, shown::BIGINT, clicked::BIGINT
FROM looked WHERE group_id <> ''
"""  # noqa: S608
"""An example is a judgment, or how often an item was shown at a place for a query and clicked there.

A group is a query, whatever its case and spaces. A list is known by its `request_id`; only lists of which it is known
what they showed say anything, and places count from the first one of the first page.
"""

PAST = 3  # words, and answers, beyond which slices do not tell


def case_of(rows: Sequence[Mapping[str, Any]]) -> Case | None:
    """Return a query with its judged answers; None where nobody judged any document to answer it."""
    grades: dict[str, float] = {}
    for row in rows:
        if row["grade"] is not None and row["grade"] > 0:
            grades[row["item_id"]] = max(float(row["grade"]), grades.get(row["item_id"], 0.0))
    return labelled_case(rows[0]["group_id"], rows[0]["query"], grades) if grades else None


def labelled_case(case_id: str, query: str, grades: Mapping[str, float]) -> Case:
    """Return the labelled request of a query."""
    words = len(query.split())
    return Case(
        case_id=case_id,
        request={"query": query},
        truth={"grades": dict(grades)},
        slices={
            "words": f"{words}" if words < PAST else f"{PAST} or more",
            "answers": "1" if len(grades) == 1 else "several",
        },
    )


EXAMPLES = Examples(tables=("judgments",), sql=SQL, case=case_of)
