"""From a loaded release to the documents that answer a query."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Question
from twinloop.contracts.system import Model, Reason
from twinloop.errors import BadInputError, IntegrityError
from twinloop.systems.search import policy
from twinloop.systems.search.presets import DEFAULT, PRESETS, Preset
from twinloop.text.analysis import nfc, words
from twinloop.text.documents import Documents
from twinloop.text.fusion import Fusion
from twinloop.text.highlight import Passage, passage
from twinloop.text.lexical import LexicalIndex
from twinloop.text.matching import Matched, Matcher, Query, best
from twinloop.text.spelling import Spelling
from twinloop.text.wordpiece import WordPiece

INDEX, ENCODER, VECTORS, RANKING = "index", "encoder", "vectors", "ranking"
LEXICAL_FILE, DOCUMENTS_FILE, SPELLING_FILE = "lexical.bin", "documents.bin", "spelling.bin"
VOCABULARY_FILE, FUSION_FILE, USEFUL_FILE = "vocabulary.txt", "fusion.json", "useful.json"
RANKED = 100
"""Documents that a ranker orders; those after them stay in the order of the fusion, behind."""
_DEEPEST = 1000
_LONGEST_QUERY = 32  # pieces
_FACET_VALUES = 20
_ALIKE = 0.5  # a similarity that is worth telling as a reason
_LOOKED_FOR_SURFACE = 5

Floats32 = NDArray[np.float32]


class FoundDocument(NamedTuple):
    """One document of an answer."""

    item_id: str
    score: float
    title: str
    highlights: Mapping[str, Passage]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Results:
    """What a release makes of a query.

    Attributes:
        items: Best first.
        total: Documents that count as matches.
        facets: Category -> values with how many matches have them.
        corrections: Words, and what they were taken for.
        index_version: Which items the index was built of.
        propensities: With which probability each item is at its place; None where nothing was drawn.
        refused: What is wrong with the request; then there is nothing else.
        degraded: Something was not as usual.
    """

    items: tuple[FoundDocument, ...] = ()
    total: int = 0
    facets: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    corrections: tuple[tuple[str, str], ...] = ()
    index_version: str = ""
    propensities: tuple[float, ...] | None = None
    refused: str | None = None
    degraded: bool = False


class _Order(NamedTuple):
    """Documents best first, with scores that do not rise, and what was found out on the way."""

    documents: NDArray[np.int64]
    scores: Floats32
    asked: Query
    matched: Matched
    similar: Floats32 | None


class SearchPredictor:
    """One release of search.

    Args:
        models: `index`, always; `encoder` and `vectors`, together or not at all; `ranking`, perhaps.

    Raises:
        IntegrityError, NotFoundError: A component is missing, or a file beside it is, or they do not belong together.
    """

    asks_history = False  # what is found depends on nobody's past, so nothing is read of anybody

    def __init__(self, models: Mapping[str, Model]) -> None:
        if INDEX not in models:
            raise IntegrityError(f"a search release needs the component {INDEX!r}")
        if (ENCODER in models) != (VECTORS in models):
            raise IntegrityError(f"a search release has both {ENCODER!r} and {VECTORS!r}, or neither")
        asset = models[INDEX].asset
        index = LexicalIndex.unpacked(asset(LEXICAL_FILE))
        documents = Documents(asset(DOCUMENTS_FILE))
        if index.size != documents.size:
            raise IntegrityError(f"the index has {index.size} documents, the file of documents {documents.size}")
        self._index_model, self._models = models[INDEX], models
        ranking = models.get(RANKING)
        useful = _useful(ranking.asset(USEFUL_FILE)) if ranking is not None else {}
        self._matcher = Matcher(index, documents, Spelling(index, asset(SPELLING_FILE)), self._score, useful)
        self._fusion = Fusion()
        self._cutter: WordPiece | None = None
        if VECTORS in models:
            self._fusion = Fusion.told(_json(models[VECTORS].asset(FUSION_FILE), FUSION_FILE))
            self._cutter = WordPiece(models[ENCODER].asset(VOCABULARY_FILE))
        names = self._matcher.feature_names()
        if ranking is not None and ranking.manifest.feature_names != names:
            raise IntegrityError("the ranker was trained with other fields or numbers than the index has; learn anew")
        # What is computed of an index once is computed now, and not while somebody waits.
        _ = index.ids, index.rarity, index.impacts

    @property
    def index_version(self) -> str:
        """Which items the index was built of."""
        return self._matcher.documents.version

    def answer(self, question: Question) -> Results:
        """Return what answers a query.

        Raises:
            IntegrityError: A model returned what cannot be.
            BadInputError: A model cannot be asked, or there is no such preset.
        """
        preset = _preset(question.preset)
        matcher = self._matcher if preset.spelling else _exact(self._matcher)
        return self._found(question, matcher, meaning=preset.meaning, ranked=True, swap=preset.swap)

    def base(self, question: Question) -> Results:
        """Return the trivial baseline: BM25, whose sums are taken without the model."""
        size = self._matcher.index.size

        def score(places: NDArray[np.int64], impacts: Floats32) -> Floats32:
            return np.bincount(places, impacts, size).astype(np.float32)

        matcher = Matcher(self._matcher.index, self._matcher.documents, self._matcher.spelling, score)
        return self._found(question, matcher, meaning=False, ranked=False, swap=0.0)

    def rank(self, text: str, *, limit: int = 10) -> tuple[str, ...]:
        """Return the ids of the best documents of a query without filters, for the gate."""
        made = self._order(self._matcher, text, None, meaning=True, ranked=True, most=limit)
        return tuple(self._matcher.documents.id(place) for place in made.documents[:limit].tolist())

    def _found(self, question: Question, matcher: Matcher, *, meaning: bool, ranked: bool, swap: float) -> Results:
        request, documents = question.request, matcher.documents
        try:
            allowed = _allowed(request, documents)
        except BadInputError as error:  # the caller's fault, which the next release in the chain would not mend
            return Results(refused=str(error), index_version=documents.version)
        most = request.offset + request.limit
        made = self._order(matcher, request.query, allowed, meaning=meaning, ranked=ranked, most=most)
        everything = np.ones(documents.size, np.bool_) if allowed is None else allowed
        found = policy.matches(made.matched.coverage, made.matched.scores > 0, everything)
        page = slice(request.offset, most)
        drawn = policy.swapped(len(made.documents[page]), swap, "" if request.offset else question.seed)
        order, scores = made.documents[page][drawn.places], made.scores[page]
        wanted = {matcher.index.terms[term] for word in made.asked.asked for term in word.ids}
        items = tuple(
            self._told(matcher, made, request.include, wanted, place=place, score=score)
            for place, score in zip(order.tolist(), scores.tolist(), strict=True)
        )
        return Results(
            items=items,
            total=int(found.sum()),
            facets={name: documents.categories[name].counts(found, most=_FACET_VALUES) for name in request.facets},
            corrections=_corrections(matcher, made.asked, order),
            index_version=documents.version,
            propensities=drawn.propensities,
        )

    def _order(
        self, matcher: Matcher, text: str, allowed: NDArray[np.bool_] | None, *, meaning: bool, ranked: bool, most: int
    ) -> _Order:
        asked = matcher.understand(text)
        matched = matcher.match(asked)
        similar = self._similar(text) if meaning and self._cutter is not None and asked.words else None
        fused = self._fusion.scores(matched.scores, similar, allowed)
        order = best(fused, allowed, min(max(most, RANKED), _DEEPEST), above=0.0)
        scores = fused[order]
        ranking = self._models.get(RANKING) if ranked and meaning else None
        if ranking is not None and len(order):
            head = order[:RANKED]
            near = None if similar is None else similar[head]
            said = ranking.run({"features": matcher.features(asked, matched, head, near)})["scores"]
            if said.shape != head.shape or not np.isfinite(said).all():
                raise IntegrityError(f"{RANKING} returned what are no scores, one a document")
            places = np.argsort(-said, kind="stable")
            # The rest follows below the last that was ranked, by its own order.
            rest = fused[order[RANKED:]]
            below = said.min() - 1 - (rest.max(initial=0) - rest)
            order = np.concatenate([head[places], order[RANKED:]])
            scores = np.concatenate([said[places], below]).astype(np.float32)
        return _Order(order, scores, asked, matched, similar)

    def _score(self, places: NDArray[np.int64], impacts: Floats32) -> Floats32:
        found: Floats32 = self._index_model.run({"documents": places, "impacts": impacts})["scores"]
        return found

    def _similar(self, text: str) -> Floats32:
        """Return how near each document's meaning is to the query's, float32[N]."""
        assert self._cutter is not None  # noqa: S101 - for the reader of types; the caller has looked
        tokens = np.array([self._cutter.ids(text, most=_LONGEST_QUERY)], np.int64)
        vector = self._models[ENCODER].run({"tokens": tokens, "mask": np.ones_like(tokens)})["vectors"][0]
        found: Floats32 = self._models[VECTORS].run({"query": vector})["similarities"]
        if found.shape != (self._matcher.index.size,):
            raise IntegrityError(f"{VECTORS} is of {found.shape} documents, the index of {self._matcher.index.size}")
        return found

    @staticmethod
    def _told(
        matcher: Matcher, found: _Order, include: Sequence[str], wanted: set[str], *, place: int, score: float
    ) -> FoundDocument:
        documents, title = matcher.documents, matcher.documents.title(place)
        highlights: dict[str, Passage] = {}
        if "highlights" in include:
            highlights = {"title": passage(title, wanted, length=500), "text": passage(documents.text(place), wanted)}
        reasons = _reasons(matcher, place, found) if "reasons" in include else ()
        return FoundDocument(documents.id(place), float(score), title, highlights, reasons)


def judge(predictor: SearchPredictor, case: Case) -> dict[str, float]:
    """Return NDCG@10, with grades as gains, and recall of a query over the whole corpus.

    Recall divides by the answers there are, or by ten. Raises BadInputError where the case is none of search's.
    """
    try:
        query, grades = str(case.request["query"]), {str(k): float(v) for k, v in case.truth["grades"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"case {case.case_id!r} is no query of search: {error!r}") from error
    ranked = predictor.rank(query)
    ideal = _dcg(sorted(grades.values(), reverse=True)[:10])
    hits = sum(grades.get(item, 0.0) > 0 for item in ranked)
    right = sum(grade > 0 for grade in grades.values())
    return {
        "ndcg@10": _dcg([grades.get(item, 0.0) for item in ranked]) / ideal if ideal else 0.0,
        "recall@10": hits / max(min(right, 10), 1),
    }


def _dcg(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(place + 2) for place, grade in enumerate(grades))


def _allowed(request: Any, documents: Documents) -> NDArray[np.bool_] | None:
    """Return which documents pass the filters, None where there are none; raises BadInputError."""
    for name in request.facets:
        if name not in documents.categories:
            known = ", ".join(sorted(documents.categories)) or "none"
            raise BadInputError(f"facets: there is no category {name!r}; there are: {known}")
    if not request.of and not request.between:
        return None
    return documents.allowed(
        request.of, {name: (bounds.least, bounds.greatest) for name, bounds in request.between.items()}
    )


def _reasons(matcher: Matcher, place: int, made: _Order) -> tuple[Reason, ...]:
    """Return why a document is there: its words by field, the most telling first, and its meaning."""
    postings, asked, similar = made.matched.postings, made.asked, made.similar
    here = postings.documents == place
    weight: dict[str, float] = {}
    held: dict[str, list[int]] = {}
    for of, term, impact in zip(
        postings.fields[here].tolist(), postings.terms[here].tolist(), postings.impacts[here].tolist(), strict=True
    ):
        name = matcher.index.fields[of]
        weight[name] = weight.get(name, 0.0) + impact
        held.setdefault(name, []).append(term)
    reasons = []
    for name in sorted(weight, key=lambda name: -weight[name]):
        told = ", ".join(asked.asked[term].written for term in sorted(set(held[name])))
        reasons.append(Reason("words", f"{name} has: {told}", weight=round(weight[name], 4)))
    if similar is not None and similar[place] >= _ALIKE:
        reasons.append(Reason("meaning", "its meaning is near the query's", weight=round(float(similar[place]), 4)))
    elif similar is not None and not reasons:
        reasons.append(Reason("meaning", "no word of the query, but a meaning near it", weight=float(similar[place])))
    return tuple(reasons)


def _corrections(matcher: Matcher, asked: Query, order: NDArray[np.int64]) -> tuple[tuple[str, str], ...]:
    """Return words and what they were taken for, as the first documents that have it write it."""
    texts = [nfc(matcher.documents.title(place)) for place in order[:_LOOKED_FOR_SURFACE].tolist()]
    written = {word.term: text[word.start : word.end].lower() for text in reversed(texts) for word in words(text)}
    made = []
    for word in asked.asked:
        if word.corrected:
            terms = [matcher.index.terms[term] for term in word.ids]
            meant = next((term for term in terms if term in written), terms[0])
            made.append((word.written, written.get(meant, meant)))
    return tuple(made)


def _exact(matcher: Matcher) -> Matcher:
    return Matcher(matcher.index, matcher.documents, None, matcher.score, matcher.useful)


def _preset(name: str | None) -> Preset:
    try:
        return PRESETS[name or DEFAULT]
    except KeyError:
        raise BadInputError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}") from None


def _useful(body: bytes) -> dict[str, float]:
    told = _json(body, USEFUL_FILE)
    if not all(isinstance(value, int | float) and 0 <= value < 100 for value in told.values()):
        raise IntegrityError(f"{USEFUL_FILE} holds what is no weight of a word")
    return {word: float(value) for word, value in told.items()}


def _json(body: bytes, name: str) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError as error:
        raise IntegrityError(f"{name} of the release is not JSON") from error
    if not isinstance(told, dict):
        raise IntegrityError(f"{name} of the release is no JSON object")
    return told
