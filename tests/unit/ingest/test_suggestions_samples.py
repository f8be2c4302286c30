"""The samples of suggestions' raw data become what they show."""

import json
from pathlib import Path

import pytest

from twinloop import systems
from twinloop.contracts.events import SUGGESTIONS_TABLES
from twinloop.ingest.columns import table_of

SAMPLES = Path(__file__).parents[3] / "events" / "suggestions"


@pytest.fixture
def suggestions(world):
    world.name, world.system = "suggestions", systems.load("suggestions")
    return world


def deliver(world, name):
    return world.deliver(name, (SAMPLES / name).read_bytes())


def test_rows_are_typed_and_go_to_their_dates(suggestions):
    assert deliver(suggestions, "events/valid.jsonl").rows == {"2025-03-01": 4, "2025-03-02": 2}
    rows = {row["event_id"]: row for row in suggestions.rows()}
    assert json.loads(rows["s-1001"]["context"]) == {"lat": 52.49, "lon": 13.42, "device": "phone"}
    assert (rows["s-1004"]["item_id"], rows["s-1004"]["type"]) == ("11", "decline")
    assert json.loads(rows["s-1005"]["extra"]) == {"reason": "ill"}


def test_late_rows_land_in_their_own_date(suggestions):
    assert deliver(suggestions, "events/late.jsonl").rows == {"2025-01-15": 1, "2025-03-02": 1}


def test_what_comes_again_brings_nothing_but_its_own_id(suggestions):
    deliver(suggestions, "events/valid.jsonl")
    before = {row["event_id"] for row in suggestions.rows()}
    assert not deliver(suggestions, "events/duplicate.jsonl").quarantined
    assert {row["event_id"] for row in suggestions.rows()} - before == {"s-1007"}


def test_poison_is_quarantined_line_by_line(suggestions):
    deliver(suggestions, "events/poison.jsonl")
    assert suggestions.ids() == ["s-2001", "s-2008"]
    assert [entry["line"] for entry in suggestions.quarantine()] == list(range(2, 8))


def test_half_a_place_and_what_is_none_are_quarantined(suggestions):
    deliver(suggestions, "items/poison.jsonl")
    assert [row["item_id"] for row in suggestions.rows("items")] == ["e-24"]
    reasons = [json.dumps(entry) for entry in suggestions.quarantine()]
    assert len(reasons) == 4
    assert "lat and lon come together" in reasons[0]
    assert "time zone" in reasons[2]


def test_events_and_people_are_kept_with_what_is_said_of_them(suggestions):
    assert not deliver(suggestions, "items/valid.jsonl").quarantined
    assert not deliver(suggestions, "users/valid.csv").quarantined
    park, reef, online = suggestions.rows("items")
    assert (park["topics"], park["capacity"], park["price"]) == (["jazz", "outdoors"], 80, 0.0)
    assert json.loads(reef["extra"]) == {"indoors": False}
    assert (online["lat"], online["organizer_id"], online["cancelled"]) == (None, None, None)
    first, second, third = suggestions.rows("users")
    assert (first["topics"], first["friends"]) == (["hiking", "jazz"], ["u-2", "u-3"])
    assert (second["lon"], second["topics"], third["lat"]) == (179.97, [], None)


def test_whole_columns_of_events_are_checked_and_not_rows():
    assert table_of("events", SUGGESTIONS_TABLES["events"]).exact
