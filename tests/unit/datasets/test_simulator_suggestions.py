"""Simulated towns: what holds there is what the settings say, the truth is true, and the ETL takes the rows."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated_lake import loaded

from twinloop.datasets.simulator.best import best_possible
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import SuggestionsSettings, WorldSettings
from twinloop.datasets.simulator.suggestions import SuggestionsApplication
from twinloop.datasets.simulator.towns import TOWNS
from twinloop.errors import BadInputError
from twinloop.features import geography as geo

WORLD = WorldSettings(users=300, items=600, days=10, seed=3)
SETTINGS = SuggestionsSettings(events=30_000)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "it"
    simulate(folder, WORLD, SETTINGS, kind="parquet")
    return folder


def rows(folder, table):
    return [row for path in sorted((folder / "raw" / table).glob("*")) for row in pq.read_table(path).to_pylist()]


def test_there_are_about_as_many_events_as_asked_for(folder):
    made = json.loads((folder / "simulation.json").read_text())
    assert made["rows"]["events"] == pytest.approx(SETTINGS.events, rel=0.15)
    assert made["system"] == "suggestions"


def test_the_same_settings_write_the_same_bytes(folder, tmp_path):
    simulate(tmp_path / "again", WORLD, SETTINGS, kind="parquet")
    for path in sorted(folder.rglob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes()


def test_the_etl_takes_every_row(tmp_path):
    simulate(tmp_path / "it", WORLD, replace(SETTINGS, events=2_000))
    store = loaded(tmp_path / "it" / "raw", "suggestions", NOON).objects
    assert not list(store.keys("quarantine/"))
    assert list(store.keys("lake/suggestions/items/"))


def test_the_truth_is_how_often_it_comes_true(folder):
    truth = pq.read_table(folder / "truth.parquet").to_pydict()
    chance, came = np.array(truth["p_rsvp"]), np.array(truth["rsvp"])
    assert chance.mean() == pytest.approx(came.mean(), rel=0.05)
    high = chance > np.median(chance)
    assert chance[high].mean() == pytest.approx(came[high].mean(), rel=0.06)
    assert (chance <= np.array(truth["p_seen"])).all()


def test_the_true_ranking_is_the_best_there_is(folder):
    best = best_possible(folder / "truth.parquet")
    assert best.click.auc > 0.7
    assert 0.4 < best.ranking.ndcg_at_10 < 1
    assert best.ranking.lists > 500
    assert best_possible(folder / "truth.parquet", only="cold_user").ranking.lists < best.ranking.lists


def test_nothing_is_shown_that_is_past_off_full_or_answered(folder):
    items = {row["item_id"]: row for row in rows(folder, "items")}
    going, off, answered = {}, set(), set()
    for row in sorted(rows(folder, "events"), key=lambda row: row["time"]):
        item, kind, who = row["item_id"], row["type"], row["user_id"]
        if kind == "view":
            assert items[item]["published_at"] <= row["time"] < items[item]["starts_at"]
            assert item not in off
            assert (who, item) not in answered
            capacity = items[item]["capacity"]
            assert capacity is None or len(going.get(item, ())) < capacity
        elif kind == "rsvp":
            going.setdefault(item, set()).add(who)
        elif kind == "withdraw":
            going[item].discard(who)
        elif kind == "cancel":
            off.add(item)
            assert who == items[item]["organizer_id"]
        if kind in ("rsvp", "decline"):
            answered.add((who, item))


def test_people_live_in_towns_on_both_sides_of_the_date_line():
    people = SuggestionsApplication(replace(WORLD, users=2000), SETTINGS).people
    for place, town in enumerate(TOWNS):
        km = geo.distance_km(town.lat, town.lon, people.lat[people.town == place], people.lon[people.town == place])
        assert 4 < np.median(km) < 15
    fiji = people.lon[people.town == len(TOWNS) - 1]
    assert (fiji > 179).any()
    assert (fiji < -179).any()


def test_friends_know_each_other_and_live_in_the_same_town():
    people = SuggestionsApplication(WORLD, SETTINGS).people
    for user, friends in enumerate(people.friends):
        for friend in friends.tolist():
            assert user in people.friends[friend]
            assert people.town[user] == people.town[friend]
            assert friend != user


def test_events_start_by_the_clocks_of_their_town():
    application = SuggestionsApplication(WORLD, SETTINGS)
    events = application.happenings
    there = np.flatnonzero(events.town >= 0)
    zones = [TOWNS[events.town[n]].zone for n in there]
    ahead = geo.offsets(zones, events.lon[there], events.starts_ms[there])
    hour, day = geo.local(events.starts_ms[there], ahead)
    np.testing.assert_allclose(hour, events.hour[there])
    np.testing.assert_allclose(day, events.weekday[there])
    assert 17.5 < np.median(hour) < 19.5
    assert (events.starts_ms > application.world.items.published_ms).all()


@pytest.mark.parametrize("changes", [{"online": 0.5}, {"friends": 51}, {"reach_km": 0}, {"withdrawn": -0.1}])
def test_what_cannot_be_simulated_is_refused(changes):
    with pytest.raises(BadInputError, match="lies between"):
        SuggestionsSettings(**changes)
