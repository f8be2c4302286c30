"""The simulated search: its truth is true, the ETL takes it, and the same settings are the same bytes."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated_lake import loaded, rows_of

from twinloop import systems
from twinloop.datasets.simulator.best import best_possible
from twinloop.datasets.simulator.run import simulate, write_simulated
from twinloop.datasets.simulator.searches import GOOD, JUDGED, SearchWorld
from twinloop.datasets.simulator.settings import SearchSettings, WorldSettings
from twinloop.errors import BadInputError

SEARCH = SearchSettings(items=300, topics=6, queries=150, searches=6000, days=7, seed=4)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "it"
    simulate(folder, SEARCH)
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    return pq.read_table(folder / "truth.parquet").to_pylist()


@pytest.fixture(scope="module", params=["jsonl.gz", "parquet"])
def tables(request, tmp_path_factory):
    """The rows of a lake that took the files as `twinloop load` would deliver them."""
    folder = tmp_path_factory.mktemp("simulated") / "it"
    simulate(folder, SEARCH, kind=request.param)
    store = loaded(folder / "raw", "search", NOON).objects
    assert not list(store.keys("quarantine/"))
    return {table: rows_of(store, "search", table) for table in systems.load("search").tables}


def test_the_etl_takes_every_row_and_they_hang_together(tables, truth):
    assert len(tables["items"]) == SEARCH.items
    asked = {row["request_id"]: row for row in tables["events"] if row["type"] == "query"}
    assert len(asked) == SEARCH.searches
    for row in tables["events"]:
        assert json.loads(row["context"]) == {"simulated": True}
        search = asked[row["request_id"]]
        assert len(search["shown"]) == SEARCH.slots == len(set(search["shown"]))
        assert (row["query"], row["user_id"]) == (search["query"], search["user_id"])
        if row["type"] == "click":
            assert search["shown"][row["position"]] == row["item_id"]
            assert row["time"] > search["time"]
    clicked = {(row["request_id"], row["item_id"]) for row in tables["events"] if row["type"] == "click"}
    assert clicked == {(row["request_id"], row["item_id"]) for row in truth if row["clicked"]}
    found = {row["item_id"] for row in tables["items"]}
    assert {row["item_id"] for row in tables["judgments"]} <= found
    assert json.loads(tables["items"][0]["extra"]) == json.loads(tables["judgments"][0]["extra"]) == {"simulated": True}


def test_events_lie_in_the_days_asked_for_and_each_search_comes_before_its_clicks(folder):
    [file] = (folder / "raw" / "events").iterdir()
    rows = pq.ParquetFile(folder / "truth.parquet").read(["time"])["time"].cast("int64").to_numpy()
    start = SEARCH.start.timestamp() * 1000
    assert start <= rows.min() <= rows.max() < SEARCH.end.timestamp() * 1000
    assert (np.diff(rows) >= 0).all()
    assert file.name == "events-00000.jsonl.gz"


def test_the_truth_is_of_what_was_shown_and_true(truth):
    p = np.array([row["p_click"] for row in truth])
    clicked = np.array([row["clicked"] for row in truth])
    np.testing.assert_allclose(p, [row["p_seen"] * row["p_attracts"] for row in truth], rtol=1e-5)
    for rows in np.array_split(np.argsort(p), 10):
        deviation = (clicked[rows].sum() - p[rows].sum()) / np.sqrt((p[rows] * (1 - p[rows])).sum())
        assert abs(deviation) < 4
    world = SearchWorld(SEARCH)
    number = {query: place for place, (_, query) in enumerate(world.queries)}
    once = {query for query, count in Counter(query for _, query in world.queries).items() if count == 1}
    for row in truth[:2000]:
        if row["query"] in once:
            true = world.attraction(number[row["query"]])[int(row["item_id"][1:])]
            assert row["p_attracts"] == pytest.approx(true, rel=1e-5)


def test_good_ones_are_shown_first_more_often_and_still_at_several_places(truth):
    places = {}
    for row in truth:
        places.setdefault((row["query"], row["item_id"]), []).append(row["position"])
    assert np.mean([len(set(of)) > 1 for of in places.values() if len(of) >= 20]) > 0.9
    mean = [np.mean([row["p_attracts"] for row in truth if row["position"] == place]) for place in (0, 9)]
    assert mean[0] > 1.5 * mean[1]


def test_judgments_say_what_attracts_enough(folder):
    world = SearchWorld(SEARCH)
    judged = list(world.judgments())
    by_query = Counter(query for query, _, _ in judged)
    assert set(by_query.values()) == {JUDGED}
    assert len(by_query) == pytest.approx(SEARCH.judged * SEARCH.queries, rel=0.25)
    for query, document, grade in judged[:400]:
        assert grade == (world.attraction(query)[document] >= GOOD)
    assert {document for query, document, grade in judged if grade and query == judged[0][0]} >= {
        world.wanted[judged[0][0]]
    }


def test_the_same_settings_write_the_same_bytes(folder, tmp_path):
    simulate(tmp_path / "it", SEARCH)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / "it" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_events_of_other_settings_have_other_ids(folder, tmp_path):
    simulate(tmp_path / "it", replace(SEARCH, seed=5, searches=100))
    mine = set(pq.read_table(folder / "truth.parquet")["request_id"].to_pylist())
    assert not mine.intersection(pq.read_table(tmp_path / "it" / "truth.parquet")["request_id"].to_pylist())


def test_the_best_possible_is_of_clicks(folder):
    best = best_possible(folder / "truth.parquet")
    assert 0.7 < best.click.auc < 0.95
    assert best.click.calibration_ratio == pytest.approx(1, abs=0.05)
    told = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))
    assert told["best_possible"] == best.as_dict()
    assert told["rows"]["truth"] == SEARCH.searches * SEARCH.slots
    assert "twinloop load search" in (folder / "README.md").read_text(encoding="utf-8")


def test_raw_tables_alone_are_the_same_and_may_be_written_again(folder, tmp_path):
    for _ in range(2):
        rows = write_simulated(tmp_path, SEARCH)
    assert set(rows) == {"items", "judgments", "events"} == {path.name for path in tmp_path.iterdir()}
    for path in (folder / "raw").rglob("*.gz"):
        assert (tmp_path / path.relative_to(folder / "raw")).read_bytes() == path.read_bytes()


def test_what_cannot_be_simulated_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="nothing is simulated with WorldSettings, SearchSettings"):
        simulate(tmp_path / "it", WorldSettings(), SEARCH)
    with pytest.raises(BadInputError, match="nothing happened"):
        simulate(tmp_path / "empty", replace(SEARCH, searches=0))


@pytest.mark.parametrize(
    "wrong", [{"items": 49}, {"topics": 201}, {"queries": 9}, {"judged": 1.1}, {"slots": 0}, {"noise": -1}]
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(BadInputError, match=next(iter(wrong))):
        SearchSettings(**wrong)
