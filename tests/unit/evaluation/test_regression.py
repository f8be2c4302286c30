"""Metrics of amounts against their definitions, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.errors import BadInputError
from twinloop.evaluation.regression import absolute_errors, mae, xauc

amounts = st.sampled_from([0.0, 0.5, 1.0, 2.0, 30.0])
rows = st.lists(st.tuples(amounts, amounts), min_size=1, max_size=40)


def by_pairs(pairs):
    right, total = 0.0, 0
    for n, (y, p) in enumerate(pairs):
        for other_y, other_p in pairs[n + 1 :]:
            if y != other_y:
                total += 1
                right += 0.5 if p == other_p else float((p > other_p) == (y > other_y))
    return right / total if total else None


@given(rows)
def test_xauc_is_what_pair_by_pair_comparison_says(pairs):
    expected = by_pairs(pairs)
    y, p = zip(*pairs, strict=True)
    if expected is None:
        with pytest.raises(BadInputError, match="two rows with different amounts"):
            xauc(y, p)
    else:
        assert xauc(y, p) == pytest.approx(expected, abs=1e-12)


def test_xauc_of_many_rows():
    draw = np.random.default_rng(0)
    y, p = draw.integers(0, 50, 700) / 7, draw.integers(0, 300, 700) / 3
    assert xauc(y, p) == pytest.approx(by_pairs(list(zip(y, p, strict=True))), abs=1e-12)
    assert xauc(y, y) == 1
    assert xauc(y, -y) == 0
    assert xauc(y, np.zeros(700)) == 0.5


@given(rows)
def test_mae_is_the_mean_distance(pairs):
    y, p = zip(*pairs, strict=True)
    assert mae(y, p) == pytest.approx(sum(abs(a - b) for a, b in pairs) / len(pairs))
    assert absolute_errors(y, p).shape == (len(pairs),)


@pytest.mark.parametrize(
    ("y", "p", "reason"),
    [
        ([], [], "same length"),
        ([1.0], [1.0, 2.0], "same length"),
        ([[1.0]], [[1.0]], "same length"),
        ([1.0], [np.nan], "not finite"),
        ([np.inf], [1.0], "not finite"),
    ],
)
@pytest.mark.parametrize("metric", [mae, xauc])
def test_what_cannot_be_measured_is_refused(metric, y, p, reason):
    with pytest.raises(BadInputError, match=reason):
        metric(y, p)
