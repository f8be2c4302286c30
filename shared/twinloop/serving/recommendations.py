"""The endpoint of systems that recommend items: a user's list, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twinloop.contracts.api import ReasonGiven, RecommendationsAnswer, RecommendationsRequest, RecommendedItem
from twinloop.contracts.endpoint import Endpoint, Origin, Question
from twinloop.contracts.history import History
from twinloop.contracts.system import Asked, Ranked, Reason


class ItemPredictor(Protocol):
    """What a system that recommends items makes of a release."""

    def rank(self, history: History, exclude: Sequence[str], limit: int, *, at_ms: int, asked: Asked) -> Ranked:
        """Rank for a user who did this and asks at a moment; never returns excluded or seen items.

        A predictor whose `asks_known` is true is given `known`, a Knowledge, as well.
        """
        ...

    def popular(self, history: History, exclude: Sequence[str], limit: int) -> Ranked:
        """Return the trivial baseline's list; runs no model."""
        ...

    def title(self, item_id: str) -> str | None:
        """Return an item's title where it has one."""
        ...


def _ask(predictor: Any, question: Question) -> Ranked:
    request = question.request
    reasons = "reasons" in request.include and not question.unseen
    asked = Asked(question.preset, question.seed, request.context, reasons)
    more = {"known": question.known} if getattr(predictor, "asks_known", False) else {}
    found: Ranked = predictor.rank(
        question.history, request.exclude, request.limit, at_ms=question.at_ms, asked=asked, **more
    )
    return found


def _fall_back(predictor: ItemPredictor, question: Question) -> Ranked:
    return predictor.popular(question.history, question.request.exclude, question.request.limit)


def _tell(question: Question, ranked: Ranked, origin: Origin) -> RecommendationsAnswer:
    include = question.request.include
    title = origin.predictor.title
    usual: Any = "popular" if origin.baseline or ranked.cold else "history"
    items = tuple(
        RecommendedItem(
            item_id=item_id,
            rank=place + 1,
            score=score,
            p_click=ranked.p_click[place] if ranked.p_click else None,
            watch_s=ranked.watch_s[place] if ranked.watch_s else None,
            title=title(item_id) if "titles" in include else None,
            reason=None if "reasons" not in include else "new" if any(ranked.tried[place : place + 1]) else usual,
            reasons=_given(ranked.reasons[place]) if ranked.reasons else None,
        )
        for place, (item_id, score) in enumerate(zip(ranked.ids, ranked.scores.tolist(), strict=True))
    )
    return RecommendationsAnswer(
        items=items,
        cold=ranked.cold and not (origin.baseline and question.history),
        **origin.told(),
    )


def _given(reasons: Sequence[Reason]) -> tuple[ReasonGiven, ...]:
    return tuple(ReasonGiven(code=r.code, text=r.text, item_id=r.item_id, weight=r.weight) for r in reasons)


def _log(question: Question, ranked: Ranked, answer: RecommendationsAnswer) -> dict[str, Any]:
    """Return what is logged of a list.

    `p_click`, `watch_s`: of each item, null where the release predicts none. `propensities`: of each item at its place,
    given the preset; null where nothing was left to chance. `tried`: the places, from 0, whose items are being tried
    out.
    """
    return {
        "cold": answer.cold,
        "history_events": len(question.history),
        "items": [[item.item_id, item.score] for item in answer.items],
        "p_click": _rounded(ranked.p_click),
        "watch_s": _rounded(ranked.watch_s),
        "propensities": None if ranked.propensities is None else [round(p, 9) for p in ranked.propensities],
        "tried": [place for place, tried in enumerate(ranked.tried) if tried],
    }


def _rounded(predicted: Sequence[float | None]) -> list[float | None] | None:
    return [None if value is None else round(value, 6) for value in predicted] or None


def _log_shadow(ranked: Ranked) -> dict[str, Any]:
    return {"items": [list(pair) for pair in zip(ranked.ids, ranked.scores.tolist(), strict=True)]}


def _counts(answer: RecommendationsAnswer) -> Mapping[str, int]:
    return {"Cold": int(answer.cold)}


RECOMMENDATIONS = Endpoint(
    summary="Items the user may like next, best first.",
    request=RecommendationsRequest,
    answer=RecommendationsAnswer,
    subject=lambda request: request.user_id,
    ask=_ask,
    fall_back=_fall_back,
    tell=_tell,
    log=_log,
    log_shadow=_log_shadow,
    counts=_counts,
)
