"""Trees and the cross network of clicks, and what every job of clicks ends with."""

from __future__ import annotations

from dataclasses import replace

import clicks_folder
import numpy as np
import pytest
import torch
from clicks_folder import HASHED

from twinloop.evaluation.probability import auc, log_loss
from twinloop.training.artefact import session
from twinloop.training.calibration import IDENTITY, chances, fit_isotonic, sampling_offset
from twinloop.training.click_graph import Always, ask, click_graph, measured
from twinloop.training.click_trees import count, fit_trees
from twinloop.training.clicks import open_clicks
from twinloop.training.cross_network import Learner, Shape, best_epochs
from twinloop.training.standard import Standard

TREES = {"eta": 0.2, "max_depth": 3, "min_child_weight": 5, "nthread": 1, "seed": 0}
QUICK = Shape(learning_rate=5e-3, batch=128, dropout=0.0, hidden=16)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    opened = open_clicks(clicks_folder.simple(tmp_path_factory.mktemp("models") / "s"))
    return opened.train(), opened.read("test")


def trees(rows, **how):
    settings = {"rounds": 40, "patience": 5, "weight": 20.0} | how
    return fit_trees(rows, HASHED.buckets, TREES, **settings)


def network(rows, epochs=6, **how):
    learner = Learner(rows, HASHED.buckets, replace(QUICK, **how), seed=0)
    for _ in range(epochs):
        learner.epoch()
    return learner


def strange(rows):
    """Ids that nobody met, and features that are not known or out of all bounds."""
    known = rows.known.copy()
    known[::3], known[1::3] = np.nan, 3e38
    return replace(rows, ids=np.full_like(rows.ids, HASHED.buckets - 1), known=known)


@pytest.mark.parametrize("fit", [lambda rows: trees(rows)[0], network], ids=["trees", "network"])
def test_it_learns_the_cross_and_its_graph_says_the_same(fit, parts):
    train, test = parts
    model = fit(train)
    said = model.log_odds(test)
    assert auc(test.clicked, said) > 0.8
    base = log_loss(test.clicked, np.full(len(test), train.clicked.mean()))
    assert log_loss(test.clicked, chances(said)) < 0.85 * base
    calibration = fit_isotonic(said, test.clicked.astype(np.float64))
    exported = click_graph(model, calibration, fields=5, known=2)
    assert exported == click_graph(model, calibration, fields=5, known=2)
    opened = session(exported)
    assert [entry.name for entry in opened.get_outputs()] == ["click"]
    for rows in (test, test.take(np.arange(1)), test.take(np.arange(0)), strange(test)):
        found = ask(opened, rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, chances(calibration.apply(model.log_odds(rows))), atol=2e-5)


@pytest.mark.parametrize("fit", [lambda rows: trees(rows)[0], network], ids=["trees", "network"])
@pytest.mark.parametrize("lacks", ["ids", "known"])
def test_either_input_may_be_absent(fit, lacks, parts):
    train, test = (replace(rows, **{lacks: getattr(rows, lacks)[:, :0]}) for rows in parts)
    if lacks == "ids" and fit is network:
        model = Learner(train, 0, QUICK, seed=0)
        model.epoch()
    elif lacks == "ids":
        model = fit_trees(train, 0, TREES, rounds=10, patience=5, weight=20.0)[0]
    else:
        model = fit(train)
    opened = session(click_graph(model, IDENTITY, fields=test.ids.shape[1], known=test.known.shape[1]))
    assert {entry.name for entry in opened.get_inputs()} == {"ids", "known"} - {lacks}
    np.testing.assert_allclose(ask(opened, test), chances(model.log_odds(test)), atol=1e-5)


@pytest.mark.parametrize("fit", [lambda rows: trees(rows)[0], lambda rows: network(rows, 2)], ids=["trees", "network"])
def test_equal_rows_and_seed_give_equal_bytes(fit, parts):
    models = {click_graph(fit(parts[0]), IDENTITY, fields=5, known=2) for _ in range(2)}
    assert len(models) == 1


@pytest.mark.parametrize("fit", [lambda rows: trees(rows)[0], network], ids=["trees", "network"])
def test_a_share_of_what_was_not_clicked_is_put_right(fit, parts):
    train, test = parts
    model = fit(train.thinned(0.4, seed=1))
    wrong = chances(model.log_odds(test)).mean() / test.clicked.mean()
    right = chances(model.log_odds(test) + sampling_offset(0.4)).mean() / test.clicked.mean()
    assert wrong > 1.4
    assert right == pytest.approx(1, abs=0.15)


def test_no_row_is_told_its_own_outcome(parts):
    """Clicks are drawn by coin: what is said of rows that are learnt from must be as empty as of others."""
    train, _ = parts
    coin = replace(train, clicked=(np.random.default_rng(0).random(len(train)) < 0.3).astype(np.float32))
    served, columns = count(coin, HASHED.buckets, weight=1.0)
    user_rate = columns[:, 0]
    assert auc(coin.clicked, user_rate) < 0.53
    assert auc(coin.clicked, served.apply(coin.ids)[:, 0]) > 0.6  # as it would have been
    # All fifths but its own say as much as they are.
    shown = np.expm1(served.apply(coin.ids)[:, 7])
    own = np.expm1(columns[:, 7])
    assert own.mean() / shown.mean() == pytest.approx(0.8, abs=0.01)


def test_validation_says_how_many_trees_and_epochs(parts):
    train, test = parts
    _, best = trees(train, rounds=400, held_out=test)
    assert 1 <= best < 400
    assert trees(train, rounds=7)[1] == 7
    said = []
    learner = Learner(train, HASHED.buckets, replace(QUICK, learning_rate=0.05), seed=0)
    epochs, _least = best_epochs(learner, test, epochs=30, patience=2, say=said.append)
    assert epochs + 2 >= len(said) or epochs == 30
    assert len(said) < 30


def test_where_rows_lose_half_their_weight_the_latest_are_believed(parts):
    """The first half of the rows is clicked always, the other never."""
    train = parts[0]
    half, day = len(train) // 2, 86_400_000
    turned = replace(
        train,
        clicked=(np.arange(len(train)) < half).astype(np.float32),
        times=np.linspace(0, 10 * day, len(train)).astype(np.int64),
        ids=np.zeros_like(train.ids),
        known=np.zeros_like(train.known),
    )
    even, late = (chances(network(turned, 8, half_life_days=days).log_odds(turned)).mean() for days in (0.0, 2.0))
    # Of all weight, the rows of the first five days have 1 / (1 + 2 ** (5 / 2)).
    assert even == pytest.approx(0.5, abs=0.1)
    assert late == pytest.approx(0.15, abs=0.07)


def test_few_rows_are_enough(parts):
    for rows in (parts[0].take(np.arange(1)), parts[0].take(np.arange(3))):
        for model in (trees(rows, rounds=2)[0], network(rows, 1)):
            assert np.isfinite(model.log_odds(parts[1])).all()
            opened = session(click_graph(model, IDENTITY, fields=5, known=2))
            np.testing.assert_allclose(ask(opened, parts[1]), chances(model.log_odds(parts[1])), atol=1e-5)


def test_ids_met_rarely_share_a_vector(parts):
    often = np.bincount(parts[0].ids.reshape(-1), minlength=HASHED.buckets)
    learner = network(parts[0], 1, least=30)
    assert (learner.row_of[often < 30] == 0).all()
    assert sorted(learner.row_of[often >= 30].tolist()) == list(range(1, int((often >= 30).sum()) + 1))


def test_the_baseline_says_one_thing(parts):
    opened = session(click_graph(Always(0.03), IDENTITY, fields=5, known=2))
    assert ask(opened, parts[1]).tolist() == pytest.approx([0.03] * len(parts[1]), rel=1e-5)
    assert len(ask(opened, parts[1].take(np.arange(0)))) == 0
    opened = session(click_graph(Always(0.03), IDENTITY, fields=0, known=2))
    assert [entry.name for entry in opened.get_inputs()] == ["known"]


def test_metrics_that_cannot_be_measured_are_left_out():
    y, p = np.array([0, 1, 1, 0], np.float32), np.array([0.2, 0.7, 0.6, 0.1])
    found = measured(y, p)
    assert set(found) == {"validation_impressions", "log_loss", "ece", "calibration_ratio", "ne", "auc"}
    assert found["auc"] == 1
    assert set(measured(y[:1], p[:1])) == {"validation_impressions", "log_loss", "ece"}
    assert measured(y[:0], p[:0]) == {"validation_impressions": 0.0}


def test_features_that_never_differ_say_nothing():
    standard = Standard.fit(np.array([[1, 5], [2, 5], [np.nan, 5]], np.float32))
    told = standard.apply(np.array([[1.5, 9], [np.nan, np.inf], [1e30, -1]], np.float32))
    assert (told[:, [1, 3]] == 0).all()
    assert told[0, 0] == 0
    assert (told[1] == 0).all()
    assert told[2, 0] == 5
