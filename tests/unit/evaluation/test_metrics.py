"""Metrics against values worked out by hand, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from twinloop.errors import BadInputError
from twinloop.evaluation.probability import auc, calibration_ratio, ece, log_loss, log_losses, normalised_entropy
from twinloop.evaluation.ranking import coverage, hit_rate_at_k, mrr, ndcg_at_k, recall_at_k

RANKED = ["a", "b", "c", "d"]


def test_ndcg_by_hand():
    found = ndcg_at_k(RANKED, {"b", "d", "z"}, 4)
    assert found == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / math.log2(4)))


def test_ndcg_ideal_has_no_more_places_than_k():
    assert ndcg_at_k(["a", "b"], {"a", "b", "c", "d"}, 2) == 1.0
    assert ndcg_at_k(["a"], {"a"}, 10) == 1.0


def test_recall_divides_by_what_could_be_found():
    assert recall_at_k(RANKED, {"a", "z"}, 4) == 0.5
    assert recall_at_k(RANKED, {"a", "b", "y", "z"}, 2) == 1.0
    assert recall_at_k([], {"a"}, 20) == 0.0


def test_hits_and_reciprocal_ranks():
    assert hit_rate_at_k(RANKED, {"c"}, 2) == 0.0
    assert hit_rate_at_k(RANKED, {"c"}, 3) == 1.0
    assert mrr(RANKED, {"c", "d"}) == pytest.approx(1 / 3)
    assert mrr(RANKED, {"c"}, 2) == 0.0
    assert mrr(RANKED, {"z"}) == 0.0


def test_coverage():
    assert coverage([["a", "b"], ["b"]], 4) == 0.5
    assert coverage([], 4) == 0.0
    with pytest.raises(BadInputError):
        coverage([], 0)


@pytest.mark.parametrize("metric", [ndcg_at_k, recall_at_k, hit_rate_at_k, mrr])
def test_what_cannot_be_scored_is_refused(metric):
    for ranked, relevant, k in ((RANKED, set(), 3), (RANKED, {"a"}, 0), (["a", "a"], {"a"}, 2)):
        with pytest.raises(BadInputError):
            metric(ranked, relevant, k)


@given(
    st.permutations([str(n) for n in range(12)]),
    st.sets(st.sampled_from([str(n) for n in range(12)]), min_size=1),
    st.integers(1, 12),
)
def test_ndcg_is_that_of_scikit_learn(ranked, relevant, k):
    truth = [[float(item in relevant) for item in ranked]]
    assert ndcg_at_k(ranked, relevant, k) == pytest.approx(metrics.ndcg_score(truth, [list(range(12, 0, -1))], k=k))


outcomes = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])), min_size=2, max_size=60
).filter(lambda rows: len({y for y, _ in rows}) == 2)


@given(outcomes)
def test_auc_and_log_loss_are_those_of_scikit_learn(rows):
    y, p = zip(*rows, strict=True)
    assert auc(y, p) == pytest.approx(metrics.roc_auc_score(y, p))
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    assert log_loss(y, p) == pytest.approx(metrics.log_loss(y, clipped), rel=1e-6)
    assert log_losses(y, p).mean() == pytest.approx(log_loss(y, p))


def test_auc_by_hand():
    assert auc([0, 1], [0.2, 0.8]) == 1.0
    assert auc([1, 0], [0.2, 0.8]) == 0.0
    assert auc([0, 1, 1, 0], [7, 7, 7, 7]) == 0.5


def test_normalised_entropy_of_the_base_rate_is_one():
    assert normalised_entropy([0, 0, 0, 1], [0.25] * 4) == pytest.approx(1.0)
    assert normalised_entropy([0, 1], [0.1, 0.9]) < 1 < normalised_entropy([0, 1], [0.9, 0.1])


def test_ece_by_hand():
    assert ece([1, 0, 1, 1], [0.75, 0.75, 0.75, 0.75], bins=4) == pytest.approx(0.0)
    assert ece([0, 1], [0.0, 1.0]) == 0.0
    assert ece([0, 0, 1, 1], [0.1, 0.1, 0.8, 0.8], bins=2) == pytest.approx(0.15)
    assert ece([0, 1], [0.5, 0.50001], bins=2) == pytest.approx(0.5, abs=1e-4)
    assert ece([0, 0, 0, 1], [0.01, 0.01, 0.02, 0.02], bins=2) == pytest.approx((0.02 + 0.96) / 4)


def test_rare_outcomes_told_the_wrong_way_round_are_not_called_calibrated():
    """All are below a fifteenth, and the mean is right."""
    random = np.random.default_rng(0)
    true = np.where(np.arange(50_000) % 2, 0.004, 0.056)
    clicked = (random.random(50_000) < true).astype(float)
    assert calibration_ratio(clicked, 0.06 - true) == pytest.approx(1, abs=0.05)
    assert ece(clicked, 0.06 - true) == pytest.approx(0.052, abs=0.003)
    assert ece(clicked, true) < 0.003


def test_calibration_ratio():
    assert calibration_ratio([1, 0, 0, 1], [0.9, 0.5, 0.6, 1.0]) == pytest.approx(1.5)
    with pytest.raises(BadInputError):
        calibration_ratio([0, 0], [0.1, 0.1])


@pytest.mark.parametrize("metric", [auc, log_loss, normalised_entropy, ece, calibration_ratio])
@pytest.mark.parametrize(
    ("y", "p"),
    [([], []), ([1], [0.5, 0.5]), ([0, 2], [0.1, 0.2]), ([0, 1], [float("nan"), 0.5]), ([[0], [1]], [[0.1], [0.2]])],
)
def test_rows_that_are_no_predictions_are_refused(metric, y, p):
    with pytest.raises(BadInputError):
        metric(y, p)


@pytest.mark.parametrize("metric", [log_loss, normalised_entropy, ece, calibration_ratio])
def test_probabilities_stay_in_their_range(metric):
    with pytest.raises(BadInputError, match="outside"):
        metric([0, 1], [0.5, 1.1])


@pytest.mark.parametrize("metric", [auc, normalised_entropy])
def test_one_outcome_alone_cannot_be_judged(metric):
    with pytest.raises(BadInputError):
        metric([1, 1], [0.5, 0.6])
