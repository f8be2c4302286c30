"""What waits for people by the log and their words: text by text, and no more of the log read than it takes."""

import json
from datetime import timedelta

import pytest
from moderated_log import NOW, add, at, decide, logged, made, waits

from twinloop.errors import BadInputError, NotFoundError
from twinloop.ports import MemoryObjectStore
from twinloop.systems.moderation import review, review_queue
from twinloop.systems.moderation.review_queue import waiting


@pytest.fixture
def store() -> MemoryObjectStore:
    return logged()


def test_what_policy_sent_to_people_waits_for_them(store) -> None:
    nameless, first = waiting(store, now=NOW)
    assert (first.item_id, first.why, first.text, first.policy_version) == ("t1", "review", "megadeal", "default-1")
    assert (nameless.item_id, nameless.text) == ("p1-2", "nameless")


def test_a_text_that_was_changed_waits_by_itself(store) -> None:
    assert decide(store, "t1", {"spam": 0}, who="ann", now=NOW) == []
    add(store, 1, made("t1", "megadeal"))
    assert "t1" not in waits(store)  # the same text was decided about
    add(store, 2, made("t1", "another megadeal"))
    add(store, 3, made("t1", "", "allow"))
    [one] = [one for one in waiting(store, now=at(4)) if one.item_id == "t1"]
    assert (one.why, one.text, one.words) == ("review", "another megadeal", ())
    assert decide(store, "t1", {"spam": 1}, who="ann", now=at(5)) == ["violation"]
    assert "t1" not in waits(store)
    last = max(store.keys("raw/moderation/labels/"), key=lambda key: int(key.split("-")[-2]))
    assert json.loads(store.read(last).body)["text"] == "another megadeal"


def test_an_appeal_is_about_the_text_that_was_acted_upon_last(store) -> None:
    add(store, 1, made("t5", "one jackpot", "remove"))
    add(store, 2, made("t5", "two jackpots", "limit"))
    add(store, 3, made("t5", "", "allow"))
    review.appeal(store, "t5", who="a1", now=at(4))
    [one] = [one for one in waiting(store, now=at(5)) if one.item_id == "t5"]
    assert (one.why, one.text) == ("appeal", "two jackpots")
    decide(store, "t5", {"spam": 0}, who="ben", now=at(6), source="appeal")
    assert "t5" not in waits(store)


def test_a_decision_needs_no_more_of_the_log_than_its_text(store, monkeypatch) -> None:
    for minutes in range(1, 6):
        add(store, minutes, made(f"i{minutes}", "megadeal"))
    store.write("predictions/moderation/2026/03/03/lines", b"{ broken")
    monkeypatch.setattr(review_queue, "_MOST_LINES", 3)
    with pytest.raises(BadInputError, match="fewer days"):
        waiting(store, now=at(9), days=1)
    assert decide(store, "i1", {"spam": 1}, who="ann", now=at(9)) == ["violation"]
    assert decide(store, "t1", {"spam": 1}, who="ann", now=at(9)) == ["violation"]
    with pytest.raises(NotFoundError, match="last 1 days"):
        review.decide(store, "t1", {"spam": 1}, who="ann", now=NOW + timedelta(days=5), days=1)
    store.delete("predictions/moderation/2026/03/03/lines")
    assert review.decide(store, "t1", {"spam": 1}, who="ben", now=NOW + timedelta(days=5), days=6) == []
