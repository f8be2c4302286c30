"""What moderation's tables mean: who counts as violating, what people say of texts, and how that becomes examples."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from twinloop.contracts.artefacts import Case
from twinloop.contracts.examples import Examples
from twinloop.contracts.features import Counting, Feature

MEASURES = ("views", "reports", "violations", "restorations")
_TYPES = ("view", "report", "violation", "restoration")
AMOUNTS_SQL = tuple(f"CASE WHEN type = '{kind}' THEN 1 ELSE 0 END" for kind in _TYPES)


def amounts(event: Mapping[str, Any]) -> tuple[int, ...]:
    """What an event adds to each of `MEASURES` of its author."""
    return tuple(int(event["type"] == kind) for kind in _TYPES)


def _total(name: str, of: str, days: float, description: str) -> Feature:
    return Feature(
        name=name,
        entity="user",
        kind="total",
        of=of,
        window_days=days,
        time_to_live_days=days,  # what is older than its window says nothing any more
        description=description,
        owner="moderation",
    )


VIOLATIONS, RESTORATIONS, REPORTS = "author_violations_90d", "author_restorations_90d", "author_reports_7d"

STORED: tuple[Feature, ...] = (
    _total(VIOLATIONS, "violations", 90, "Texts of the author that people found to break the rules in 90 days."),
    _total(RESTORATIONS, "restorations", 90, "Of these, the ones that were overturned since."),
    _total(REPORTS, "reports", 7, "Reports of the author's texts in 7 days."),
    _total("author_reports_90d", "reports", 90, "Reports of the author's texts in 90 days."),
    _total("author_views_7d", "views", 7, "Views of the author's texts in 7 days."),
)

COUNTING = Counting(
    features=STORED,
    measures=MEASURES,
    amounts=amounts,
    amounts_sql=AMOUNTS_SQL,
    attributes={},
    marks=(),
    memory={"user": 64, "item": 8},
)


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that name a group of people, in themselves neither good nor bad: what names one must not be taken for an attack.
_IDENTITY = _listed(
    """
    woman women female girl girls man men gay gays lesbian lesbians bisexual queer trans transgender lgbt black
    blacks white whites asian asians african africans latino latinos latina hispanic hispanics mexican mexicans arab
    arabs jew jews jewish muslim muslims islam islamic christian christians hindu hindus buddhist catholic immigrant
    immigrants migrant migrants refugee refugees disabled deaf blind autistic elderly indian indians chinese
    """
)
# Spellings of African American English, after Blodgett, Green and O'Connor (EMNLP 2016): a text with one of them is not
# for sure in the dialect, and classifiers are known to err against it (Sap et al., ACL 2019).
_DIALECT = _listed(
    """
    finna tryna gon gone gonna ima imma iont ion dat dis dem dey da den wit yo ya yall y'all ain't aint bruh brah
    homie cuz tha bout talmbout deadass lowkey
    """
)
WRONGED = {"identity": "named", "dialect": "marked"}
"""Slices whose false positives are guarded, and who is in each that is to be guarded against others."""
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_SHORT, _LONG = 40, 280


def slices_of(text: str) -> dict[str, str]:
    """Return what the gate looks at by itself: whether people are named, how a text is spelt, how long it is."""
    words = set(_WORD.findall(unicodedata.normalize("NFKC", text[:10_000]).casefold().replace("’", "'")))
    length = len(text)
    return {
        "identity": "named" if words & _IDENTITY else "not named",
        "dialect": "marked" if words & _DIALECT else "unmarked",
        "length": "short" if length <= _SHORT else "medium" if length <= _LONG else "long",
    }


def guarded(example: Mapping[str, Any]) -> list[str]:
    """Return which of the slices an example is in that classifiers are known to wrong."""
    told = slices_of(example["text"] or "")
    return [f"{name}={told[name]}" for name, wronged in WRONGED.items() if told[name] == wronged]


# A label that comes with its text is about that one: the item may be gone, or say something else by now, or more than
# people could read of a long text. Such a text is an example of its own, unless it is the item's.
EXAMPLES_SQL = """
WITH about AS (
    SELECT labels.*,
        CASE WHEN items.text IS DISTINCT FROM labels.text THEN labels.text END AS read
    FROM labels LEFT JOIN items USING (item_id)
), latest AS (
    SELECT item_id, read, label, coalesce(reviewer_id, '') AS reviewer, source,
        max_by(value, (time_ms, value))::DOUBLE AS value, max(time_ms) AS time_ms
    FROM about GROUP BY ALL
), said AS (
    SELECT item_id, read, label,
        coalesce(max_by(value, (time_ms, value)) FILTER (WHERE source = 'appeal'), avg(value)) AS value,
        count(*)::BIGINT AS votes, max(time_ms) AS time_ms
    FROM latest GROUP BY ALL
)
SELECT CASE WHEN read IS NULL THEN item_id ELSE item_id || '-' || md5(read) END AS example_id,
    md5(lower(trim(left(any_value(coalesce(read, items.text)), 10000)))) AS group_id, max(time_ms)::BIGINT AS time_ms,
    any_value(coalesce(read, items.text)) AS text, any_value(author_id) AS author_id,
    list(label ORDER BY label) AS labels, list(value ORDER BY label) AS values, list(votes ORDER BY label) AS votes
FROM said LEFT JOIN items USING (item_id)
WHERE coalesce(read, items.text) IS NOT NULL
GROUP BY item_id, read
"""


def case(group: Sequence[Mapping[str, Any]]) -> Case | None:
    """Return the labelled request of texts that are the same: what all of their labels say together.

    Of long ones that only begin alike, such as a text and what people could read of it, this is the first one's.
    """
    first = group[0]
    if not (first["text"] or "").strip():
        return None
    sums: dict[str, tuple[float, int]] = {}
    for row in (row for row in group if _plain(row["text"]) == _plain(first["text"])):
        for label, value, votes in zip(row["labels"], row["values"], row["votes"], strict=True):
            total, count = sums.get(label, (0.0, 0))
            sums[label] = total + value * votes, count + votes
    truth = {label: total / count for label, (total, count) in sorted(sums.items()) if math.isfinite(total) and count}
    return Case(
        case_id=first["example_id"],
        request={"text": first["text"]},
        truth={"labels": truth},
        slices=slices_of(first["text"]),
    )


def _plain(text: str | None) -> str:
    return (text or "").strip().lower()


# Texts that are the same, or begin with the same 10,000 characters, as one and what the log has of it, are one group:
# nobody learns one of them and is judged by another.
EXAMPLES = Examples(tables=("labels",), sql=EXAMPLES_SQL, case=case, slices=guarded)
