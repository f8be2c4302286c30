"""The simulated ads: their statistics are those asked for, their truth is true, and the ETL takes them."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated_lake import loaded, rows_of

from twinloop import systems
from twinloop.datasets.simulator.ads import AdsApplication
from twinloop.datasets.simulator.best import best_possible
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings
from twinloop.errors import BadInputError

WORLD = WorldSettings(users=500, items=200, days=10, seed=3)
ADS = AdsSettings(events=120_000)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "it"
    simulate(folder, WORLD, ADS)
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    return {name: column.to_numpy() for name, column in zip(*columns(folder), strict=True)}


def columns(folder):
    table = pq.read_table(folder / "truth.parquet")
    return table.column_names, table.columns


@pytest.fixture(scope="module", params=["jsonl.gz", "parquet"])
def tables(request, folder, tmp_path_factory):
    """The rows of a lake that took the files as `twinloop load` would deliver them."""
    if request.param != "jsonl.gz":
        folder = tmp_path_factory.mktemp("simulated") / "it"
        simulate(folder, WORLD, replace(ADS, events=20_000), kind=request.param)
    store = loaded(folder / "raw", "ads", NOON).objects
    assert not list(store.keys("quarantine/"))
    return {table: rows_of(store, "ads", table) for table in systems.load("ads").tables}


def test_the_etl_takes_every_row_and_they_hang_together(tables):
    ads = {row["item_id"]: row for row in tables["items"]}
    shown = {(row["request_id"], row["item_id"]): row for row in tables["events"] if row["type"] == "impression"}
    assert len(ads) == 200
    for row in tables["events"]:
        assert row["bid"] > 0
        assert set(json.loads(row["context"])) == {"slot", "device", "simulated"}
        first = shown[row["request_id"], row["item_id"]]
        assert (row["time"], row["bid"], row["user_id"]) >= (first["time"], first["bid"], first["user_id"])
    for row in ads.values():
        attributes = json.loads(row["attributes"])
        assert set(attributes) == {"category", "daily_budget"}
        assert attributes["daily_budget"] >= 0
        assert json.loads(row["extra"]) == {"simulated": True}
    campaigns = {(row["campaign_id"], row["advertiser_id"]) for row in ads.values()}
    assert len({campaign for campaign, _ in campaigns}) == len(campaigns) > len({who for _, who in campaigns}) > 1
    assert set(json.loads(tables["users"][0]["extra"])) == {"country", "age_group", "simulated"}


def test_the_truth_is_of_the_impressions_and_true(truth):
    p, clicked = truth["p_click"].astype(np.float64), truth["clicked"]
    assert ((p > 0) & (p <= truth["p_seen"])).all()
    for rows in np.array_split(np.argsort(p), 10):
        deviation = (clicked[rows].sum() - p[rows].sum()) / np.sqrt((p[rows] * (1 - p[rows])).sum())
        assert abs(deviation) < 4


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.1])
def test_the_base_rate_is_the_one_asked_for(rate):
    pieces = list(AdsApplication(WORLD, replace(ADS, click_rate=rate)).pieces())
    mean = np.concatenate([piece.truth.p_click for piece in pieces]).mean()
    assert mean == pytest.approx(rate, rel=0.15)


def test_some_clicks_are_late_and_the_others_are_not():
    pieces = list(AdsApplication(WORLD, replace(ADS, click_rate=0.1, late=0.3)).pieces())
    delays = []
    for piece in pieces:
        events = piece.events
        shown = {
            (request, item): time
            for request, item, time, kind in zip(events.request, events.item, events.time_ms, events.type, strict=True)
            if kind == 0
        }
        of_clicks = np.flatnonzero(events.type == 1)
        delays += [events.time_ms[row] - shown[events.request[row], events.item[row]] for row in of_clicks]
    minutes = np.array(delays) / 60_000
    assert (minutes > 0).all()
    assert (minutes > 1).mean() == pytest.approx(0.3 * np.exp(-1 / 20), abs=0.03)
    assert minutes[minutes > 1].mean() == pytest.approx(21, rel=0.15)


def test_users_see_the_same_ad_again():
    pieces = list(AdsApplication(WORLD, ADS).pieces())
    user = np.concatenate([piece.shown.user for piece in pieces])
    item = np.concatenate([piece.shown.item for piece in pieces])
    _, counts = np.unique(user * 10_000 + item, return_counts=True)
    assert (counts > 3).sum() > 100


def test_bids_are_alike_within_a_campaign():
    application = AdsApplication(replace(WORLD, items=2000), ADS)
    _, campaign = np.unique(application.campaign, return_inverse=True)
    logs = np.log(application.bids)
    means = np.bincount(campaign, logs) / np.bincount(campaign)
    assert (logs - means[campaign]).std() < 0.5 * logs.std()


def test_the_same_settings_write_the_same_bytes(folder, tmp_path):
    simulate(tmp_path / "it", WORLD, ADS)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / "it" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_the_best_possible_is_of_clicks_alone(folder):
    best = best_possible(folder / "truth.parquet")
    assert best.long_view is best.watch_s is None
    assert 0.65 < best.click.auc < 0.95
    assert best.click.calibration_ratio == pytest.approx(1, abs=0.1)
    told = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))
    assert told["best_possible"] == best.as_dict()
    assert set(told["best_possible"]) == {"impressions", "judged", "click", "outcome"}
    assert "twinloop load ads" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("wrong", [{"late": 1.1}, {"late_minutes": -1}, {"click_rate": 0.0001}, {"slots": 0}])
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(BadInputError, match=next(iter(wrong))):
        AdsSettings(**wrong)
