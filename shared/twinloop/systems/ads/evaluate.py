"""Labelled showings as pages with what was clicked, and the deployed API in a predictor's place."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import History
from twinloop.contracts.segments import segment_value
from twinloop.contracts.signature import CLICK
from twinloop.errors import BadInputError
from twinloop.systems.ads.endpoint import MOST_ADS
from twinloop.systems.ads.features import CONTEXT, OUTCOMES, amounts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from twinloop.systems.ads.serve import Moment

UNCAPPED = "no_cap"  # the preset that leaves out no ad that was shown often

PAGE = "ads"  # of a case's request: the ads of a page

Row = Mapping[str, Any]


class Predicting(Protocol):
    """Who says how likely ads are clicked: a release, or the API."""

    def predict(self, ads: Sequence[str], moment: Moment, known: Any) -> ArrayLike:
        """Return p(click) of each ad, NaN where policy leaves it out; `known` is a Knowledge, or None."""
        ...


def cases(rows: Iterable[Row], histories: Callable[[Sequence[str]], Iterable[History]]) -> Iterator[Case]:
    """Yield a case for each page: the ads that a user was shown at a moment in one context, and which were clicked.

    Args:
        rows: Events as the lake has them. A click is owed to the latest showing of the ad to the user within the hour;
            where both name a request, these must be equal.
        histories: Not asked: what is known of users are counters.
    """
    del histories
    pages: defaultdict[tuple[str, int, str, str], dict[str, bool]] = defaultdict(dict)
    shown: defaultdict[tuple[str, str], list[tuple[int, str | None, tuple[str, int, str, str]]]] = defaultdict(list)
    clicks: list[Row] = []
    for row in rows:
        was_shown, was_clicked, _ = amounts(row)
        if was_shown:
            at_ms, request = _ms(row), row.get("request_id")
            page = (row["user_id"], at_ms, request or "", _context(row))
            pages[page][row["item_id"]] = pages[page].get(row["item_id"], False) or bool(was_clicked)
            shown[row["user_id"], row["item_id"]].append((at_ms, request, page))
        elif was_clicked:
            clicks.append(row)
    for showings in shown.values():
        showings.sort(key=lambda one: one[0])
    for row in clicks:
        found = _owed(row, shown.get((row["user_id"], row["item_id"]), []))
        if found is not None:
            pages[found][row["item_id"]] = True
    for page in sorted(pages):
        user_id, at_ms, request, context = page
        clicked = dict(list(pages[page].items())[:MOST_ADS])
        yield Case(
            case_id=f"{request or user_id}-{at_ms}-{context}",
            request={"user_id": user_id, "time_ms": at_ms, "context": json.loads(context), PAGE: list(clicked)},
            truth={CLICK: [float(value) for value in clicked.values()]},
        )


class Remote:
    """The deployed API as `judge_page` asks it: nothing is tried out, and nothing left out for having been seen."""

    def __init__(self, ask: Callable[[Mapping[str, Any]], Mapping[str, Any]], case: Case) -> None:
        self._ask = ask
        del case

    def predict(self, ads: Sequence[str], moment: Moment, known: Any) -> list[float]:
        """Return the API's p(click), as it was put right by what came in lately; it reads the store itself."""
        del known
        body = {"user_id": moment.user_id, "time_ms": moment.at_ms, "context": dict(moment.context)}
        answer = self._ask(body | {"ads": [{"ad": ad} for ad in ads], "preset": UNCAPPED, "explore": False})
        said = {one["ad"]: float(one["p_click"]) for one in answer["ads"]}
        return [said.get(ad, float("nan")) for ad in ads]


def judge_page(predictor: Predicting, case: Case) -> dict[str, float]:
    """Return the metrics of a case of `cases`, as `judge` has them of a bundle, over the ads that policy lets in.

    Raises BadInputError where policy lets in none: then ask in process.
    """
    import numpy as np  # noqa: PLC0415 - functions that only know of rows carry no numpy

    from twinloop.evaluation.bundles import LOG_GAIN  # noqa: PLC0415 - serving answers without metrics
    from twinloop.evaluation.probability import log_loss  # noqa: PLC0415
    from twinloop.systems.ads.serve import Moment  # noqa: PLC0415

    asked = case.request
    moment = Moment(str(asked["user_id"]), asked["context"], int(asked["time_ms"]))
    said = np.asarray(predictor.predict(asked[PAGE], moment, asked.get("known")), np.float64)
    clicked, told = np.asarray(case.truth[CLICK], np.float64), np.isfinite(said)
    if not told.any():
        raise BadInputError(
            f"no ad of {case.case_id!r} may be shown any more, their budgets being spent; ask in process"
        )
    return {LOG_GAIN: -log_loss(clicked[told], said[told])}


def _owed(
    click: Row, showings: Sequence[tuple[int, str | None, tuple[str, int, str, str]]]
) -> tuple[str, int, str, str] | None:
    """Return the page of the showing that a click is owed to."""
    at_ms, request = _ms(click), click.get("request_id")
    for shown_ms, named, page in reversed(showings[: bisect_right(showings, at_ms, key=lambda one: one[0])]):
        if at_ms - shown_ms > OUTCOMES.window_ms:
            return None
        if request is None or named is None or request == named:
            return page
    return None


def _context(row: Row) -> str:
    """Return the facts of a row's moment that models hear, as they hear them, in JSON.

    Events may tell whatever JSON says there; the API takes no lists and objects, and they are heard as nothing.
    """
    told = row.get("context")
    try:
        found = json.loads(told) if isinstance(told, str) else told
    except (ValueError, RecursionError):
        found = None
    heard = {name: segment_value(found.get(name)) for name in CONTEXT} if isinstance(found, Mapping) else {}
    return json.dumps({name: value for name, value in heard.items() if value and _whole(value)}, sort_keys=True)


def _whole(text: str) -> bool:
    """Whether it has no half of a character, which no request can be sent with."""
    return text.encode(errors="replace").decode() == text


def _ms(row: Row) -> int:
    return int(row["time"].timestamp() * 1000)
