"""Graphs built by hand against the same in numpy, for any history, any exclusions, any catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from twinloop.contracts.signature import CANDIDATES
from twinloop.errors import BadInputError
from twinloop.training import linear
from twinloop.training.artefact import session
from twinloop.training.events import Events
from twinloop.training.graphs import Graph

Asked = tuple[int, list[int], list[int]]


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """A catalogue's size, a history (-1: not known) and what to exclude (-1: nothing)."""
    n = draw(st.sampled_from([1, 2, 5, CANDIDATES, CANDIDATES + 30]))
    some = st.lists(st.integers(-1, n - 1), min_size=1, max_size=12)
    return n, draw(some), draw(some)


def answer(model: bytes, history: list[int], exclude: list[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    feed = {"history": history, "times": range(len(history)), "exclude": exclude}
    items, scores = session(model).run(
        ["items", "scores"], {name: np.array(value, np.int64) for name, value in feed.items()}
    )
    return items, scores


def check(
    found: tuple[NDArray[np.int64], NDArray[np.float32]], reference: NDArray[np.float32], exclude: list[int]
) -> None:
    """The best of the reference, best first, nothing that is excluded."""
    items, scores = found
    expected = reference.copy()
    expected[[item for item in exclude if item >= 0]] = -np.inf
    assert len(items) == len(set(items.tolist())) == min(CANDIDATES, len(reference))
    np.testing.assert_allclose(scores, expected[items], atol=1e-5)
    np.testing.assert_allclose(scores, np.sort(expected)[::-1][: len(items)], atol=1e-5)


@settings(max_examples=40)
@given(asked())
def test_popularity_is_the_same_list_for_everybody_less_what_is_excluded(case: Asked) -> None:
    n, history, exclude = case
    shares = np.random.default_rng(n).random(n).astype(np.float32)
    check(answer(linear.popularity_graph(shares), history, exclude), shares, exclude)


@settings(max_examples=60)
@given(asked(), st.sampled_from([0.3, 0.9, 1.0]))
def test_ease_is_the_decayed_sum_of_the_historys_rows(case: Asked, decay: float) -> None:
    n, history, exclude = case
    draw = np.random.default_rng(n)
    weights, shares = draw.normal(size=(n, n)).astype(np.float32), draw.random(n).astype(np.float32)
    known = np.array(history)
    reference = linear.ease_reference(weights, decay, shares, known)
    slow = sum((decay**age * weights[item] for age, item in enumerate(history[::-1]) if item >= 0), np.zeros(n))
    np.testing.assert_allclose(reference, slow if (known >= 0).any() else shares, atol=1e-4)
    check(answer(linear.ease_graph(weights, decay, shares), history, exclude), reference, exclude)


def test_equal_graphs_have_equal_bytes() -> None:
    shares = np.ones(3, np.float32)
    assert linear.popularity_graph(shares) == linear.popularity_graph(shares.copy())


def test_epoch_seconds_keep_their_precision() -> None:
    g = Graph("seconds")
    g.output(g.exact(np.array([1_700_000_001.0])), "second", TensorProto.DOUBLE, [1])
    (second,) = session(g.serialise()).run(None, {})
    assert second.tolist() == [1_700_000_001.0]


def events(rows: list[tuple[int, int, int]], n_users: int, n_items: int) -> Events:
    users, items, times = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Events.sort(users=users, items=items, times=times, n_users=n_users, n_items=n_items)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.just(0)), min_size=1), st.floats(1, 500))
def test_ease_solves_its_problem(rows: list[tuple[int, int, int]], l2: float) -> None:
    """The gradient of |X - XB|^2 + l2 |B|^2 is zero off the diagonal, and the diagonal itself is."""
    found = events(rows, 6, 5)
    matrix = found.matrix().toarray().astype(np.float64)
    weights = linear.ease(found, l2)
    gradient = matrix.T @ (matrix @ weights - matrix) + l2 * weights
    np.fill_diagonal(gradient, 0)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)
    assert not np.diag(weights).any()


def test_old_events_count_less_where_there_is_a_half_life() -> None:
    day = 86_400_000
    found = events([(0, 0, 0), (1, 1, 10 * day)], 2, 3)
    np.testing.assert_allclose(linear.popularity(found), [0.5, 0.5, 0])
    np.testing.assert_allclose(linear.popularity(found, half_life_days=10), [1 / 3, 2 / 3, 0], rtol=1e-6)


def test_a_catalogue_too_large_for_a_square_says_what_to_use_instead() -> None:
    found = events([(0, 0, 0)], 1, linear.MAX_ITEMS + 1)
    with pytest.raises(BadInputError, match="two_tower"):
        linear.ease(found, 1.0)
