"""Offsets make what was said equal to what came, where there is enough of it, whatever the order of the rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.live import FARTHEST, MOST_VALUES, LiveOffsets, LiveSettings
from twinloop.errors import BadInputError
from twinloop.monitoring.calibration import Offsets, fit, log_odds, shifted

LIVE = LiveSettings(label="click", logged="p", facts=("page", "slot"), ridge=20, ridge_of_value=20, minimum=5)

PAGES = st.sampled_from(["home", "search", None])
ROWS = st.lists(
    st.tuples(st.floats(0, 1), st.booleans(), PAGES, st.sampled_from(["top", None, "bottom"])), min_size=0, max_size=150
)


def fitted(rows, live=LIVE) -> Offsets:
    said, came = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows], float)
    return fit(said, came, {"page": [row[2] for row in rows], "slot": [row[3] for row in rows]}, live)


def told(found: Offsets) -> LiveOffsets:
    moment = "2026-01-31T12:00:00Z"
    return LiveOffsets.model_validate(
        {"since": moment, "until": moment, "rows": 1, "positives": 1, "expected": 1, "offset": found.offset}
        | {"by": found.by}
    )


def test_a_name_however_long_takes_no_more_memory_than_itself():
    """An array of texts gives every row as much room as its longest one takes: here 8 GB."""
    rows = [(0.5, n % 2 == 0, "home", None) for n in range(20_000)]
    assert fitted([*rows, (0.5, True, "x" * 100_000, None)]).by["page"].keys() == {"home"}


@settings(max_examples=60)
@given(rows=ROWS, seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter_and_nothing_is_out_of_bounds(rows, seed):
    found = fitted(rows)
    shuffled = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    assert fitted(shuffled) == found
    assert abs(found.offset) <= FARTHEST
    for page in ("home", "search", "elsewhere", None):
        assert abs(told(found).of({"page": page, "slot": "top"})) <= FARTHEST


@settings(max_examples=60)
@given(rows=ROWS)
def test_a_value_that_is_not_known_has_the_overall_offset_alone(rows):
    offsets = told(fitted(rows))
    for context in ({}, {"page": None}, {"page": "elsewhere", "other": "home"}, {"page": 0.5}):
        assert offsets.of(context) == offsets.offset


@settings(max_examples=60)
@given(rows=ROWS)
def test_what_is_fitted_is_the_maximum(rows):
    """The gradient is 0 there: residuals add up to what the ridges hold back, overall and of each value."""
    found = fitted(rows)
    if found == Offsets():
        return
    said, came = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows], float)
    columns = {"page": [row[2] for row in rows], "slot": [row[3] for row in rows]}
    logits = log_odds(said) + found.offset
    for name, values in found.by.items():
        logits = logits + np.array([values.get(value, 0.0) for value in columns[name]])
    p0 = 1 / (1 + np.exp(-log_odds(said)))
    information = max(float((p0 * (1 - p0)).mean()), 1e-6)
    residuals = came - 1 / (1 + np.exp(-logits))
    if abs(found.offset) < FARTHEST:
        assert residuals.sum() == pytest.approx(LIVE.ridge * information * found.offset, abs=1e-3)
    for name, values in found.by.items():
        for value, offset in values.items():
            mine = np.array([one == value for one in columns[name]])
            if abs(found.offset) < FARTHEST and abs(offset) < 2 * FARTHEST:
                assert residuals[mine].sum() == pytest.approx(LIVE.ridge_of_value * information * offset, abs=1e-3)


def world(rows: int, *, shift: float, of_search: float, rate: float, seed: int = 7):
    """What a model says, and what comes where everything is `shift` likelier, on one page by `of_search` more."""
    draw = np.random.default_rng(seed)
    z = draw.normal(math.log(rate / (1 - rate)), 0.7, rows)
    search = draw.random(rows) < 0.2
    true = 1 / (1 + np.exp(-(z + shift + of_search * search)))
    came = (draw.random(rows) < true).astype(float)
    return 1 / (1 + np.exp(-z)), came, np.where(search, "search", "home").tolist()


@pytest.mark.parametrize("rate", [0.02, 0.4])
def test_with_many_rows_what_is_said_is_as_much_as_came_overall_and_on_each_page(rate):
    off = []
    for rows in (3_000, 300_000):
        said, came, page = world(rows, shift=0.3, of_search=-0.5, rate=rate)
        live = told(fit(said, came, {"page": page}, LiveSettings("click", "p", ("page",))))
        moved = np.array([float(shifted(p, live.of({"page": on}))) for p, on in zip(said, page, strict=True)])
        pages = [np.array([on == name for on in page]) for name in ("home", "search")]
        off.append([abs(math.log(moved[of].sum() / came[of].sum())) for of in (np.ones(rows, bool), *pages)])
    assert max(off[1]) < 0.01
    assert off[1][0] < off[0][0] < abs(math.log(1.25)), "few rows, and the prior holds back"
    assert live.offset + live.by["page"]["search"] == pytest.approx(-0.2, abs=0.08)
    assert live.offset + live.by["page"]["home"] == pytest.approx(0.3, abs=0.05)


def test_few_rows_give_next_to_nothing_and_fewer_nothing():
    said, came = np.full(60, 0.5), np.repeat([1.0, 0.0], [40, 20])
    some = fit(said, came, {}, LiveSettings("click", "p", minimum=20, ridge=1000))
    assert 0 < some.offset < 0.05
    assert fit(said, came, {}, LiveSettings("click", "p", minimum=21)) == Offsets()
    assert fit(said[:0], came[:0], {}, LIVE) == Offsets()


def test_a_value_with_few_clicks_has_none_of_its_own():
    said, came = np.full(200, 0.3), np.repeat([1.0, 0.0], [100, 100])
    page = ["rare"] * 4 + ["home"] * 96 + ["home"] * 96 + ["rare"] * 4
    found = fit(said, came, {"page": page}, LIVE)
    assert set(found.by["page"]) == {"home"}
    assert set(fit(said, came, {"page": ["rare"] * 200}, LIVE).by["page"]) == {"rare"}


def test_of_many_values_the_most_frequent_are_told():
    page = [f"p{n:03d}" for n in range(MOST_VALUES + 20) for _ in range(10 + (n >= 20))]
    came = np.array([n % 2 for n in range(len(page))], float)
    found = fit(np.full(len(page), 0.5), came, {"page": page}, LIVE)
    assert sorted(found.by["page"]) == [f"p{n:03d}" for n in range(20, MOST_VALUES + 20)]


@pytest.mark.parametrize("p", [0.0, 1e-12, 1.0])
def test_whoever_was_sure_and_wrong_is_moved_no_further_than_the_bound(p):
    came = np.repeat([1.0, 0.0], [500, 500])
    found = fit(np.full(1000, p), came, {"page": ["home"] * 1000}, LIVE)
    assert abs(found.offset) == FARTHEST
    assert abs(told(found).of({"page": "home"})) <= FARTHEST


@given(p=st.floats(0, 1), offset=st.floats(-FARTHEST, FARTHEST))
def test_probabilities_are_moved_by_their_log_odds(p, offset):
    moved = shifted(np.array([p]), offset)
    assert 0 <= moved[0] <= 1
    if 1e-6 < p < 1 - 1e-6:
        assert log_odds(moved)[0] == pytest.approx(log_odds(np.array([p]))[0] + offset, abs=1e-6)
    if p in (0.0, 1.0) or offset == 0:
        assert moved[0] == p


def test_the_type_of_probabilities_stays():
    assert shifted(np.array([0.1, 0.9], np.float32), 0.5).dtype == np.float32


@pytest.mark.parametrize(
    ("said", "came", "page"),
    [([0.5, 1.5], [0, 1], ["a", "a"]), ([0.5, 0.5], [0, 2], ["a", "a"]), ([0.5, 0.5], [0, 1], ["a"])],
)
def test_what_is_no_prediction_is_refused(said, came, page):
    with pytest.raises(BadInputError):
        fit(np.array(said), np.array(came, float), {"page": page}, LIVE)


@pytest.mark.parametrize("more", [{"window_hours": 0}, {"minimum": 0}, {"ridge": -1}, {"facts": ("f",) * 21}])
def test_settings_make_sense(more):
    with pytest.raises(ValueError, match=r"more than|over 0"):
        LiveSettings("click", "p", **more)
