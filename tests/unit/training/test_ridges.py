"""Ridges: each field's weights are held back as much as they differ, and no more."""

import numpy as np
import pytest
from scipy.optimize import minimize

from twinloop.training.clicks import Rows
from twinloop.training.ridges import Problem, Ridges

COUNT = 40_000


def rows_of(seed: int = 3) -> tuple[Rows, np.ndarray]:
    """Few pages that differ much, and many users who hardly do; a feature that says a little; the true log-odds."""
    draw = np.random.default_rng(seed)
    page, user = draw.integers(0, 6, COUNT), draw.integers(0, 2_000, COUNT)
    known = draw.normal(size=(COUNT, 1)).astype(np.float32)
    odds = -1.0 + draw.normal(0, 1.2, 6)[page] + draw.normal(0, 0.15, 2_000)[user] + 0.1 * known[:, 0]
    clicked = (draw.random(COUNT) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    ids = np.stack([page, 100 + user], axis=1).astype(np.int64)
    return Rows(ids, known, clicked, np.arange(COUNT), user), odds


def test_estimated_ridges_are_near_the_inverse_variances_and_the_truth_is_met_better():
    rows, odds = rows_of()
    problem = Problem(rows, rows.known)
    even = ridges = Ridges.even(2, 100.0)
    weights = first = problem.solve(even)
    for _ in range(8):
        ridges = problem.improved(ridges, weights)
        weights = problem.solve(ridges, weights)
    assert ridges.fields[0] < 5, "1 / 1.2 ** 2"
    assert 20 < ridges.fields[1] < 120, "1 / .15 ** 2"
    errors = [float(((problem.log_odds(of) - odds) ** 2).mean()) for of in (first, weights)]
    assert errors[1] < errors[0]
    # Where pages are hardly held back, as many clicks are said of each as came.
    for page in range(6):
        mine = rows.ids[:, 0] == page
        said = 1 / (1 + np.exp(-problem.log_odds(weights)[mine]))
        assert said.sum() == pytest.approx(rows.clicked[mine].sum(), rel=0.02)


def test_it_comes_to_the_optimum_that_lbfgs_comes_to_in_many_more_steps():
    rows, _ = rows_of()
    problem, clicked = Problem(rows, rows.known), rows.clicked.astype(np.float64)
    ridges = Ridges((0.7, 40.0), 10.0)
    held = np.concatenate([np.where(problem.own < 100, 0.7, 40.0), [10.0, 0.0]])

    def cost(weights):
        odds = problem.log_odds(weights)
        slope = 1 / (1 + np.exp(-odds)) - clicked
        gradient = np.concatenate([problem.sums(slope), slope @ problem.dense]) + held * weights
        return (np.logaddexp(0, odds) - clicked * odds).sum() + 0.5 * held @ weights**2, gradient

    weights = problem.solve(ridges)
    settings = {"maxiter": 5_000, "maxfun": 10_000, "gtol": 1e-4, "ftol": 0.0}
    right = minimize(cost, np.zeros(len(weights)), jac=True, method="L-BFGS-B", options=settings)
    assert cost(weights)[0] == pytest.approx(right.fun, abs=1e-4)
    np.testing.assert_allclose(weights, right.x, atol=1e-3)
    # However far off it begins, and whatever order of steps that takes.
    far = problem.solve(ridges, np.random.default_rng(1).normal(0, 8, len(weights)))
    np.testing.assert_allclose(far, weights, atol=1e-3)


def test_a_start_changes_nothing_and_a_field_that_says_nothing_is_held_back_most():
    rows, _ = rows_of()
    silent = Rows(np.column_stack([rows.ids, np.full(COUNT, 9_999)]), rows.known, rows.clicked, rows.times, rows.users)
    problem = Problem(silent, silent.known)
    ridges = Ridges((1.0, 50.0, 50.0), 10.0)
    weights = problem.solve(ridges)
    again = problem.solve(ridges, weights + 0.1)
    np.testing.assert_allclose(problem.log_odds(again), problem.log_odds(weights), atol=2e-3)
    better = problem.improved(ridges, weights)
    assert better.fields[2] == max(better.fields)
    assert all(1.0 <= ridge <= 10_000 for ridge in (*better.fields, better.features))


def test_other_rows_are_asked_as_its_own_and_unknown_ids_say_nothing():
    rows, _ = rows_of()
    problem = Problem(rows, rows.known)
    weights = problem.solve(Ridges.even(2, 30.0))
    np.testing.assert_allclose(problem.asked(weights, rows.ids, rows.known), problem.log_odds(weights), atol=1e-9)
    strange = problem.asked(weights, np.full((2, 2), 77_777), np.zeros((2, 1), np.float32))
    assert strange == pytest.approx(weights[-1])


def test_a_bucket_of_two_fields_is_the_first_ones():
    ids = np.array([[5, 5], [5, 6], [7, 5], [7, 6]])
    problem = Problem(Rows(ids, np.zeros((4, 0), np.float32), np.array([1, 0, 1, 0], np.float32), *[np.arange(4)] * 2),
                      np.zeros((4, 0), np.float32))  # fmt: skip
    held = problem.solve(Ridges((1e9, 1e-3), 1.0))
    assert abs(held[0]) < 1e-6 < abs(held[1])
