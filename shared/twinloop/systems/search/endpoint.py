"""POST /v1/search/results: a query, and filters, to ranked documents with why they are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from twinloop.contracts.api import ApiRequest, Id, Name, PredictionAnswer, PredictionRequest, ReasonGiven
from twinloop.contracts.endpoint import Endpoint, Origin, Question
from twinloop.contracts.model import Contract
from twinloop.errors import BadInputError

if TYPE_CHECKING:  # functions that only know of rows carry no numpy
    from twinloop.systems.search.serve import Results

MOST_RESULTS = 100
DEEPEST = 1000
_LONGEST_LOGGED = 500

Value = Annotated[str, StringConstraints(min_length=1, max_length=256)]

Values = Annotated[tuple[Value, ...], Field(min_length=1, max_length=100)]


class Between(ApiRequest):
    """Bounds of a number, of which there is at least one; both belong to the range."""

    least: FiniteFloat | None = None
    greatest: FiniteFloat | None = None

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        """Refuse what is no range."""
        if self.least is None and self.greatest is None:
            raise PydanticCustomError("no_bound", "needs least, greatest or both")
        if self.least is not None and self.greatest is not None and self.least > self.greatest:
            raise PydanticCustomError("empty_range", "least is greater than greatest")
        return self


class SearchRequest(PredictionRequest):
    """Ask which documents answer a query."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    user_id: Id | None = Field(None, description="Who asks, where that is known: they see one arm all the time.")
    of: dict[Name, Values] = Field(
        default_factory=dict,
        max_length=20,
        description="Category -> values, of which a document must have one, whatever their case and accents.",
    )
    between: dict[Name, Between] = Field(default_factory=dict, max_length=20, description="Number -> bounds.")
    facets: tuple[Name, ...] = Field((), max_length=10, description="Categories whose values to count.")
    limit: int = Field(10, ge=1, le=MOST_RESULTS)
    offset: int = Field(0, ge=0, le=DEEPEST - MOST_RESULTS, description="How many of the best to leave out.")
    include: tuple[Literal["titles", "highlights", "reasons"], ...] = Field(
        ("titles",), max_length=10, description="What else to tell of every document."
    )


class Marked(Contract):
    """A text, and in it the words that were asked for."""

    text: str
    marks: tuple[tuple[int, int], ...] = Field(description="[start, end) of each, in characters of `text`.")


class FoundItem(Contract):
    """One document of an answer. Scores order the documents of one answer; across answers they mean nothing."""

    item_id: str
    rank: int = Field(ge=1)
    score: float
    title: str | None = None
    highlights: dict[str, Marked] | None = Field(None, description="With include=highlights: title, and text.")
    reasons: tuple[ReasonGiven, ...] | None = Field(None, description="With include=reasons: most telling first.")


class FacetValue(Contract):
    """A value of a category, and how many matches have it."""

    value: str
    count: int = Field(ge=1)


class Correction(Contract):
    """A word that no document has, and what it was taken for."""

    word: str
    taken_for: str


class SearchAnswer(PredictionAnswer):
    """The documents that answer a query, best first."""

    items: tuple[FoundItem, ...]
    total: int = Field(
        ge=0,
        description="Documents that pass the filters and hold half of the query; what is only near does not count.",
    )
    facets: dict[str, tuple[FacetValue, ...]] | None = None
    corrections: tuple[Correction, ...] = Field((), description="Words that were taken for others.")
    index_version: str = Field(description="Which items the index was built of.")


def _subject(request: SearchRequest) -> str:
    """Who asks; of somebody unknown the query, so that the same question is answered by the same arm."""
    return request.user_id or f"query: {' '.join(request.query.lower().split())[:200]}"


def _tell(question: Question, found: Results, origin: Origin) -> SearchAnswer:
    """Return the answer; raises BadInputError where the request names what the index does not have."""
    if found.refused is not None:
        raise BadInputError(found.refused)
    request = question.request
    items = tuple(
        FoundItem(
            item_id=one.item_id,
            rank=request.offset + place,
            score=one.score,
            title=one.title if "titles" in request.include else None,
            highlights={name: Marked(text=text.text, marks=text.marks) for name, text in one.highlights.items()}
            or None,
            reasons=tuple(ReasonGiven(code=r.code, text=r.text, weight=r.weight) for r in one.reasons)
            if "reasons" in request.include
            else None,
        )
        for place, one in enumerate(found.items, 1)
    )
    facets = {
        name: tuple(FacetValue(value=value, count=count) for value, count in values)
        for name, values in found.facets.items()
    }
    return SearchAnswer(
        items=items,
        total=found.total,
        facets=facets if request.facets else None,
        corrections=tuple(Correction(word=word, taken_for=term) for word, term in found.corrections),
        index_version=found.index_version,
        **origin.told(),
    )


def _log(question: Question, found: Results, answer: SearchAnswer) -> dict[str, Any]:
    """Return what is logged of an answer.

    `zero`: nothing was found, by any page; `zero_results.py` reports on these. `propensities`: of each item at its
    place; null where nothing was left to chance.
    """
    request = question.request
    return {
        "query": request.query[:_LONGEST_LOGGED],
        "filtered": sorted({*request.of, *request.between}),
        "offset": request.offset,
        "total": answer.total,
        "zero": not answer.items and request.offset == 0,
        "corrections": [[one.word, one.taken_for] for one in answer.corrections],
        "index_version": answer.index_version,
        "items": [[item.item_id, round(item.score, 6)] for item in answer.items],
        "propensities": None if found.propensities is None else [round(p, 6) for p in found.propensities],
    }


def _log_shadow(found: Results) -> dict[str, Any]:
    return {"items": [[one.item_id, round(one.score, 6)] for one in found.items], "total": found.total}


def _counts(answer: SearchAnswer) -> Mapping[str, int]:
    return {"Found": len(answer.items), "ZeroResults": int(not answer.total and not answer.items)}


RESULTS = Endpoint(
    summary="The documents that answer a query, best first.",
    request=SearchRequest,
    answer=SearchAnswer,
    subject=_subject,
    tell=_tell,
    log=_log,
    log_shadow=_log_shadow,
    counts=_counts,
)
