"""Labelled events as lists that were shown with what came of them, and the deployed API in a predictor's place."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import History
from twinloop.contracts.system import Knowledge
from twinloop.errors import BadInputError
from twinloop.evaluation.ranking import mrr, ndcg_at_k
from twinloop.systems.suggestions.endpoint import MOST_ITEMS
from twinloop.systems.suggestions.examples import OUTCOME_HOURS

_WAIT_MS = OUTCOME_HOURS * 3_600_000
_PLACE = {"lat": 90.0, "lon": 180.0}

Row = Mapping[str, Any]


class Ranker(Protocol):
    """Who puts events in an order: a release, or the API."""

    def order(self, body: Mapping[str, Any], known: Knowledge | None = None) -> list[str]:
        """Return the events of a request's body, best first."""
        ...


def cases(rows: Iterable[Row], histories: Callable[[Sequence[str]], Iterable[History]]) -> Iterator[Case]:
    """Yield a case for each list of which somebody said yes to something, and not to all, by its request.

    Args:
        rows: Events as the lake has them: views with their `request_id`, and yeses.
        histories: User ids -> what was known of them before the file, in that order.

    Yields:
        Cases of at most MOST_ITEMS events each. What the user had answered before is no question and left out. A yes
        is owed to the list that it names, else to the latest that showed the event, as in a snapshot's examples.
    """
    lists: defaultdict[str, list[Row]] = defaultdict(list)
    yeses: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["type"] == "view" and row.get("request_id") is not None:
            lists[row["request_id"]].append(row)
        elif row["type"] == "rsvp":
            yeses[row["user_id"], row["item_id"]].append(row)
    shown: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for views in lists.values():
        for view in views:
            shown[view["user_id"], view["item_id"]].append(_ms(view))
    users = sorted({views[0]["user_id"] for views in lists.values()})
    answered = {
        user: {entry.item_id for entry in history} for user, history in zip(users, histories(users), strict=True)
    }
    for request_id in sorted(lists):
        views = sorted(lists[request_id], key=lambda view: (view.get("position") or 0, view["item_id"]))
        if len({view["user_id"] for view in views}) > 1:
            raise BadInputError(f"the request {request_id!r} has views of several users; a list is one user's")
        found = _case(request_id, views, yeses, shown, answered[views[0]["user_id"]])
        if found is not None:
            yield found


def _case(
    request_id: str,
    views: Sequence[Row],
    yeses: Mapping[tuple[str, str], Sequence[Row]],
    shown: Mapping[tuple[str, str], Sequence[int]],
    answered: set[str],
) -> Case | None:
    user, at_ms = views[0]["user_id"], min(_ms(view) for view in views)
    items, came, first = [], [], dict[str, Row]()
    for view in views:
        first.setdefault(view["item_id"], view)
    for view in first.values():
        key, moment = (user, view["item_id"]), _ms(view)
        said = yeses.get(key, ())
        if view["item_id"] in answered or any(_ms(yes) < moment for yes in said):
            continue
        following = min((time for time in shown[key] if time > moment), default=None)
        items.append(view["item_id"])
        if any(_owed(yes, request_id, moment, following) for yes in said):
            came.append(view["item_id"])
    items = items[:MOST_ITEMS]
    came = sorted(set(came).intersection(items))
    if not 0 < len(came) < len(items):
        return None
    request: dict[str, Any] = {"user_id": user, "time_ms": at_ms, "items": items} | _place(views[0].get("context"))
    return Case(case_id=request_id, request=request, truth={"came": came})


def _owed(yes: Row, request_id: str, shown_ms: int, following_ms: int | None) -> bool:
    moment, named = _ms(yes), yes.get("request_id")
    if not shown_ms <= moment < shown_ms + _WAIT_MS:
        return False
    return named == request_id if named is not None else following_ms is None or moment < following_ms


def _place(context: object) -> dict[str, float]:
    """Return where somebody was as their application told it: both numbers, or neither."""
    try:
        told = json.loads(context) if isinstance(context, str) else context
        found = {name: float(told[name]) for name in _PLACE} if isinstance(told, Mapping) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if all(abs(value) <= _PLACE[name] for name, value in found.items()) else {}


def _ms(row: Row) -> int:
    return int(row["time"].timestamp() * 1000)


class Remote:
    """The deployed API as `judge_list` asks it."""

    def __init__(self, ask: Callable[[Mapping[str, Any]], Mapping[str, Any]], case: Case) -> None:
        self._ask = ask
        del case

    def order(self, body: Mapping[str, Any], known: Knowledge | None = None) -> list[str]:
        """Return the API's order of events; it reads the store itself."""
        del known
        return [event["item_id"] for event in self._ask(body)["events"]]


def judge_list(ranker: Ranker, case: Case) -> dict[str, float]:
    """Return NDCG@10 and MRR of a case of `cases`, its events as an answer has them; nothing is tried out in it.

    What the answer leaves out (past, full, off, or not in the release) stands behind what it has.
    """
    asked = {key: case.request[key] for key in ("user_id", "time_ms", "items", *_PLACE) if key in case.request}
    items, came = list(case.request["items"]), set(case.truth["came"])
    ranked = ranker.order(asked | {"limit": MOST_ITEMS, "explore": False}, case.request.get("known"))
    # By id, since the order in which they were shown would be told otherwise.
    ranked += sorted(set(items).difference(ranked))
    return {"ndcg_at_10": ndcg_at_k(ranked, came, 10), "mrr": mrr(ranked, came)}
