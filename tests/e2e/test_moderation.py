"""The moderation system on the stack: texts and people's words in, decisions out, and people heard."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tiny_moderation
from deployed import Answer, Cloud, answered_by, wait_for, write_lines

from twinloop.systems.moderation.review_queue import waiting

DECISIONS = "/v1/moderation/decisions"
SPAM, PLAIN = "bread and jackpot music by the river", "bread and music by the river"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def verdict(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Texts with the words of three people each in the lake, and learnt from by two rungs."""
    folder = tmp_path_factory.mktemp("moderation") / "raw"
    tables = tiny_moderation.world(600)
    for table, rows in tables.items():
        (folder / table).mkdir(parents=True)
        write_lines(folder / table / "all.jsonl", rows)
    assert cloud.load("moderation", folder) == {table: len(rows) for table, rows in tables.items()}
    return cloud.learn("moderation", ("lexicon", "hashed_linear"))


def ask(cloud: Cloud, **body: Any) -> Answer:
    return cloud.call(DECISIONS, body)


def usual(cloud: Cloud, version: str) -> dict[str, Any]:
    """Wait until this release answers; its decision about `SPAM`."""
    return answered_by(version, lambda: ask(cloud, text=SPAM))


def test_a_text_is_decided_about_by_what_people_said_of_others(cloud: Cloud, verdict: dict[str, Any]) -> None:
    told = usual(cloud, verdict["version"])
    assert told["policy_version"].startswith("default-")
    [spam] = told["decisions"]
    assert spam["labels"]["spam"] > 0.6
    assert spam["action"] != "allow"
    assert spam["because"] == ["spam"]
    [disguised] = ask(cloud, text="bread and j\u200ba\u0441kp0t music by the river").json["decisions"]
    assert disguised["labels"]["spam"] == pytest.approx(spam["labels"]["spam"], abs=0.2)

    batch = ask(cloud, items=[{"text": PLAIN, "item_id": "a"}, {"text": SPAM, "item_id": "b"}, {"text": " "}]).json
    plain, again, empty = batch["decisions"]
    assert [one.get("item_id") for one in (plain, again, empty)] == ["a", "b", None]
    assert plain["labels"]["spam"] < 0.3
    assert again["labels"] == pytest.approx(spam["labels"])
    assert (empty["action"], empty["labels"]) == ("allow", {})


def test_what_serves_is_scored_on_labelled_texts(cloud: Cloud, verdict: dict[str, Any], tmp_path: Path) -> None:
    usual(cloud, verdict["version"])
    labelled = tmp_path / "texts.jsonl"
    rows = [
        {"item_id": f"n{n}", "text": f"{text} number{n}", "labels": {"spam": int(text == SPAM)}}
        for n, text in enumerate([SPAM, PLAIN] * 20)
    ]
    write_lines(labelled, rows)
    for found in cloud.scores("moderation", labelled).values():
        assert (found["release"], found["cases"]) == (verdict["version"], len(rows))
        assert -0.5 < found["metrics"]["log_gain"]["mean"] < 0


def test_people_decide_what_policy_sends_them_and_are_heard(
    cloud: Cloud, verdict: dict[str, Any], tmp_path: Path
) -> None:
    """Another policy without training, the queue, a decision, the author's record, and the word as a label to learn."""
    usual(cloud, verdict["version"])
    mark = f"e2e{time.time_ns()}"
    policy = tmp_path / "policy.json"
    strict = {
        "name": "people",
        "labels": {"spam": {"review": 0.4}, "winter": {}},
        "author": {"violations": 1, "stricter": 5},
    }
    policy.write_text(json.dumps(strict), encoding="utf-8")
    media = tmp_path / "media.txt"
    media.write_text("00000000000000ff\n", encoding="utf-8")
    cloud.twinloop("review", "policy", policy, "--media", media, "--why", "tests")
    state = cloud.place.registry("moderation").alias("champion")
    assert state is not None
    assert state.version != verdict["version"]

    told = usual(cloud, state.version)
    assert told["policy_version"].startswith("people-")
    asked = {"text": SPAM, "item_id": mark, "author_id": mark}
    [decision] = ask(cloud, **asked).json["decisions"]
    assert (decision["action"], decision["because"]) == ("review", ["spam"])
    [known] = ask(cloud, text=PLAIN, media_hashes=["00000000000000f0"]).json["decisions"]
    assert (known["action"], known["because"]) == ("remove", ["media"])
    [before] = ask(cloud, text="bread and number music", author_id=mark).json["decisions"]
    assert before["action"] == "allow"

    def waits() -> bool:
        found = waiting(cloud.place.store, now=datetime.now(UTC), days=1)
        return any((one.item_id, one.text) == (mark, SPAM) for one in found)

    wait_for(waits, 180, "the text waits for a person")
    assert mark[:12] in cloud.twinloop("review", "queue", "--days", "1", "--limit", "1000").replace("\n", "")
    decided = datetime.now(UTC)
    cloud.twinloop("review", "decide", mark, "spam=1", "--as", "ann")
    assert not waits()

    def stricter() -> bool:
        [one] = ask(cloud, text="bread and number music", author_id=mark).json["decisions"]
        return bool(one["action"] == "review")

    # A violation is an event: queue, function, store. What was said of the text itself does not change.
    wait_for(stricter, 120, "the author's record counts")

    def learnt() -> bool:
        days = {f"{moment:%Y-%m-%d}" for moment in (decided, datetime.now(UTC))}  # it may be midnight
        rows = [row for day in days for row in cloud.lake_rows("labels", day, system="moderation")]
        return any((row["item_id"], row["label"], row["reviewer_id"]) == (mark, "spam", "ann") for row in rows)

    wait_for(learnt, 120, "the word is a label in the lake")


def test_reports_reach_the_lake(cloud: Cloud, verdict: dict[str, Any]) -> None:
    mark, now = f"e2e{time.time_ns()}", datetime.now(UTC)
    of = {"type": "report", "time": now.isoformat(), "user_id": mark, "item_id": "i", "actor_id": "somebody"}
    events = [{"event_id": f"{mark}-1"} | of, {"event_id": f"{mark}-2"} | of | {"type": "shout"}]
    assert cloud.send("moderation", events) == [f"{mark}-2"]
    cloud.wait_for_events("moderation", mark, now, {f"{mark}-1"})
