"""Calibrations: what they mend, that the graph does the same, and which is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from twinloop.errors import BadInputError
from twinloop.evaluation.probability import log_loss
from twinloop.training.artefact import session
from twinloop.training.calibration import (
    IDENTITY,
    Isotonic,
    Line,
    chances,
    choose,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    sampling_offset,
)
from twinloop.training.graphs import Graph


def exported(calibration, log_odds):
    g = Graph("calibration")
    said = calibration.add(g, g.input("x", TensorProto.FLOAT, ["K"]))
    g.output(said, "y", TensorProto.FLOAT, ["K"])
    return session(g.serialise()).run(["y"], {"x": np.asarray(log_odds, np.float32)})[0]


def drawn(count=20_000, *, seed=0, wrong=lambda x: x):
    """What a model says that is wrong in a given way, and what happened."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2, 1.5, count)
    return wrong(true), (rng.random(count) < chances(true)).astype(np.float64), rng.integers(0, count // 5, count)


@pytest.mark.parametrize("fit", [lambda x, y: IDENTITY, fit_temperature, fit_platt, fit_isotonic])
def test_the_graph_is_the_calibration(fit):
    x, y, _ = drawn(3000, wrong=lambda true: 2 * true + 1)
    calibration = fit(x, y)
    asked = np.concatenate(
        [x, [-1000, -40, -30, 0, 30, 40, 1000], *([calibration.knots] if fit is fit_isotonic else [])]
    )
    asked = asked.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(chances(exported(calibration, asked)), chances(calibration.apply(asked)), atol=1e-5)


def test_each_mends_what_it_is_for():
    x, y, _ = drawn(wrong=lambda true: 3 * true)
    assert fit_temperature(x, y).slope == pytest.approx(1 / 3, rel=0.05)
    x, y, _ = drawn(wrong=lambda true: 2 * true + 3)
    platt = fit_platt(x, y)
    assert platt.slope == pytest.approx(0.5, rel=0.05)
    assert platt.offset == pytest.approx(-1.5, rel=0.06)
    x, y, _ = drawn(wrong=lambda true: np.sign(true + 2) * (true + 2) ** 2)
    fresh, happened, _ = drawn(seed=1, wrong=lambda true: np.sign(true + 2) * (true + 2) ** 2)
    losses = {
        fitted.name: log_loss(happened, chances(fitted.apply(fresh)))
        for fitted in (IDENTITY, fit_temperature(x, y), fit_platt(x, y), fit_isotonic(x, y))
    }
    assert losses["isotonic"] < losses["platt"] - 0.005 < losses["identity"]
    assert chances(fit_isotonic(x, y).apply(fresh)).sum() == pytest.approx(happened.sum(), rel=0.05)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=1, max_size=40))
def test_nothing_is_turned_round_and_nothing_is_certain(rows):
    x, y = np.array([at for at, _ in rows]), np.array([float(clicked) for _, clicked in rows])
    asked = np.sort(np.concatenate([x, np.linspace(-40, 40, 50)]))
    for fit in (fit_temperature, fit_platt, fit_isotonic):
        said = fit(x, y).apply(asked)
        assert np.isfinite(said).all()
        assert (np.diff(said) >= -1e-9).all()
    isotonic = fit_isotonic(x, y)
    assert (np.diff(isotonic.values) <= 20 * np.diff(isotonic.knots) + 1e-9).all()
    assert np.abs(isotonic.values).max() < 8.2  # (40 + r) / (1 - r) where r = 40.5 / 41: 40 rows that agree


def test_isotonic_pools_what_goes_the_wrong_way():
    x, y = np.array([0.0, 1, 2, 3]), np.array([0.0, 1, 0, 1])
    found = fit_isotonic(x, y)
    np.testing.assert_allclose(found.knots, [0, 1.5, 3])
    rate = 2.5 / 5
    np.testing.assert_allclose(chances(found.values), [rate / 2, (1 + rate) / 3, (1 + rate) / 2])
    np.testing.assert_allclose(found.apply(np.array([-9.0, 9.0])), found.values[[0, -1]])
    alike = fit_isotonic(np.zeros(4), y)
    assert alike.knots.tolist() == [0]
    assert exported(alike, [-1, 0, 1]).tolist() == pytest.approx([0, 0, 0])


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda true: true, "identity"),
        (lambda true: 3 * true, "temperature"),
        (lambda true: true + 1, "platt"),
        (lambda true: np.sign(true + 2) * (true + 2) ** 2, "isotonic"),
    ],
)
def test_the_simplest_that_is_good_enough_is_chosen(wrong, name):
    chosen = choose(*drawn(wrong=wrong))
    assert chosen.calibration.name == name
    assert set(chosen.losses) == {"identity", "temperature", "platt", "isotonic"}
    x, y, _ = drawn(wrong=wrong)
    assert log_loss(y, chances(chosen.held_out)) == pytest.approx(chosen.losses[name])
    assert chosen.losses[name] <= log_loss(y, chances(x)) + 1e-12


def test_of_few_clicks_what_is_off_by_more_than_chance_is_not_left_alone():
    rng = np.random.default_rng(2)
    x = np.full(5000, -6.2) + rng.normal(0, 0.3, 5000)
    y = np.zeros(5000)
    y[rng.choice(5000, 30, replace=False)] = 1  # twice and a half as many as said
    chosen = choose(x, y, np.arange(5000))
    assert chosen.calibration.name != "identity"
    assert chances(chosen.calibration.apply(x)).sum() == pytest.approx(30, rel=0.1)


def test_too_little_is_left_alone():
    x, y, users = drawn(30)
    for chosen in (choose(x, y, users), choose(x[:0], y[:0], users[:0]), choose(x, np.zeros(30), users)):
        assert chosen.calibration == IDENTITY
    x, y, _ = drawn(2000)
    assert choose(x, y, np.zeros(2000, np.int64)).calibration == IDENTITY  # one user says nothing of others


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(BadInputError, match="all three"):
        choose(np.zeros(3), np.zeros(2), np.zeros(3, np.int64))
    with pytest.raises(BadInputError, match="not a finite number"):
        choose(np.array([np.nan]), np.zeros(1), np.zeros(1, np.int64))


@given(st.floats(0.001, 0.999), st.floats(0.001, 1))
def test_sampling_is_undone(p, kept):
    log_odds = np.log(p / (1 - p)) + sampling_offset(kept)
    assert chances(np.array([log_odds]))[0] == pytest.approx(p / (p + (1 - p) / kept), rel=1e-9)


def test_clicks_that_were_kept_beside_a_tenth_of_the_rest_are_as_rare_as_they_were():
    rng = np.random.default_rng(0)
    clicked = rng.random(200_000) < 0.02
    kept = clicked | (rng.random(200_000) < 0.1)
    rate = clicked[kept].mean()
    mended = chances(np.array([np.log(rate / (1 - rate)) + sampling_offset(0.1)]))[0]
    assert mended == pytest.approx(clicked.mean(), rel=0.03)


@pytest.mark.parametrize("kept", [0, -1, 1.5, float("nan")])
def test_a_share_is_a_share(kept):
    with pytest.raises(BadInputError, match="above 0 and up to 1"):
        sampling_offset(kept)


def test_knots_far_apart_and_close_together():
    odd = Isotonic(np.array([-30.0, -29.5, 0.0, 30.0]), np.array([-9.0, -1.0, -1.0, 4.0]))
    asked = np.array([-31, -30, -29.75, -29.5, -10, 0, 15, 30], np.float32)
    np.testing.assert_allclose(exported(odd, asked), odd.apply(asked.astype(np.float64)), atol=2e-5)
    assert exported(Line("platt", 0.5, 1.0), [2.0]).tolist() == [2.0]
