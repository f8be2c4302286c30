"""The simulated video application: its stream has the statistics that were asked for, and its truth is true."""

from dataclasses import fields, replace

import numpy as np
import pytest

from twinloop.datasets.simulator.people import DAY_MS
from twinloop.datasets.simulator.settings import VideoSettings, WorldSettings
from twinloop.datasets.simulator.video import TYPES, VideoApplication
from twinloop.errors import BadInputError
from twinloop.evaluation.probability import auc

WORLD = WorldSettings(users=3000, items=2000, seed=11)
VIDEO = VideoSettings(events=400_000)
SIGMAS = 4.0  # of a random sum: 1 in 16,000


class Stream:
    """All of a stream at once."""

    def __init__(self, world=WORLD, settings=VIDEO):
        self.application = VideoApplication(world, settings)
        pieces = list(self.application.pieces())
        for name in ("events", "shown", "truth", "outcomes"):
            parts = [getattr(piece, name) for piece in pieces]
            setattr(self, name, _joined(parts))
        self.number = np.concatenate([piece.number for piece in pieces])

    def of(self, kind):
        return self.events["type"] == TYPES.index(kind)


def _joined(parts):
    names = [field.name for field in fields(parts[0]) if field.name != "day"]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    if hasattr(parts[0], "day"):
        joined["day"] = np.concatenate([np.full(len(part.item), part.day) for part in parts])
    return joined


@pytest.fixture(scope="module")
def stream():
    return Stream()


def deviation(outcomes, probabilities):
    """Observed less expected, in standard deviations of what chance does."""
    return (outcomes.sum() - probabilities.sum()) / np.sqrt((probabilities * (1 - probabilities)).sum())


def test_about_as_many_events_as_asked_for(stream):
    assert len(stream.events["number"]) == pytest.approx(400_000, rel=0.03)
    np.testing.assert_array_equal(stream.events["number"], np.arange(len(stream.events["number"])))


def test_the_same_settings_give_the_same_stream(stream):
    again = Stream()
    for name in ("events", "shown", "truth", "outcomes"):
        for column, values in getattr(stream, name).items():
            np.testing.assert_array_equal(values, getattr(again, name)[column], err_msg=column)
    other = Stream(replace(WORLD, seed=12))
    assert not np.array_equal(stream.events["item"][:1000], other.events["item"][:1000])


@pytest.mark.parametrize("bias", [0.0, 0.5, 1.0])
def test_clicks_fall_with_the_position_as_configured(bias):
    stream = Stream(settings=replace(VIDEO, position_bias=bias, ranked=0.0))
    shown, truth = stream.shown, stream.truth
    for place in range(10):
        rows = shown["position"] == place
        np.testing.assert_allclose(truth["p_seen"][rows], (1 + place) ** -bias)
        # In any order, what stands at each place is as good: the rate itself falls as configured.
        first = truth["p_click"][shown["position"] == 0].mean()
        assert truth["p_click"][rows].mean() / first == pytest.approx((1 + place) ** -bias, rel=0.05)
        assert abs(deviation(stream.outcomes["clicked"][rows], truth["p_click"][rows])) < SIGMAS


def test_ranked_lists_have_the_better_ones_first():
    shown = Stream(settings=replace(VIDEO, ranked=1.0)).shown
    means = [shown["affinity"][shown["position"] == place].mean() for place in range(10)]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[9] + 1


def test_the_true_probabilities_are_calibrated(stream):
    truth, came = stream.truth, stream.outcomes
    for outcome, probability in (("clicked", "p_click"), ("long_view", "p_long_view")):
        assert abs(deviation(came[outcome], truth[probability])) < SIGMAS
        order = np.argsort(truth[probability])
        for rows in np.array_split(order, 20):
            assert abs(deviation(came[outcome][rows], truth[probability][rows])) < SIGMAS
    gap = came["watch_ms"] / 1000 - truth["watch_s"]
    for rows in (np.arange(len(gap)), *np.array_split(np.argsort(truth["watch_s"]), 10)):
        assert abs(gap[rows].mean()) < SIGMAS * gap[rows].std() / np.sqrt(len(rows))


def test_the_click_rate_is_the_one_asked_for():
    for rate in (0.05, 0.15, 0.3):
        stream = Stream(settings=replace(VIDEO, click_rate=rate))
        assert stream.outcomes["clicked"].mean() == pytest.approx(rate, rel=0.1)


def test_watching_depends_on_length_as_duration_bias_has_it(stream):
    rows = np.flatnonzero(stream.of("watch"))
    watched, length = stream.events["watch_s"][rows], stream.events["duration_s"][rows]
    assert (watched <= length + 1e-9).all()
    thirds = np.array_split(np.argsort(length), 3)
    seconds = [watched[third].mean() for third in thirds]
    shares = [(watched[third] / length[third]).mean() for third in thirds]
    assert seconds == sorted(seconds)
    assert shares == sorted(shares, reverse=True)
    np.testing.assert_array_equal((watched / length >= 0.5).sum(), stream.outcomes["long_view"].sum())


def test_taste_decides_clicks(stream):
    clicked = stream.outcomes["clicked"].astype(float)
    assert auc(clicked, stream.shown["affinity"]) > 0.65
    assert auc(clicked, stream.truth["p_click"]) > auc(clicked, stream.shown["affinity"])


def test_events_hang_together(stream):
    events, shown, came = stream.events, stream.shown, stream.outcomes
    assert stream.of("impression").sum() == len(shown["item"])
    assert stream.of("click").sum() == stream.of("watch").sum() == came["clicked"].sum()
    assert stream.of("like").sum() == came["liked"].sum() > 0
    assert stream.of("hide").sum() == came["hidden"].sum() > 0
    at = events["number"][stream.number]
    for column in ("item", "user", "position", "request", "time_ms"):
        np.testing.assert_array_equal(events[column][at], shown[column])
    assert stream.of("impression")[at].all()
    # What follows an impression comes after it.
    first = {}
    for row in range(20_000):
        key = (events["request"][row], events["item"][row])
        assert (key in first) == (not stream.of("impression")[row])
        assert events["time_ms"][row] >= first.setdefault(key, events["time_ms"][row])


def test_lists_hold_nothing_twice_and_nothing_that_is_not_there(stream):
    shown, world = stream.shown, stream.application.world
    pairs = shown["request"] * 10**6 + shown["item"]
    assert len(np.unique(pairs)) == len(pairs)
    assert (world.items.published_ms[shown["item"]] <= shown["time_ms"]).all()
    assert (world.users.joined_ms[shown["user"]] <= shown["time_ms"]).all()
    lengths = np.bincount(shown["request"])
    assert lengths.max() == 10
    assert lengths.mean() > 9.9


def test_what_was_shown_lately_is_not_shown_again(stream):
    shown = stream.shown
    for user in np.argsort(np.bincount(shown["user"]))[-20:]:
        items = shown["item"][shown["user"] == user]
        assert all(len(set(items[at : at + 40])) == len(items[at : at + 40]) for at in range(0, len(items), 7))


def test_cold_users_and_items_appear_over_time(stream):
    shown, world = stream.shown, stream.application.world
    assert set(np.flatnonzero(world.is_cold_user(np.arange(3000)))) <= set(shown["user"])
    seen = np.unique(shown["item"])
    cold = np.flatnonzero(world.is_cold_item(np.arange(2000)))
    assert np.isin(cold, seen).mean() > 0.9
    week = (shown["time_ms"] - world.settings.start_ms) // DAY_MS // 7
    shares = [world.is_cold_item(shown["item"][week == number]).mean() for number in range(4)]
    assert shares == sorted(shares)


def test_fame_makes_some_items_far_more_seen(stream):
    counts = np.sort(np.bincount(stream.shown["item"], minlength=2000))[::-1]
    assert counts[:200].sum() > 0.3 * counts.sum()
    assert (counts > 0).mean() > 0.95  # and exploring shows nearly all


def movement(settings):
    """How far the click rates of tags, with taste and place taken out, move from the first half to the second."""
    stream = Stream(settings, replace(VIDEO, events=600_000))
    shown, truth = stream.shown, stream.truth
    attraction = np.log(truth["p_click"] / truth["p_seen"]) - np.log1p(-truth["p_click"] / truth["p_seen"])
    rest = attraction - shown["affinity"] - stream.application.world.items.quality[shown["item"]]
    tag = stream.application.world.items.tags[shown["item"], 0]
    means = [
        np.bincount(tag[half], rest[half], 24) / np.bincount(tag[half], minlength=24)
        for half in (shown["day"] < 7, shown["day"] > 21)
    ]
    return np.abs(means[1] - means[0]).mean(), stream


def test_drift_is_there_when_asked_for_and_only_then():
    still, calm = movement(WORLD)
    moving, drifting = movement(replace(WORLD, drift=1.5))
    assert still < 0.05
    assert moving > 0.3

    def change(stream):
        """How far the click rates of tags move."""
        tag = stream.application.world.items.tags[stream.shown["item"], 0]
        clicked, day = stream.outcomes["clicked"], stream.shown["day"]
        early, late = day < 7, day > 21
        before = np.bincount(tag[early], clicked[early], 24) / np.bincount(tag[early], minlength=24)
        after = np.bincount(tag[late], clicked[late], 24) / np.bincount(tag[late], minlength=24)
        return np.abs(after - before).mean()

    assert change(drifting) > 2 * change(calm)


def test_a_tiny_world_still_works():
    stream = Stream(WorldSettings(users=1, items=50, days=1, cold_users=0.0), VideoSettings(events=200))
    assert 100 <= len(stream.events["number"]) <= 400
    stream = Stream(WorldSettings(users=5, items=50, days=2, cold_users=0.9, cold_items=0.9), VideoSettings(events=500))
    assert len(stream.events["number"])


@pytest.mark.parametrize("wrong", [{"events": 1}, {"slots": 0}, {"click_rate": 0.0}, {"ranked": 2}, {"exploring": -1}])
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(BadInputError, match=next(iter(wrong))):
        VideoSettings(**wrong)
