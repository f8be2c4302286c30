"""People decide, disagree, appeal and are overruled; nothing of it is lost, and all of it is learnt from."""

import json
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
import tiny_moderation

from twinloop.errors import BadInputError, ConflictError, NotFoundError
from twinloop.ports import MemoryObjectStore
from twinloop.systems.moderation import review
from twinloop.systems.moderation.features import EXAMPLES_SQL
from twinloop.systems.moderation.policy import LabelPolicy, Policy, read_hashes
from twinloop.systems.moderation.release import change, served_policy

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryObjectStore:
    made = MemoryObjectStore()
    decisions = [
        {"item_id": "t1", "author_id": "a1", "action": "review", "because": ["spam"], "labels": {"spam": 0.6},
         "text": "megadeal"},
        {"item_id": "t2", "author_id": "a2", "action": "allow", "because": [], "labels": {"spam": 0.1}},
        {"item_id": None, "author_id": None, "action": "review", "because": ["spam"], "labels": {"spam": 0.5},
         "text": "nameless"},
    ]  # fmt: skip
    line = {"prediction_id": "p1", "time": "2026-03-04T10:00:00.000+00:00", "policy_version": "default-1"}
    body = json.dumps({**line, "decisions": decisions}).encode() + b"\n"
    made.write("predictions/moderation/2026/03/04/lines", body)
    return made


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def waits(store, minutes=100):
    return {one.item_id: one.why for one in review.waiting(store, now=at(minutes))}


def test_what_policy_sent_to_people_waits_for_them(store) -> None:
    nameless, first = review.waiting(store, now=NOW)
    assert (first.item_id, first.why, first.text, first.policy_version) == ("t1", "review", "megadeal", "default-1")
    assert (nameless.item_id, nameless.text) == ("p1-2", "nameless")


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


def decide(store, item, labels, **how):
    """Decide, and tell the author's record."""
    events = review.decide(store, item, labels, **how)
    review.mark_told(store, events)
    return [event["type"] for event in events]


def add(store, minutes, *decisions):
    time = at(minutes).isoformat(timespec="milliseconds")
    line = {"prediction_id": f"p{minutes}", "time": time, "policy_version": "default-1", "decisions": decisions}
    store.write(f"predictions/moderation/2026/03/04/lines{minutes:05}", json.dumps(line).encode())


def made(item_id, text, action="review"):
    of = {"item_id": item_id, "author_id": "a1", "action": action, "because": ["spam"], "labels": {"spam": 0.6}}
    return of if action == "allow" else of | {"text": text}


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


def test_a_text_that_was_changed_waits_by_itself(store) -> None:
    assert decide(store, "t1", {"spam": 0}, who="ann", now=NOW) == []
    add(store, 1, made("t1", "megadeal"))
    assert "t1" not in waits(store)  # the same text was decided about
    add(store, 2, made("t1", "another megadeal"))
    add(store, 3, made("t1", "", "allow"))
    [one] = [one for one in review.waiting(store, now=at(4)) if one.item_id == "t1"]
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
    [one] = [one for one in review.waiting(store, now=at(5)) if one.item_id == "t5"]
    assert (one.why, one.text) == ("appeal", "two jackpots")
    decide(store, "t5", {"spam": 0}, who="ben", now=at(6), source="appeal")
    assert "t5" not in waits(store)


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


def test_a_decision_needs_no_more_of_the_log_than_its_text(store, monkeypatch) -> None:
    for minutes in range(1, 6):
        add(store, minutes, made(f"i{minutes}", "megadeal"))
    store.write("predictions/moderation/2026/03/03/lines", b"{ broken")
    monkeypatch.setattr(review, "_MOST_LINES", 3)
    with pytest.raises(BadInputError, match="fewer days"):
        review.waiting(store, now=at(9), days=1)
    assert decide(store, "i1", {"spam": 1}, who="ann", now=at(9)) == ["violation"]
    assert decide(store, "t1", {"spam": 1}, who="ann", now=at(9)) == ["violation"]
    with pytest.raises(NotFoundError, match="last 1 days"):
        review.decide(store, "t1", {"spam": 1}, who="ann", now=NOW + timedelta(days=5), days=1)
    store.delete("predictions/moderation/2026/03/03/lines")
    assert review.decide(store, "t1", {"spam": 1}, who="ben", now=NOW + timedelta(days=5), days=6) == []


def test_reviewers_who_disagree_are_kept_and_somebody_else_is_asked(store) -> None:
    decide(store, "t1", {"spam": 1}, who="ann", now=NOW)
    assert decide(store, "t1", {"spam": 0}, who="ben", now=at(1)) == ["restoration"]  # no longer more than half
    assert waits(store)["t1"] == "conflict"
    review.decide(store, "t1", {"spam": 0}, who="cem", now=at(2))
    assert "t1" not in waits(store)
    [found] = review.agreement(store)
    assert (found.label, found.texts, found.twice, found.disagreed) == ("spam", 1, 1, 1)


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
    [found] = review.agreement(store)
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


def test_alpha_is_krippendorffs() -> None:
    """The nominal example of Krippendorff (2011), section C: alpha .691 is of four observers; here, of two, .095."""
    pairs = list(zip((0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0), strict=True))
    assert review.alpha(pairs) == pytest.approx(0.095, abs=5e-4)
    assert review.alpha([(1, 1), (0, 0)]) == 1
    assert review.alpha([(1, 1)]) is None
    assert review.alpha([(1,), (0,)]) is None


def test_what_is_learnt_is_the_share_of_reviewers_unless_an_appeal_was_decided() -> None:
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE items AS SELECT 't' || n AS item_id, ' Same Text' AS text, 'a' AS author_id FROM range(3) AS r(n);
        CREATE TABLE labels (item_id VARCHAR, label VARCHAR, value BIGINT, source VARCHAR, time_ms BIGINT,
            reviewer_id VARCHAR, text VARCHAR);
        INSERT INTO labels VALUES
            ('t0', 'spam', 1, 'reviewer', 1, 'ann', NULL), ('t0', 'spam', 0, 'reviewer', 2, 'ben', ' Same Text'),
            ('t0', 'spam', 0, 'reviewer', 3, 'ann', NULL), ('t0', 'scam', 1, 'import', 1, NULL, NULL),
            ('t1', 'spam', 1, 'reviewer', 1, 'ann', NULL), ('t1', 'spam', 0, 'appeal', 2, 'ben', NULL)""")
    rows = connection.execute(f"SELECT * FROM ({EXAMPLES_SQL}) ORDER BY example_id").fetchall()  # noqa: S608 - our own
    found = {row[0]: dict(zip(row[5], row[6], strict=True)) for row in rows}
    assert found == {"t0": {"scam": 1.0, "spam": 0.0}, "t1": {"spam": 0.0}}
    assert rows[0][1] == rows[1][1]  # the same text is one group
    connection.close()


def test_a_label_is_learnt_with_the_text_that_was_read() -> None:
    """Of an item that is not loaded, of one that was changed since, and of one longer than the log has it."""
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE items AS SELECT * FROM (VALUES
            ('changed', 'good now', 'a'), ('longer', repeat('word ', 3000), 'a')) AS r(item_id, text, author_id);
        CREATE TABLE labels AS SELECT *, 'spam' AS label, 1::BIGINT AS value, 'reviewer' AS source, 'ann' AS reviewer_id
        FROM (VALUES ('gone', 'a deal', 1), ('changed', 'good', 1), ('changed', 'good now', 2),
            ('longer', left(repeat('word ', 3000), 10000), 1), ('nobody knows', NULL, 1)) AS r(item_id, text, time_ms)
    """)
    found = connection.execute(f"SELECT example_id, text FROM ({EXAMPLES_SQL})").fetchall()  # noqa: S608 - our own
    texts = {example_id.partition("-")[0] + ": " + text for example_id, text in found}
    assert texts == {"gone: a deal", "changed: good", "changed: good now", f"longer: {'word ' * 3000}"}
    assert {"changed", "longer"} < {example_id for example_id, _ in found}
    connection.close()


def test_a_policy_changes_without_training_and_goes_back() -> None:
    store = MemoryObjectStore()
    registry = tiny_moderation.registered(store)
    before = registry.alias("champion").version
    assert served_policy(registry) is None
    policy = Policy(name="mild", labels={"spam": LabelPolicy(remove=0.99), "scam": LabelPolicy()})
    move = change(registry, policy=policy, media=read_hashes(["00000000000000ff"]), why="too strict", by="ann")
    assert (move.came_from, move.why) == (before, "too strict")
    assert served_policy(registry) == policy.model_dump_json(indent=1).encode()
    files = registry.read_release(move.version)["text"]
    assert files["model.onnx"] == tiny_moderation.files()["text"]["model.onnx"]
    with pytest.raises(ConflictError, match="already"):
        change(registry, policy=policy, why="again", by="ann")
    registry.rollback(why="no", by="ann")
    assert served_policy(registry) is None


@pytest.mark.parametrize(
    ("labels", "told"),
    [({"spam": {}, "scam": {}, "spma": {}}, "no label spma; it knows spam, scam"), ({"spam": {}}, "nothing of scam")],
)
def test_a_policy_speaks_of_exactly_the_models_labels(labels, told) -> None:
    registry = tiny_moderation.registered(MemoryObjectStore())
    with pytest.raises(BadInputError, match=told):
        change(registry, policy=Policy(labels=labels), why="tests", by="ann")
    assert served_policy(registry) is None
