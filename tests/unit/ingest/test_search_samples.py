"""The samples of search's raw data become what they show."""

import json
from pathlib import Path

import pytest

from twinloop import systems
from twinloop.contracts.events import SEARCH_TABLES
from twinloop.ingest.columns import table_of

SAMPLES = Path(__file__).parents[3] / "events" / "search"


@pytest.fixture
def search(world):
    world.name, world.system = "search", systems.load("search")
    return world


def deliver(world, name):
    return world.deliver(name, (SAMPLES / name).read_bytes())


def test_rows_are_typed_and_go_to_their_dates(search):
    made = deliver(search, "events/valid.jsonl")
    assert made.rows == {"2025-03-01": 3, "2025-03-02": 1}
    rows = {row["event_id"]: row for row in search.rows()}
    assert rows["q-1001"]["shown"] == ["p-10", "p-11"]
    assert (rows["q-1002"]["item_id"], rows["q-1002"]["position"]) == ("p-10", 0)
    assert rows["q-1003"]["extra"] == '{"app":"web"}'
    assert (rows["q-1004"]["user_id"], rows["q-1004"]["item_id"]) == ("2", None)


def test_what_comes_again_brings_nothing_but_its_own_id(search):
    deliver(search, "events/valid.jsonl")
    before = {row["event_id"] for row in search.rows()}
    assert not deliver(search, "events/duplicate.jsonl").quarantined
    assert {row["event_id"] for row in search.rows()} - before == {"q-1005"}
    assert deliver(search, "events/late.jsonl").rows == {"2025-01-15": 1}


def test_poison_is_quarantined_line_by_line(search):
    made = deliver(search, "events/poison.jsonl")
    assert search.ids() == ["q-2001"]
    assert sum(made.quarantined.values()) == 7


def test_documents_are_kept_with_what_is_said_of_them(search):
    assert sum(deliver(search, "items/valid.jsonl").rows.values()) == 3
    assert sum(deliver(search, "users/valid.csv").rows.values()) == 2
    first, second, third = sorted(search.rows("items"), key=lambda row: row["title"], reverse=True)
    assert json.loads(first["attributes"]) == {"brand": "Alder", "price": 89.5, "year": 2024}
    assert json.loads(second["extra"]) == {"warehouse": "north"}
    assert (third["item_id"], third["text"]) == ("12", None)


def test_judgments_are_rows_of_their_own(search):
    assert sum(deliver(search, "judgments/valid.jsonl").rows.values()) == 3
    rows = search.rows("judgments")
    assert {(row["query"], row["item_id"], row["grade"]) for row in rows} == {
        ("red shoes", "p-10", 3.0),
        ("red shoes", "p-11", 0.0),
        ("present", "12", 2.5),
    }
    assert sum(deliver(search, "judgments/poison.jsonl").quarantined.values()) == 5


@pytest.mark.parametrize("name", SEARCH_TABLES)
def test_whole_columns_are_checked_and_not_rows(name):
    assert table_of(name, SEARCH_TABLES[name]).exact
