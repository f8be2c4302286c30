"""The samples of moderation's raw data become what they show."""

import json
from pathlib import Path

import pytest

from twinloop import systems

SAMPLES = Path(__file__).parents[3] / "events" / "moderation"


@pytest.fixture
def moderation(world):
    world.name, world.system = "moderation", systems.load("moderation")
    return world


def deliver(world, name):
    return world.deliver(name, (SAMPLES / name).read_bytes())


def test_texts_and_everybodys_word_are_kept(moderation):
    assert sum(deliver(moderation, "items/valid.jsonl").rows.values()) == 3
    assert sum(deliver(moderation, "labels/valid.jsonl").rows.values()) == 5
    assert {row["item_id"]: row["author_id"] for row in moderation.rows("items")}["t-2"] == "u-2"
    assert json.loads(next(row for row in moderation.rows("items") if row["item_id"] == "t-3")["extra"]) == {
        "lang": "en"
    }
    of_second = [row for row in moderation.rows("labels") if row["item_id"] == "t-2"]
    assert sorted((row["source"], row["reviewer_id"], row["value"]) for row in of_second) == [
        ("appeal", "cem", 1), ("reviewer", "ann", 1), ("reviewer", "ben", 0)
    ]  # fmt: skip


def test_poison_is_quarantined_line_by_line(moderation):
    for name, lines in (("items", 3), ("labels", 5), ("events", 4)):
        made = deliver(moderation, f"{name}/poison.jsonl")
        assert (sum(made.rows.values()), sum(made.quarantined.values())) == (0, lines)


def test_events_are_known_again_by_their_id(moderation):
    assert sum(deliver(moderation, "events/valid.jsonl").rows.values()) == 4
    assert not deliver(moderation, "events/duplicate.jsonl").quarantined
    assert set(deliver(moderation, "events/late.jsonl").rows) == {"2024-11-30"}
    assert {row["event_id"] for row in moderation.rows()} == {"m-1", "m-2", "m-3", "m-4", "m-5"}
