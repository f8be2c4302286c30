"""The simulated world: who and what there is, and when who likes what."""

import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from twinloop.datasets.simulator.people import DAY_MS
from twinloop.datasets.simulator.settings import VideoSettings, WorldSettings, fingerprint
from twinloop.datasets.simulator.things import NO_TAG
from twinloop.datasets.simulator.visits import requests_of_day
from twinloop.datasets.simulator.vocabulary import DEVICES, TAGS
from twinloop.datasets.simulator.world import World
from twinloop.errors import BadInputError

SETTINGS = WorldSettings(users=2000, items=1000, seed=5)


@pytest.fixture(scope="module")
def world():
    return World(SETTINGS)


def columns(table):
    return {field.name: getattr(table, field.name) for field in fields(table)}


def test_the_same_settings_are_the_same_world_whatever_is_asked_first():
    one, two = World(SETTINGS), World(SETTINGS)
    assert one.users is not None  # items after users here, before them there
    for made, again in ((one.items, two.items), (one.users, two.users)):
        for name, values in columns(made).items():
            np.testing.assert_array_equal(values, columns(again)[name], err_msg=name)


def test_another_seed_is_another_world(world):
    other = World(replace(SETTINGS, seed=6))
    assert not np.array_equal(world.users.tastes, other.users.tastes)
    assert not np.array_equal(world.items.vectors, other.items.vectors)


def test_drift_changes_neither_people_nor_things(world):
    drifting = World(replace(SETTINGS, drift=2.0))
    np.testing.assert_array_equal(world.users.tastes, drifting.users.tastes)
    np.testing.assert_array_equal(world.items.vectors, drifting.items.vectors)


@pytest.mark.parametrize(("users", "items"), [(0.0, 0.0), (0.1, 0.25), (0.9, 0.9)])
def test_the_cold_shares_are_those_that_were_asked_for(users, items):
    world = World(replace(SETTINGS, cold_users=users, cold_items=items))
    assert world.is_cold_user(np.arange(2000)).mean() == pytest.approx(users, abs=1e-3)
    assert world.is_cold_item(np.arange(1000)).mean() == pytest.approx(items, abs=1e-3)
    end = world.settings.start_ms + world.settings.days * DAY_MS
    for arrived in (world.users.joined_ms, world.items.published_ms):
        assert (np.diff(arrived) >= 0).all()
        assert arrived[-1] < end


def test_cold_ones_come_evenly_over_time():
    world = World(replace(SETTINGS, users=20_000, cold_users=0.5))
    days = (world.users.joined_ms[10_000:] - world.settings.start_ms) // DAY_MS
    counts = np.bincount(days, minlength=28)
    expected = 10_000 / 28
    assert ((counts - expected) ** 2 / expected).sum() < 60  # chi square with 27 degrees of freedom: 1 in 5,000


def test_tastes_move_slowly(world):
    users, items = np.repeat(np.arange(200), 50), np.tile(np.arange(50) * 20, 200)

    def alike(day):
        then = world.affinity(users, items, day)
        return np.corrcoef(world.affinity(users, items, 0.0), then)[0, 1]

    assert alike(1) > 0.99
    assert alike(90) < 0.5  # a quarter of a turn: the second taste
    assert alike(360) == pytest.approx(1, abs=1e-4)


def test_users_like_what_has_their_tags(world):
    favourite = world.users.favourites[0, :, 0]
    users = np.repeat(np.arange(300), 200)
    items = np.tile(np.arange(200) * 5, 300)
    liked = world.affinity(users, items, 0.0)
    match = world.items.tags[items, 0] == favourite[users]
    assert liked[match].mean() > liked[~match].mean() + 1


def test_there_is_no_fashion_unless_asked_for(world):
    assert not any(world.fashion(day).any() for day in (0, 7.5, 27))


def test_fashion_begins_at_nothing_and_comes_back():
    world = World(replace(SETTINGS, drift=1.5))
    np.testing.assert_allclose(world.fashion(0), 0)
    assert np.abs(world.fashion(14)).max() > 0.5
    np.testing.assert_allclose(world.fashion(56), 0, atol=1e-9)
    by_tag = world.fashion(14)
    main, second = world.items.tags.T
    alone = second == NO_TAG
    found = world.fashion_of_items(slice(None), 14)
    np.testing.assert_allclose(found[alone], by_tag[main[alone]])
    np.testing.assert_allclose(found[~alone], (by_tag[main[~alone]] + by_tag[second[~alone]]) / 2)


def test_titles_are_made_of_the_tags_words(world):
    for row in range(50):
        title, tags = world.items.title_of(row), world.items.tags_of(row)
        assert 1 <= len(tags) <= 2
        assert all(any(word in title for word in TAGS[tag]) for tag in tags)


def test_fame_is_uneven_as_asked_for(world):
    fame = np.sort(world.items.fame)[::-1]
    assert fame[0] / fame[99] == pytest.approx(100**0.8)
    level = World(replace(SETTINGS, popularity=0.0)).items.fame
    assert level.min() == level.max()


def test_people_come_when_they_are_there_and_not_all_at_once(world):
    requests = requests_of_day(world, 3, 6000, len(DEVICES), np.random.default_rng(0))
    assert len(requests) == 6000
    assert (np.diff(requests.time_ms) >= 0).all()
    assert (requests.time_ms >= world.users.joined_ms[requests.user]).all()
    hours = np.bincount((requests.time_ms % DAY_MS) // 3_600_000, minlength=24)
    assert hours[19:22].sum() > 3 * hours[3:6].sum()
    visits = np.bincount(requests.user, minlength=2000)
    assert np.sort(visits)[-200:].sum() > 0.3 * len(requests)  # a tenth of the users
    new = np.flatnonzero(world.users.joined_ms // DAY_MS == world.settings.start_ms // DAY_MS + 3)
    assert set(new) <= set(requests.user)


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0},
        {"items": 10},
        {"days": 0},
        {"drift": -1},
        {"cold_users": 1.0},
        {"seed": -1},
        {"start": datetime(1980, 1, 1, tzinfo=UTC)},
        {"start": datetime(2025, 1, 1)},
        {"popularity": float("nan")},
    ],
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(BadInputError, match=next(iter(wrong))):
        WorldSettings(**wrong)


def test_settings_have_a_fingerprint_each():
    marks = {fingerprint(WorldSettings(seed=n), VideoSettings()) for n in range(20)}
    marks |= {fingerprint(WorldSettings(), VideoSettings(slots=5))}
    assert len(marks) == 21
    assert fingerprint(WorldSettings(), VideoSettings()) in marks


def test_the_world_and_the_application_take_numpy_alone():
    code = """
import sys
import twinloop.datasets.simulator.video
assert not {"pyarrow", "pandas", "duckdb", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
