"""Re-ranking: what is promised of every list, and that chance is as likely as the log says."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twinloop.systems.video.policy import CHOICES, adjusted, most_choices, picked, suited, trials
from twinloop.systems.video.presets import DEFAULT, PRESETS, Preset

PLAIN = Preset("")
DAY_MS = 86_400_000


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@st.composite
def candidates(draw):
    count = draw(st.integers(0, 30))
    scores = draw(hnp.arrays(np.float32, count, elements=st.floats(-100, 100, width=16)))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    vectors = unit(random.standard_normal((count, 4))) * (random.random((count, 1)) < 0.8)
    return scores, vectors.astype(np.float32), random.integers(-1, 3, count)


PRESET = st.builds(
    Preset,
    st.just(""),
    diversity=st.sampled_from([0.0, 0.1, 2.0]),
    fresh=st.sampled_from([0.0, 1.0]),
    half_life_days=st.just(10.0),
    per_author=st.integers(0, 3),
    click=st.just(0.0),
    watch=st.just(0.0),
    explore=st.sampled_from([0.0, 0.2, 1.0]),
    explore_share=st.sampled_from([0.0, 0.1, 0.3]),
)


@given(candidates(), PRESET, st.integers(1, 40), st.booleans(), st.booleans())
def test_a_list_is_whole_distinct_and_its_scores_do_not_increase(given_, preset, limit, with_vectors, with_authors):
    scores, vectors, authors = given_
    places, values = picked(
        scores,
        preset,
        limit,
        vectors=vectors if with_vectors else None,
        authors=authors if with_authors else None,
    )
    assert len(places) == len(set(places.tolist())) == len(values) == min(limit, len(scores))
    assert all(a >= b for a, b in pairwise(values.tolist()))
    assert values.dtype == np.float32


@given(candidates(), PRESET, st.integers(1, 40))
def test_an_author_waits_until_nobody_else_has_any_left(given_, preset, limit):
    scores, vectors, authors = given_
    places, _ = picked(scores, preset, limit, vectors=vectors, authors=authors)
    chosen = authors[places].tolist()
    if not preset.per_author:
        return
    for end, author in enumerate(chosen):
        if author >= 0 and chosen[:end].count(author) >= preset.per_author:
            left = np.delete(authors, places[:end])
            used = Counter(chosen[:end])
            # Whoever may still be picked without going over the cap would have come first.
            assert all(a >= 0 and used[a] >= preset.per_author for a in left.tolist())
            break


@given(candidates(), st.integers(1, 40))
def test_without_strengths_the_models_have_the_last_word(given_, limit):
    scores, vectors, authors = given_
    places, values = picked(scores, PLAIN, limit, vectors=vectors, authors=authors)
    assert places.tolist() == np.argsort(-scores, kind="stable")[:limit].tolist()
    assert values.tolist() == scores[places].tolist()


@given(candidates(), st.integers(1, 12), st.sampled_from([0.3, 2.0]))
def test_every_pick_is_the_best_by_the_formula(given_, limit, diversity):
    scores, vectors, _ = given_
    places, values = picked(scores, Preset("", diversity=diversity), limit, vectors=vectors)
    strength = diversity * float(scores.std()) if len(scores) else 0.0
    for end, (place, value) in enumerate(zip(places.tolist(), values.tolist(), strict=True)):
        above = vectors[places[:end]]
        alike = np.maximum(vectors @ above.T, 0).max(axis=1) if end else np.zeros(len(scores))
        worth = scores.astype(np.float64) - strength * alike
        left = [other for other in range(len(scores)) if other not in places[:end].tolist()]
        assert worth[place] == pytest.approx(max(worth[left]), abs=1e-3)
        assert value == pytest.approx(worth[place], abs=1e-3)


def test_a_twin_gives_way_to_what_is_unlike_it():
    scores = np.array([1.0, 0.99, 0.9, 0.1], dtype=np.float32)
    vectors = unit([[1, 0], [1, 0], [0, 1], [0, 1]])
    assert picked(scores, Preset("", diversity=1.0), 3, vectors=vectors)[0].tolist() == [0, 2, 1]


def test_unlike_is_not_better_than_unrelated():
    scores = np.array([1.0, 0.9, 0.8], dtype=np.float32)
    vectors = unit([[1, 0], [0, 1], [-1, 0]])
    assert picked(scores, Preset("", diversity=3.0), 3, vectors=vectors)[0].tolist() == [0, 1, 2]


def test_freshness_halves_with_its_half_life_and_says_nothing_of_unknown_ages():
    scores = np.array([0.0, 1.0, 2.0, 3.0, 4.0], dtype=np.float32)
    published = np.array([10.0, 0.0, -10.0, np.nan, 40.0]) * DAY_MS
    preset = Preset("", fresh=2.0, half_life_days=10.0)
    gains = adjusted(scores, preset, at_ms=10 * DAY_MS, published_ms=published) - scores
    assert gains / scores.std() == pytest.approx([2.0, 1.0, 0.5, 0.0, 2.0], abs=1e-5)


def test_watch_time_moves_the_order_as_far_as_its_weight():
    scores, watch_s = np.array([3.0, 2.0, 1.0], dtype=np.float32), np.array([1.0, 10.0, 100.0], dtype=np.float32)
    order = [np.argsort(-adjusted(scores, Preset("", watch=w), at_ms=0, watch_s=watch_s)).tolist() for w in (0, 1)]
    assert order == [[0, 1, 2], [2, 1, 0]]
    even = adjusted(scores, Preset("", watch=0.5), at_ms=0, watch_s=np.full(3, 7.0, dtype=np.float32))
    assert np.argsort(-even).tolist() == [0, 1, 2]


def test_clicks_move_the_order_as_far_as_their_weight():
    scores, click = np.array([3.0, 2.0, 1.0], dtype=np.float32), np.array([0.01, 0.2, 0.9], dtype=np.float32)
    order = [np.argsort(-adjusted(scores, Preset("", click=w), at_ms=0, click=click)).tolist() for w in (0, 0.1, 1)]
    assert order == [[0, 1, 2], [0, 1, 2], [2, 1, 0]]
    sure = adjusted(scores, Preset("", click=1.0), at_ms=0, click=np.array([0, 0.5, 1], dtype=np.float32))
    assert np.isfinite(sure).all()
    assert sure.mean() == pytest.approx(scores.mean())
    assert sure.std() == pytest.approx(scores.std())


def test_what_is_blended_are_standard_scores_by_weights_that_add_up():
    scores = np.array([3.0, 2.0, 0.0, 7.0], dtype=np.float32)
    click, watch_s = np.float32([0.1, 0.3, 0.2, 0.05]), np.float32([5, 0, 60, 20])

    def standard(values):
        return (values - values.mean()) / values.std()

    odds, seconds = np.log(click / (1 - click)), np.log1p(watch_s)
    found = adjusted(scores, Preset("", click=0.3, watch=0.2), at_ms=0, click=click, watch_s=watch_s)
    expected = 0.5 * standard(scores) + 0.3 * standard(odds) + 0.2 * standard(seconds)
    assert (found - scores.mean()) / scores.std() == pytest.approx(expected, abs=1e-5)
    # What a release does not predict leaves its weight to the score.
    alone = adjusted(scores, Preset("", click=0.3, watch=0.2), at_ms=0, watch_s=watch_s)
    assert (alone - scores.mean()) / scores.std() == pytest.approx(
        0.8 * standard(scores) + 0.2 * standard(seconds), abs=1e-5
    )
    assert adjusted(scores, Preset("", click=0.3, watch=0.2), at_ms=0) is scores


@pytest.mark.parametrize("count", [0, 1, 3, 150])
def test_equal_scores_stay_as_they_are_where_nothing_is_put_beside_them(count):
    scores = np.full(count, 0.1, np.float32)
    assert adjusted(scores, Preset("", diversity=1.0), at_ms=0) is scores
    even = np.full(count, 7.0, np.float32)
    told = adjusted(scores, Preset("", click=0.3, watch=0.2), at_ms=0, click=scores, watch_s=even)
    assert len(set(told.tolist())) <= 1


@pytest.mark.parametrize("count", [3, 150])
def test_between_equal_scores_clicks_and_watching_decide(count):
    scores, rising = np.full(count, 0.1, np.float32), np.linspace(0.1, 0.9, count, dtype=np.float32)
    even = np.full(count, 0.5, np.float32)
    for preset, more in (
        (Preset("", click=0.3, watch=0.2), {"click": rising, "watch_s": even}),
        (Preset("", click=0.3, watch=0.2), {"click": even, "watch_s": rising}),
        (Preset("", fresh=1.0), {"published_ms": rising.astype(np.float64) * DAY_MS}),
    ):
        found = adjusted(scores, preset, at_ms=DAY_MS, **more)
        assert np.argsort(-found, kind="stable").tolist() == list(range(count))[::-1]
    both = adjusted(scores, Preset("", click=0.4, watch=0.2), at_ms=0, click=rising, watch_s=rising[::-1])
    assert int(both.argmax()) == count - 1  # the greater weight has the last word


@given(st.text(min_size=1), PRESET, st.integers(0, 100), st.integers(0, 60))
def test_trials_are_few_far_down_and_distinct(seed, preset, length, pool):
    drawn = trials(seed, preset, length, pool)
    assert drawn == trials(seed, preset, length, pool)
    assert len(drawn) <= preset.explore_share * length
    assert all(5 <= trial.place < length for trial in drawn)
    picks = [trial.pick for trial in drawn if trial.pick is not None]
    assert len(picks) == len(set(picks))
    assert all(0 <= pick < min(pool, most_choices(preset, length)) for pick in picks)
    assert trials("", preset, length, pool) == []


@pytest.mark.parametrize(("length", "pool", "explore"), [(20, 7, 0.2), (10, 50, 0.5), (30, 2, 0.4), (20, 1, 0.2)])
def test_logged_propensities_are_frequencies(length, pool, explore):
    preset, rounds = Preset("", explore=explore), 20_000
    counts: dict[int, Counter[int | None]] = {}
    said: dict[tuple[int, int | None], float] = {}
    for seed in range(rounds):
        for trial in trials(f"user\0{seed}", preset, length, pool):
            counts.setdefault(trial.place, Counter())[trial.pick] += 1
            assert said.setdefault((trial.place, trial.pick), trial.propensity) == trial.propensity
    assert counts
    for place, of_place in counts.items():
        told = {pick: p for (at, pick), p in said.items() if at == place}
        assert sum(told.values()) == pytest.approx(1.0)  # together they are all that can happen
        assert len(of_place) <= CHOICES + 1
        for pick, propensity in told.items():
            error = np.sqrt(propensity * (1 - propensity) / rounds)
            assert abs(of_place[pick] / rounds - propensity) < 4.5 * error


def test_draws_of_two_places_are_independent():
    preset, rounds = Preset("", explore=0.5), 20_000
    both = Counter(
        tuple(trial.pick is not None for trial in trials(f"{seed}", preset, 20, 20)) for seed in range(rounds)
    )
    assert set(both) == {(a, b) for a in (True, False) for b in (True, False)}
    assert all(abs(count / rounds - 0.25) < 0.015 for count in both.values())


def test_new_items_come_by_likeness_then_as_they_are():
    vectors = unit([[0, 1], [1, 0], [1, 1], [1, 0]])
    assert suited(unit([[1, 0], [1, 0.1]]), vectors).tolist() == [1, 3, 2, 0]
    assert suited(np.zeros((0, 2), np.float32), vectors).tolist() == [0, 1, 2, 3]


def test_presets_are_within_their_bounds():
    assert next(iter(PRESETS)) == DEFAULT
    for preset in PRESETS.values():
        assert preset.purpose.endswith(".")
        assert 0 <= preset.explore <= 0.5
        assert 0 <= preset.explore_share <= 0.1
        assert preset.click >= 0
        assert preset.watch >= 0
        assert preset.click + preset.watch <= 1
        assert preset.half_life_days > 0
