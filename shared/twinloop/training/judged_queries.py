"""Queries with what answers them: what people judged, and where nobody did what clicks say, freed of places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinloop.training.examined import Observed, Seen, attraction, estimate

if TYPE_CHECKING:  # what builds an index of rows carries no pyarrow
    from twinloop.training.examples import ExamplesSnapshot, Part


@dataclass(frozen=True)
class Labelled:
    """A query with how well documents answer it, 0 to 1; what is not named answers it by 0."""

    text: str
    grades: Mapping[str, float]


def queries_of(snapshot: ExamplesSnapshot, part: Part, *, seen: Observed | None = None) -> list[Labelled]:
    """Return a part's queries of which it is known that something answers them.

    People's judgments count where there are any of a query, as shares of the best grade there is. Of other queries
    the clicks do, freed of the places at which items were shown; see `training/examined.py`. `seen` is what the train
    part's clicks say about places; None estimates it of this part's own.
    """
    table = snapshot.read(part)
    by_query: dict[str, tuple[str, dict[str, float], list[Seen]]] = {}
    for row in table.to_pylist():
        _, grades, clicks = by_query.setdefault(row["group_id"], (row["query"], {}, []))
        if row["grade"] is not None:
            grades[row["item_id"]] = max(float(row["grade"]), grades.get(row["item_id"], 0.0))
        elif row["shown"]:
            clicks.append(Seen(row["group_id"], row["item_id"], row["position"], row["shown"], row["clicked"]))
    best = max((grade for _, grades, _ in by_query.values() for grade in grades.values()), default=0.0) or 1.0
    clicked = {query for query, (_, grades, clicks) in by_query.items() if clicks and not grades}
    looks = [one for query in sorted(clicked) for one in by_query[query][2]]
    attractive = attraction(looks, seen or estimate(looks)) if looks else {}
    made = []
    for query, (text, grades, clicks) in sorted(by_query.items()):
        told = {item: grade / best for item, grade in grades.items()}
        if not told:
            told = {one.item: attractive[query, one.item] for one in clicks if (query, one.item) in attractive}
        told = {item: grade for item, grade in told.items() if grade > 0}
        if told:
            made.append(Labelled(text, told))
    return made


def observed(snapshot: ExamplesSnapshot) -> Observed | None:
    """Return what the clicks of the train part say about places; None where there are none."""
    rows = snapshot.read("train").select(["group_id", "item_id", "position", "shown", "clicked"]).to_pylist()
    looks = [
        Seen(row["group_id"], row["item_id"], row["position"], row["shown"], row["clicked"])
        for row in rows
        if row["shown"]
    ]
    return estimate(looks) if looks else None


def ndcg(ranked: Sequence[str], grades: Mapping[str, float], *, at: int = 10) -> float:
    """Return NDCG of a list with grades as gains; what is not graded gains nothing. 0 where nothing answers."""
    gains = [grades.get(item, 0.0) / math.log2(place + 2) for place, item in enumerate(ranked[:at])]
    ideal = sorted(grades.values(), reverse=True)[:at]
    whole = sum(grade / math.log2(place + 2) for place, grade in enumerate(ideal))
    return sum(gains) / whole if whole else 0.0
