"""What the graph of `sources.py` should answer, once more in numpy and double precision: the proof of its parity.

Nothing here is shared with the graph but the fitted arrays and the choice of columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.signature import FEATURES, ITEMS, SCORES
from twinloop.training.events import Ints
from twinloop.training.sources import AS_IS, BLEND, FLAT, LOWEST_BLEND, UNRANKED, Sources, half_scale
from twinloop.training.validate import Question

_DAY_S = 86_400.0
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Scores of the whole catalogue for one history.

    Attributes:
        raw: Each source's scores, [n].
        standard: The same, less their mean, by their spread; zero where they hardly differ.
        blend: What candidates are chosen by, [n].
    """

    raw: Mapping[str, Doubles]
    standard: Mapping[str, Doubles]
    blend: Doubles


def sources_reference(s: Sources, history: Ints, times_s: Ints) -> Reference:
    """Compute every source's scores for a history of known items, oldest first, and their blend."""
    raw = _scores(s, history, float(times_s[-1]))
    standard = {}
    for name, values in raw.items():
        flat = values.std() <= FLAT * np.abs(values).max()
        standard[name] = np.zeros_like(values) if flat else (values - values.mean()) / (values.std() + 1e-9)
    return Reference(raw, standard, np.sum([standard[name] for name in BLEND], axis=0))


def _scores(s: Sources, history: Ints, now: float) -> dict[str, Doubles]:
    ages = np.arange(len(history))[::-1]
    counts = s.counts.astype(np.float64)

    def rows(matrix: NDArray[np.float32]) -> Doubles:
        scale = half_scale(matrix)
        return (matrix[history] / scale).astype(np.float16).astype(np.float64) * scale

    def faded(values: Doubles, decay: float) -> Doubles:
        return np.asarray(np.power(decay, ages) @ values)

    ease, together, follows = rows(s.ease_400), rows(s.together), rows(s.follows)
    cosine = together / (np.sqrt(counts[history])[:, None] + 1e-9)
    other = np.sqrt(counts) + 1
    shares = together / (counts[history] + 20)[:, None]
    next_shares = follows / (s.follows.sum(axis=1, dtype=np.float64)[history] + 10)[:, None]
    factors, tags = s.factors.astype(np.float64), s.tags.astype(np.float64)
    period = max(int((now >= s.edges).sum()) - 1, 0)
    trend = s.trend[period].astype(np.float64)
    logs = np.log(counts + 1)
    return {
        "ease_400@.97": faded(ease, 0.97),
        "ease_400@.9": faded(ease, 0.9),
        "ease_400@.7": faded(ease, 0.7),
        "ease_400_last5": ease[-5:].sum(axis=0),
        "ease_100@1": rows(s.ease_100).sum(axis=0),
        "cosine@1": cosine.sum(axis=0) / other,
        "cosine@.9": faded(cosine, 0.9) / other,
        "cosine@.7": faded(cosine, 0.7) / other,
        "cosine_max10": cosine[-10:].max(axis=0) / other,
        "cosine_max3": cosine[-3:].max(axis=0) / other,
        "cosine_last10": cosine[-10:].sum(axis=0) / other,
        "together@.9": faded(shares, 0.9),
        "next@.7": faded(next_shares, 0.7),
        "next@.3": faded(next_shares, 0.3),
        "next_rare@.7": faded(next_shares, 0.7) / np.sqrt(counts + 10),
        "factors@1": factors[history].sum(axis=0) @ factors.T,
        "factors@.9": faded(factors[history], 0.9) @ factors.T,
        "tags@.9": faded(tags[history], 0.9) @ tags.T,
        "trend": trend,
        "trend_sharp": s.trend_sharp[period].astype(np.float64),
        "popularity": logs,
        "trend_lift": trend - np.log((counts + 1) / max(counts.sum(), 1.0)),
        "popularity_gap": logs - logs[history][-10:].mean(),
        "age": np.log1p(np.maximum((now - s.first_seen) / _DAY_S, 0)),
    }


def compare(
    s: Sources, names: tuple[str, ...], question: Question, context: tuple[str, ...], answer: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield (what the graph answered, what it should have answered) for a question asked without what was liked.

    Places among the candidates are compared by the values that stand there: of two items that differ by a rounding
    either may come first.

    Args:
        s: What the graph was made of.
        names: The graph's columns.
        question: What was asked.
        context: Names of the user's features, as the graph was told.
        answer: `items`, `scores` and `features`.
    """
    reference = sources_reference(s, question.history, question.times_s)
    items, columns = answer[ITEMS], dict(zip(names, answer[FEATURES].T, strict=True))
    count = len(items)
    blend = reference.blend.copy()
    blend[question.history] = -np.inf
    yield answer[SCORES], blend[items]
    yield answer[SCORES], np.sort(blend)[::-1][:count]

    expected = {f"{name} z": values[items] for name, values in reference.standard.items()}
    expected |= {name: reference.raw[name][items] for name in AS_IS}
    expected["blend"] = np.maximum(blend[items], LOWEST_BLEND)
    expected["blend rank"] = np.arange(count)
    expected["history length"] = np.full(count, np.log1p(len(question.history)))
    expected |= {name: np.full(count, value) for name, value in zip(context, question.context, strict=True)}
    places = {f"{name} rank": name for name in reference.standard if name not in UNRANKED}
    for name in names:  # a column that is not known here is a KeyError: nothing goes unproved
        if name in places:
            among = expected[f"{places[name]} z"]
            yield np.sort(columns[name]), np.arange(count)
            yield among[np.argsort(columns[name])], np.sort(among)[::-1]
        else:
            yield columns[name], expected[name]
    if len(names) != len(expected) + len(places):
        raise KeyError(f"the graph lacks columns: {sorted((expected.keys() | places.keys()) - set(names))}")
