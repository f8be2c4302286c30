"""The tree ranker's retrieval: its graph against the same in numpy, for any events and any history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinloop.contracts.artefacts import Parity
from twinloop.contracts.signature import CANDIDATES
from twinloop.errors import BadInputError, IntegrityError
from twinloop.training.artefact import prove_parity, session
from twinloop.training.events import Events
from twinloop.training.sources import MAX_ITEMS, Sources, fit_sources, half_scale, retrieval_with_features
from twinloop.training.sources_reference import compare, sources_reference
from twinloop.training.validate import Question, retrieve

DAY_MS = 86_400_000
CONTEXT = ("likes", "idle")


def some_events(seed: int, users: int, items: int, each: int) -> tuple[Events, tuple[tuple[str, ...], ...]]:
    """Users who like what is popular, at random moments of a year, and tags."""
    draw = np.random.default_rng(seed)
    chances = 1 / np.arange(1, items + 1)
    liked = draw.choice(items, users * each, p=chances / chances.sum())
    times = draw.integers(0, 365 * DAY_MS, users * each)
    who = np.repeat(np.arange(users), each)
    events = Events.sort(users=who, items=liked, times=times, n_users=users, n_items=items)
    return events, tuple(("even",) if item % 2 == 0 else ("odd", "strange") for item in range(items))


def a_question(seed: int, items: int, length: int) -> Question:
    draw = np.random.default_rng(seed)
    history = draw.integers(0, items, length)
    times = np.sort(draw.integers(-DAY_MS, 400 * DAY_MS, length)) // 1000
    return Question(history, times, history[:1], draw.normal(size=len(CONTEXT)).astype(np.float32))


def proved(of: Sources, against: Sources, question: Question, tolerance: float = 1e-4) -> Parity:
    graph, names = retrieval_with_features(of, CONTEXT)
    answer = retrieve(session(graph), question)
    return prove_parity(compare(against, names, question, CONTEXT, answer), tolerance=tolerance)


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.sampled_from([1, 2, 3, 20, CANDIDATES, CANDIDATES + 40]),
    st.integers(1, 25),
    st.integers(1, 60),
)
def test_the_graph_answers_what_numpy_answers(seed: int, users: int, items: int, each: int, length: int) -> None:
    sources = fit_sources(*some_events(seed, users, items, each))
    # Single precision over few, nearly equal scores; on real data the difference is a hundredth of this.
    proved(sources, sources, a_question(seed, items, length), tolerance=1e-3)


SOURCES = fit_sources(*some_events(1, 40, 60, 20))
ASKED = a_question(3, 60, 12)


@pytest.mark.parametrize("name", [*(name for name in Sources.__dataclass_fields__)])
def test_a_graph_of_anything_else_has_no_parity(name: str) -> None:
    """Each array that was fitted is seen by the proof."""
    value = getattr(SOURCES, name)
    changed = value + 10.0 * np.arange(value.size).reshape(value.shape) / value.size
    if name in ("edges", "first_seen"):
        changed = value[::-1].copy() if name == "first_seen" else value + 40 * 86_400
    with pytest.raises(IntegrityError, match="differs from the fitted one"):
        proved(replace(SOURCES, **{name: changed.astype(value.dtype)}), SOURCES, ASKED)


def damaged(answer: Mapping[str, NDArray[Any]], column: int, value: float) -> dict[str, NDArray[Any]]:
    features = answer["features"].copy()
    features[7, column] = value
    return {**answer, "features": features}


@pytest.mark.parametrize("value", [np.nan, 12_345.0, -np.inf])
def test_a_wrong_value_in_any_column_is_found(value: float) -> None:
    graph, names = retrieval_with_features(SOURCES, CONTEXT)
    answer = retrieve(session(graph), ASKED)
    prove_parity(compare(SOURCES, names, ASKED, CONTEXT, answer))
    for column in range(len(names)):
        with pytest.raises(IntegrityError, match="differs from the fitted one"):
            prove_parity(compare(SOURCES, names, ASKED, CONTEXT, damaged(answer, column, value)))


def test_a_column_that_the_reference_does_not_know_is_an_error() -> None:
    graph, names = retrieval_with_features(SOURCES, CONTEXT)
    answer = retrieve(session(graph), ASKED)
    with pytest.raises(KeyError, match="another"):
        list(compare(SOURCES, ("another", *names[1:]), ASKED, CONTEXT, answer))
    fewer = {**answer, "features": answer["features"][:, :-1]}
    with pytest.raises(ValueError, match="zip"):
        list(compare(SOURCES, names, ASKED, CONTEXT, fewer))
    with pytest.raises(KeyError, match=r"lacks columns: .*idle"):
        list(compare(SOURCES, names[:-1], ASKED, CONTEXT, fewer))


def test_what_is_known_of_the_user_stands_in_every_row() -> None:
    graph, names = retrieval_with_features(SOURCES, CONTEXT)
    assert names[-2:] == CONTEXT
    rows = retrieve(session(graph), ASKED)["features"][:, -2:]
    assert (rows == ASKED.context).all()
    plain, fewer = retrieval_with_features(SOURCES)
    assert (*fewer, *CONTEXT) == names
    assert "context" not in {entry.name for entry in session(plain).get_inputs()}


def test_counts_past_half_precision_stay_numbers() -> None:
    """70,000 users who like the same two items are more than half precision can count."""
    crowd = np.repeat(np.arange(70_000), 2)
    pair = np.tile([0, 1], 70_000)
    odd = np.array([[0, 2], [1, 3], [2, 3], [3, 4]])
    users, items = np.concatenate([crowd, odd[:, 0]]), np.concatenate([pair, odd[:, 1]])
    events = Events.sort(users=users, items=items, times=1000 * np.arange(len(users)), n_users=70_000, n_items=5)
    sources = fit_sources(events, ((),) * 5)
    assert sources.together.max() > np.finfo(np.float16).max
    question = Question(np.array([0, 2]), np.array([5, 6]), np.array([1]), np.zeros(2, np.float32))
    graph, _ = retrieval_with_features(sources, CONTEXT)
    answer = retrieve(session(graph), question)
    assert np.isfinite(answer["features"]).all()
    assert not np.isnan(answer["scores"]).any()
    assert answer["items"][0] == 1
    proved(sources, sources, question)


def test_scaling_changes_nothing_where_half_precision_is_wide_enough() -> None:
    assert half_scale(np.array([[2.0**15]], np.float32)) == 1
    assert half_scale(np.array([[2.0**15 + 1]], np.float32)) == 2
    assert half_scale(np.array([[-(2.0**20)]], np.float32)) == 32
    assert half_scale(np.zeros((0, 0), np.float32)) == 1


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_sources_that_are_no_numbers_are_refused(value: float) -> None:
    follows = SOURCES.follows.copy()
    follows[1, 2] = value
    with pytest.raises(BadInputError, match="not finite"):
        retrieval_with_features(replace(SOURCES, follows=follows))


def test_a_source_that_says_nothing_is_nothing_and_not_rounding() -> None:
    """Everything was liked once: popularity is the same number everywhere, and its spread is rounding alone."""
    events = Events.sort(users=np.arange(7) // 3, items=np.arange(7), times=np.zeros(7, np.int64), n_users=3, n_items=7)
    sources = fit_sources(events, ((),) * 7)
    question = Question(np.array([0, 1]), np.array([5, 6]), np.array([2]), np.zeros(2, np.float32))
    graph, names = retrieval_with_features(sources, CONTEXT)
    features = retrieve(session(graph), question)["features"]
    assert (features[:, names.index("popularity z")] == 0).all()
    assert not sources_reference(sources, question.history, question.times_s).standard["popularity"].any()


def test_a_catalogue_past_the_limit_says_what_to_use_instead() -> None:
    one = np.zeros(1, np.int64)
    events = Events.sort(users=one, items=one, times=one, n_users=1, n_items=MAX_ITEMS + 1)
    with pytest.raises(BadInputError, match="two_tower"):
        fit_sources(events, ((),) * (MAX_ITEMS + 1))
