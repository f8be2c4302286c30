"""The lexical index as a component: its files, its model, and the settings of BM25 chosen on queries of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from twinloop.contracts.artefacts import Parity
from twinloop.text.documents import Documents, pack_documents
from twinloop.text.lexical import LexicalIndex, Scoring, bm25_reference, build
from twinloop.text.matching import Matcher, Query, Score, best
from twinloop.text.spelling import Spelling, pack_pairs
from twinloop.training.corpus import Corpus
from twinloop.training.graphs import Graph
from twinloop.training.judged_queries import Labelled
from twinloop.training.proof import prove_parity, session

COMPONENT = "index"
LEXICAL_FILE, DOCUMENTS_FILE, SPELLING_FILE = "lexical.bin", "documents.bin", "spelling.bin"
TITLE_WEIGHT = 3.0
_B_TRIED = (0.0, 0.3, 0.5, 0.75)
_FACTORS = (0.5, 0.7, 1.4, 2.0)
_POOL = 150  # documents a query that settings are compared on, by the score to begin with
_LEAST_GAIN = 2e-4
_PROVEN = 20
_PROVEN_DOCUMENTS = 3000

Floats32 = NDArray[np.float32]


def first_scoring(fields: Sequence[str]) -> Scoring:
    """Return the settings to begin with: the title counts three times, lengths as usual."""
    return Scoring(tuple(TITLE_WEIGHT if place == 0 else 1.0 for place in range(len(fields))), (0.75,) * len(fields))


def scoring_graph(documents: int) -> bytes:
    """Return the model of an index: `documents` int64[P], `impacts` float32[P] -> `scores` float32[N], their sums."""
    g = Graph("lexical")
    places = g.input("documents", TensorProto.INT64, ["P"])
    impacts = g.input("impacts", TensorProto.FLOAT, ["P"])
    nothing = g.constant(np.zeros(documents, np.float32))
    g.output(
        g.op("ScatterElements", nothing, places, impacts, axis=0, reduction="add"),
        "scores",
        TensorProto.FLOAT,
        [documents],
    )
    return g.serialise()


def scored_by(model: bytes) -> Score:
    """Return what a `Matcher` asks, answered by the model."""
    opened = session(model)

    def score(documents: NDArray[np.int64], impacts: Floats32) -> Floats32:
        found: Floats32 = opened.run(["scores"], {"documents": documents, "impacts": impacts})[0]
        return found

    return score


def index_files(corpus: Corpus, index: LexicalIndex) -> dict[str, bytes]:
    """Return the files beside the model."""
    return {
        LEXICAL_FILE: index.packed(),
        SPELLING_FILE: pack_pairs(index.terms),
        DOCUMENTS_FILE: pack_documents(
            corpus.ids, corpus.titles, corpus.texts, corpus.categories, corpus.numbers, version=corpus.digest()
        ),
    }


def open_matcher(files: Mapping[str, bytes], useful: Mapping[str, float] | None = None) -> Matcher:
    """Return what asks an index, of its files with `model.onnx` among them; raises IntegrityError."""
    index = LexicalIndex.unpacked(files[LEXICAL_FILE])
    return Matcher(
        index=index,
        documents=Documents(files[DOCUMENTS_FILE]),
        spelling=Spelling(index, files[SPELLING_FILE]),
        score=scored_by(files["model.onnx"]),
        useful=useful or {},
    )


def choose_scoring(
    corpus: Corpus, index: LexicalIndex, queries: Sequence[Labelled], *, say: Callable[[str], None]
) -> tuple[Scoring, float]:
    """Return the settings by coordinate ascent on NDCG@10 of queries, and that figure over the pool.

    Field by field the weight is raised and lowered and four values of b are tried, twice round, and what gains is kept.
    A query is looked at over its pool: the best documents by the settings to begin with, and those that answer it.
    """
    start = index.scoring
    matcher = _plain(corpus, index)
    places = {item: number for number, item in enumerate(corpus.ids)}
    norms = [replace(index, scoring=Scoring((1.0,) * len(index.fields), (b,) * len(index.fields))) for b in _B_TRIED]
    parts: list[Floats32] = []  # float32[F, B, K] of each query
    gains: list[tuple[Floats32, float]] = []
    for query in queries:
        right = {places[item]: grade for item, grade in query.grades.items() if item in places}
        understood = matcher.understand(query.text)
        if not right or not understood.asked:
            continue
        pool = np.union1d(best(matcher.match(understood).scores, None, _POOL, above=0.0), list(right)).astype(np.int64)
        per_b = [_by_field(replace(matcher, index=other), understood, pool) for other in norms]
        parts.append(np.stack(per_b, axis=1))
        ideal = np.sort(list(right.values()))[::-1][:10]
        whole = float((ideal / np.log2(np.arange(2, len(ideal) + 2))).sum())
        gains.append((np.array([right.get(int(document), 0.0) for document in pool], np.float32), whole))
    if not parts:
        return start, 0.0

    def measured(weights: NDArray[np.float64], b: NDArray[np.int64]) -> float:
        total = 0.0
        for part, (gain, whole) in zip(parts, gains, strict=True):
            scores = weights.astype(np.float32) @ part[np.arange(len(b)), b]
            order = np.argsort(-scores, kind="stable")[:10]
            total += float((gain[order] / np.log2(np.arange(2, len(order) + 2))).sum()) / whole
        return total / len(parts)

    weights = np.array(start.weights)
    b = np.array([int(np.argmin([abs(value - tried) for tried in _B_TRIED])) for value in start.b])
    reached = measured(weights, b)
    for turn in (1, 2):
        for field in range(len(weights)):
            tried = [(weights[field] * factor, b[field]) for factor in _FACTORS]
            tried += [(weights[field], other) for other in range(len(_B_TRIED)) if other != b[field]]
            for weight, place in tried:
                other_weights, other_b = weights.copy(), b.copy()
                other_weights[field], other_b[field] = weight, place
                score = measured(other_weights, other_b)
                if score > reached + _LEAST_GAIN:
                    reached, weights, b = score, other_weights, other_b
        say(f"turn {turn}: NDCG@10 {reached:.4f} of {len(parts)} queries")
    chosen = Scoring(tuple(round(float(w), 6) for w in weights), tuple(_B_TRIED[place] for place in b), start.k1)
    return chosen, reached


def prove_index(corpus: Corpus, index: LexicalIndex, queries: Sequence[str]) -> Parity:
    """Compare index and model with the formula, on the first documents and some queries; raises IntegrityError.

    An index of those documents alone is made for it: a mean length is one of all documents, so a part has its own.
    """
    words = list(corpus.words(_PROVEN_DOCUMENTS))
    part = build(index.fields, words, index.scoring)
    score = scored_by(scoring_graph(part.size))
    made = Matcher(part, _documents(corpus, len(words)), None, score)
    pairs = []
    for text in queries[:_PROVEN] or corpus.titles[:_PROVEN]:
        understood = made.understand(text)
        asked: dict[str, float] = {}
        for word in understood.asked:
            for term, share in zip(word.ids, word.shares, strict=True):
                asked[part.terms[term]] = asked.get(part.terms[term], 0.0) + share
        pairs.append((made.match(understood).scores, bm25_reference(words, list(asked.items()), index.scoring)))
    return prove_parity(pairs)


def build_index(corpus: Corpus, scoring: Scoring | None = None) -> LexicalIndex:
    """Return the index of a corpus."""
    return build(corpus.fields, corpus.words(), scoring or first_scoring(corpus.fields))


def _plain(corpus: Corpus, index: LexicalIndex) -> Matcher:
    return Matcher(index, _documents(corpus, index.size), None, scored_by(scoring_graph(index.size)))


def _documents(corpus: Corpus, count: int) -> Documents:
    """Return as many of the documents with nothing known of them: scores of BM25 ask for no more."""
    return Documents(pack_documents(corpus.ids[:count], [""] * count, [""] * count, {}, {}, version=""))


def _by_field(matcher: Matcher, understood: Query, pool: NDArray[np.int64]) -> Floats32:
    """Return each field's part of the scores of a pool, float32[F, K]."""
    found = matcher.match(understood).postings
    place = np.full(matcher.index.size, -1, np.int64)
    place[pool] = np.arange(len(pool))
    of = place[found.documents]
    made = np.zeros((len(matcher.index.fields), len(pool)), np.float32)
    np.add.at(made, (found.fields[of >= 0], of[of >= 0]), found.impacts[of >= 0])
    return made
