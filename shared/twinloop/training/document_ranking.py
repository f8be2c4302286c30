"""Learning to rank what the index and the vectors find: LambdaMART over the features that serving computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from pydantic import Field

from twinloop.contracts.artefacts import Parity
from twinloop.errors import BadInputError
from twinloop.text.fusion import Fusion
from twinloop.text.matching import Matcher, best
from twinloop.text.vectors import similarities
from twinloop.training.config import JobConfig
from twinloop.training.document_vectors import Vectors
from twinloop.training.judged_queries import Labelled, ndcg
from twinloop.training.proof import prove_parity, session
from twinloop.training.query_words import Useful
from twinloop.training.ranker import predict

COMPONENT, USEFUL_FILE = "ranking", "useful.json"
CANDIDATES = 100
_PROVEN = 200  # queries

Floats32 = NDArray[np.float32]


class RankingConfig(JobConfig):
    """Hyperparameters of the ranker's trees."""

    rounds: int = Field(300, ge=1, le=2000, description="Trees; fewer with a greater eta.")
    eta: float = Field(0.05, gt=0, le=1)
    max_depth: int = Field(5, ge=1, le=10)
    min_child_weight: float = Field(1.0, ge=0, description="Sum of second derivatives that a leaf must hold.")
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.5, gt=0, le=1)
    pairs: int = Field(20, ge=1, le=100, description="Top places whose pairs count in a query's gradient.")
    queries: int = Field(6000, ge=1, description="Queries that are learnt from; more only take longer.")


@dataclass(frozen=True)
class Rows:
    """Candidates of queries, one after the other.

    Attributes:
        features: float32[R, F].
        grades: float32[R], how well each answers, 0 to 1.
        sizes: Candidates of each query.
        documents: int64[R].
        whole: Of each query, the grades of everything that answers it, found or not.
    """

    features: Floats32
    grades: Floats32
    sizes: NDArray[np.int64]
    documents: NDArray[np.int64]
    whole: tuple[tuple[float, ...], ...]

    def matrix(self) -> xgb.DMatrix:
        """Return the rows grouped by query."""
        matrix = xgb.DMatrix(self.features, label=self.grades)
        matrix.set_group(self.sizes)
        return matrix


def candidate_rows(
    matcher: Matcher,
    queries: Sequence[Labelled],
    *,
    fusion: Fusion,
    vectors: Vectors | None,
    encoded: Floats32 | None,
    useful: Useful | None = None,
    most: int = CANDIDATES,
) -> Rows:
    """Return the candidates of queries with what a ranker is asked with.

    Args:
        matcher: With what words tell, for queries that it was not learnt from.
        queries: With their answers.
        fusion: How candidates are chosen.
        vectors: Of the documents; None where there are none.
        encoded: The queries' vectors, float32[Q, D].
        useful: For queries that what words tell was learnt from, in the same order: each is asked as if it were new.
        most: Candidates a query.
    """
    places, width = matcher.documents.places, len(matcher.feature_names())
    features, grades, sizes, documents, whole = [], [], [], [], []
    for number, query in enumerate(queries):
        asking = matcher if useful is None else replace(matcher, useful=useful.without(number))
        understood = asking.understand(query.text)
        matched = asking.match(understood)
        similar = None
        if vectors is not None and encoded is not None:
            similar = similarities(encoded[number], vectors.levels, vectors.scales)
        chosen = best(fusion.scores(matched.scores, similar, None), None, most, above=0.0)
        right = {places[item]: grade for item, grade in query.grades.items() if item in places}
        features.append(asking.features(understood, matched, chosen, None if similar is None else similar[chosen]))
        grades.append(np.array([right.get(document, 0.0) for document in chosen.tolist()], np.float32))
        sizes.append(len(chosen))
        documents.append(chosen)
        whole.append(tuple(query.grades.values()))
    return Rows(
        np.concatenate([np.zeros((0, width), np.float32), *features]),
        np.concatenate([np.zeros(0, np.float32), *grades]),
        np.array(sizes, np.int64),
        np.concatenate([np.zeros(0, np.int64), *documents]),
        tuple(whole),
    )


def mean_ndcg(rows: Rows, scores: Floats32) -> float:
    """Return NDCG@10 of scores of rows, mean over the queries; what was not found counts as missed."""
    total, start = 0.0, 0
    for size, whole in zip(rows.sizes.tolist(), rows.whole, strict=True):
        part = slice(start, start + size)
        order = np.argsort(-scores[part], kind="stable")[:10]
        ideal = _dcg(sorted(whole, reverse=True))
        total += _dcg(rows.grades[part][order].tolist()) / ideal if ideal else 0.0
        start += size
    return total / max(len(rows.sizes), 1)


def fit_ranking(config: RankingConfig, rows: Rows) -> xgb.Booster:
    """Return LambdaMART fitted on rows (Burges, 2010; XGBoost's rank:ndcg); gains are the grades themselves.

    Raises BadInputError where no query has an answer among its candidates: there is nothing to learn.
    """
    if not (rows.grades > 0).any():
        raise BadInputError(
            "no judged query finds what answers it, so there is nothing to learn a ranking from; load judgments or "
            "clicks of items that are in the catalogue, or leave this rung out"
        )
    told = {name: getattr(config, name) for name in ("eta", "max_depth", "min_child_weight", "subsample", "seed")}
    told |= {"colsample_bytree": config.colsample_bytree, "objective": "rank:ndcg", "ndcg_exp_gain": False}
    told |= {"lambdarank_pair_method": "topk", "lambdarank_num_pair_per_sample": config.pairs}
    return xgb.train(told, rows.matrix(), config.rounds)


def prove_ranking(model: bytes, booster: xgb.Booster, rows: Rows) -> Parity:
    """Compare the model with the booster on rows that it was not fitted on; raises IntegrityError."""
    opened = session(model)
    ends = np.cumsum(rows.sizes)[:_PROVEN].tolist()
    starts = [0, *ends[:-1]]
    parts = [rows.features[start:end] for start, end in zip(starts, ends, strict=True) if end > start]
    return prove_parity((opened.run(["scores"], {"features": part})[0], predict(booster, part)) for part in parts)


def choose_fusion(
    matcher: Matcher,
    queries: Sequence[Labelled],
    vectors: Vectors,
    encoded: Floats32,
    *,
    say: Callable[[str], None],
) -> tuple[Fusion, dict[str, float]]:
    """Return the best fusion by NDCG@10 of queries, and what each came to.

    `least` is what a document must have that holds no word: more than nine of ten such documents that answer nothing
    have, so that a query of unknown words finds what is near, and nonsense finds nothing.
    """
    ids = [matcher.documents.id(document) for document in range(matcher.documents.size)]
    scores: list[tuple[Floats32, Floats32, Labelled]] = []
    for number, query in enumerate(queries):
        lexical = matcher.match(matcher.understand(query.text)).scores
        scores.append((lexical, similarities(encoded[number], vectors.levels, vectors.scales), query))
    tops = [float(np.partition(similar, -10)[-10:].min()) for _, similar, _ in scores if len(similar) >= 10]
    least = float(np.quantile(tops, 0.25)) if tops else 0.5
    tried = [Fusion("linear", weight, least) for weight in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3)]
    tried += [Fusion("rrf", weight, least) for weight in (0.3, 0.6, 1.0)]
    found: dict[str, float] = {}
    for fusion in tried:
        each = [
            ndcg([ids[place] for place in best(fusion.scores(lexical, similar, None), None, 10, above=0)], query.grades)
            for lexical, similar, query in scores
        ]
        found[f"{fusion.method}_{fusion.weight:g}"] = float(np.mean(each)) if each else 0.0
        say(f"{fusion.method} {fusion.weight:g}: NDCG@10 {found[f'{fusion.method}_{fusion.weight:g}']:.4f}")
    # Of equal ones the first, so that what has no judgments trusts words and a little of the meaning.
    chosen = max(tried, key=lambda fusion: found[f"{fusion.method}_{fusion.weight:g}"]) if scores else tried[1]
    return chosen, found


def _dcg(grades: Sequence[float]) -> float:
    return float(sum(grade / np.log2(place + 2) for place, grade in enumerate(grades[:10])))
