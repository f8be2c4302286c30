"""People decide, appeal and are overruled; all of it becomes labels, and the author's record follows."""

import json

import pytest
from moderated_log import NOW, at, decide, logged, waits

from twinloop.errors import BadInputError, ConflictError, NotFoundError
from twinloop.ports import MemoryObjectStore
from twinloop.systems.moderation import review
from twinloop.systems.moderation.agreement import agreement


@pytest.fixture
def store() -> MemoryObjectStore:
    return logged()


def test_a_decision_becomes_labels_and_a_record(store) -> None:
    [event] = review.decide(store, "t1", {"spam": 1, "scam": 0}, who="ann", now=NOW)
    assert (event["type"], event["user_id"], event["item_id"], event["actor_id"]) == ("violation", "a1", "t1", "ann")
    assert waits(store) == {"p1-2": "review"}
    [key] = store.keys("raw/moderation/labels/")
    rows = [json.loads(line) for line in store.read(key).body.splitlines()]
    assert [(row["label"], row["value"], row["source"], row["reviewer_id"]) for row in rows] == [
        ("scam", 0, "reviewer", "ann"), ("spam", 1, "reviewer", "ann")
    ]  # fmt: skip
    assert {row["text"] for row in rows} == {"megadeal"}
    assert not list(store.keys("raw/moderation/items/"))  # the application's own row stays what it is


def test_a_word_on_another_label_takes_nothing_back(store) -> None:
    assert decide(store, "t1", {"spam": 1}, who="ann", now=NOW) == ["violation"]
    assert decide(store, "t1", {"scam": 0}, who="ann", now=at(1)) == []
    review.appeal(store, "t1", who="a1", now=at(2))
    assert decide(store, "t1", {"scam": 0}, who="ben", now=at(3), source="appeal") == []
    review.appeal(store, "t1", who="a1", now=at(4))
    assert decide(store, "t1", {"spam": 0}, who="cem", now=at(5), source="appeal") == ["restoration"]


def test_what_could_not_be_told_is_told_with_the_same_word_once_more(store) -> None:
    lost = review.decide(store, "t1", {"spam": 1}, who="ann", now=NOW)
    again = review.decide(store, "t1", {"spam": 1}, who="ann", now=at(1))
    assert again == lost
    review.mark_told(store, again)
    assert review.decide(store, "t1", {"spam": 1}, who="ann", now=at(2)) == []


def test_an_appeal_is_decided_once_and_by_nobody_who_is_a_party(store) -> None:
    decide(store, "t1", {"spam": 1}, who="ann", now=NOW)
    review.appeal(store, "t1", who="friend", now=at(1))
    for who in ("friend", "a1", "ann"):
        with pytest.raises(ConflictError, match="somebody else"):
            review.decide(store, "t1", {"spam": 0}, who=who, now=at(2), source="appeal")
    decide(store, "t1", {"spam": 0}, who="ben", now=at(3), source="appeal")
    with pytest.raises(ConflictError, match="the appeal is decided"):
        review.decide(store, "t1", {"spam": 1}, who="cem", now=at(4), source="appeal")
    review.appeal(store, "t1", who="friend", now=at(5))
    with pytest.raises(ConflictError, match="somebody else"):
        review.decide(store, "t1", {"spam": 1}, who="ben", now=at(6), source="appeal")


def test_an_appeal_overturns_and_is_decided_by_somebody_else(store) -> None:
    decide(store, "t1", {"spam": 1}, who="ann", now=NOW)
    with pytest.raises(ConflictError, match="nobody appealed"):
        review.decide(store, "t1", {"spam": 0}, who="ben", now=NOW, source="appeal")
    review.appeal(store, "t1", who="a1", now=at(1), note="it was a joke")
    assert next(iter(waits(store).items())) == ("t1", "appeal")
    with pytest.raises(ConflictError, match="waits to be decided"):
        review.appeal(store, "t1", who="a1", now=at(2))
    with pytest.raises(ConflictError, match="somebody else"):
        review.decide(store, "t1", {"spam": 0}, who="ann", now=at(3), source="appeal")
    [event] = review.decide(store, "t1", {"spam": 0}, who="ben", now=at(3), source="appeal")
    assert (event["type"], event["user_id"]) == ("restoration", "a1")
    assert "t1" not in waits(store)
    [found] = agreement(store)
    assert (found.appeals, found.overturned) == (1, 1)


def test_what_makes_no_sense_is_refused(store) -> None:
    with pytest.raises(NotFoundError, match="'t9'"):
        review.decide(store, "t9", {"spam": 1}, who="ann", now=NOW)
    for labels in ({}, {"spam": 2}, {"Not A Label": 1}):
        with pytest.raises(BadInputError):
            review.decide(store, "t1", labels, who="ann", now=NOW)
    review.decide(store, "t1", {"spam": 1}, who="ann", now=NOW)
    with pytest.raises(ConflictError, match="at this very moment"):
        review.decide(store, "t1", {"spam": 0}, who="ann", now=NOW)
