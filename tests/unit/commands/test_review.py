"""`twinloop review`, from the queue to the agreement, on what the log says."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import tiny_moderation
from typer.testing import CliRunner

from twinloop.cli import app
from twinloop.commands import review
from twinloop.errors import UnavailableError
from twinloop.ports import MemoryObjectStore

RUN = CliRunner()


@pytest.fixture
def place(monkeypatch):
    store = MemoryObjectStore()
    registry = tiny_moderation.registered(store)
    now = datetime.now(UTC)
    decision = {"item_id": "t1", "author_id": "a1", "action": "review", "because": ["spam"], "labels": {"spam": 0.6},
                "text": "megadeal [red]"}  # fmt: skip
    line = {"prediction_id": "p", "time": now.isoformat(), "policy_version": "default-1", "decisions": [decision]}
    store.write(f"predictions/moderation/{now:%Y/%m/%d}/lines", json.dumps(line).encode())
    sent = []

    def ask(place, path, body):
        sent.append((path, body))
        return {"accepted": len(body["events"]), "rejected": []}

    monkeypatch.setattr(review, "ask", ask)
    made = SimpleNamespace(store=store, registry=lambda name: registry, sent=sent)
    monkeypatch.setattr(review, "deployment", lambda: made)
    return made


def run(*arguments):
    return RUN.invoke(app, ["review", *arguments])


def test_the_queue_is_shown_and_worked_off(place):
    shown = run("queue").output
    assert "1 texts wait" in shown
    assert "megadeal [red]" in shown
    assert "spam 0.60" in shown
    assert run("decide", "t1", "spam=1", "--as", "ann").exit_code == 0
    [(path, body)] = place.sent
    assert path == "/v1/moderation/events"
    assert body["events"][0]["type"] == "violation"
    assert "0 texts wait" in run("queue").output
    assert run("appeal", "t1", "--as", "a1", "--note", "a joke").exit_code == 0
    assert "appeal" in run("queue").output
    assert "restoration" in run("appeal", "t1", "spam=0", "--as", "ben").output
    assert "spam" in run("agreement").output


def test_a_text_is_shown_whole(place):
    now = datetime.now(UTC)
    text = "river " * 100 + "\x1b[2Jend"
    decision = {"item_id": "t2", "author_id": "a1", "action": "review", "because": ["spam"],
                "labels": {"scam": 0.1, "spam": 0.6}, "text": text}  # fmt: skip
    cut = decision | {"item_id": "t3", "text": "y" * 10_000, "characters": 30_000, "passages": ["the worst"]}
    line = {"prediction_id": "p2", "time": now.isoformat(), "policy_version": "v", "decisions": [decision, cut]}
    place.store.write(f"predictions/moderation/{now:%Y/%m/%d}/more", json.dumps(line).encode())
    queued = run("queue").output
    assert "end" not in queued.replace("y", "")
    assert queued.count("…") == 2
    shown = run("show", "t2").output
    assert shown.rstrip().endswith("\ufffd[2Jend")
    assert "\x1b" not in shown
    for told in ("review, because of spam", "policy v", "author: a1", "spam 0.600", "scam 0.100"):
        assert told in shown
    assert "[…]" not in shown
    run("decide", "t3", "spam=1", "--as", "ann", "--note", "plain spam")
    shown = run("show", "t3").output
    assert "of 30000 characters" in " ".join(shown.split())
    assert shown.rstrip().endswith("[…]\nthe worst\n[…]")
    assert "ann (reviewer) spam=1 plain spam" in shown
    assert run("show", "t9").exit_code == 1


def test_a_label_with_a_slip_of_the_pen_is_refused(place):
    found = run("decide", "t1", "spma=1", "--as", "ann")
    assert found.exit_code == 1
    assert "--new-label" in " ".join(found.output.split())
    assert run("decide", "t1", "threat=1", "--as", "ann", "--new-label").exit_code == 0


def test_a_record_that_could_not_be_told_is_told_again(place, monkeypatch):
    def away(*_):
        raise UnavailableError("away")

    told = review.ask
    monkeypatch.setattr(review, "ask", away)
    found = run("decide", "t1", "spam=1", "--as", "ann")
    assert found.exit_code == 1
    assert "decide the same once more" in " ".join(found.output.split())
    monkeypatch.setattr(review, "ask", told)
    assert "violation" in run("decide", "t1", "spam=1", "--as", "ann").output
    assert len(place.sent) == 1
    assert "violation" not in run("decide", "t1", "spam=1", "--as", "ann").output


def test_what_the_queue_did_not_take_is_told_again(place, monkeypatch):
    """Of two events that wait to be told, one is refused in an answer that is none of an error."""
    told, answers = review.ask, []

    def ask(place, path, body):
        again = [{"index": 1, "event_id": "x", "errors": [{"field": "", "reason": "not just now"}], "retry": True}]
        answers.append(told(place, path, body) | {"rejected": again[: len(body["events"]) - 1]})
        return answers[-1]

    with monkeypatch.context() as away:
        away.setattr(review, "ask", lambda *_: (_ for _ in ()).throw(UnavailableError("away")))
        assert run("decide", "t1", "spam=1", "--as", "ann").exit_code == 1
    monkeypatch.setattr(review, "ask", ask)
    found = run("decide", "t1", "spam=0", "--as", "ann")
    assert found.exit_code == 1
    assert "not just now" in " ".join(found.output.split())
    assert run("decide", "t1", "spam=0", "--as", "ann").exit_code == 0
    assert run("decide", "t1", "spam=0", "--as", "ann").exit_code == 0
    assert [[event["type"] for event in body["events"]] for _, body in place.sent] == [
        ["violation", "restoration"], ["restoration"]
    ]  # fmt: skip


def test_what_is_wrong_is_said_in_a_sentence(place):
    for arguments, told in (
        (("decide", "t1", "spam"), "say label=1"),
        (("decide", "t9", "spam=1"), "no decision about"),
        (("policy", "/nowhere.json"), "no such file"),
    ):
        found = run(*arguments)
        assert found.exit_code == 1
        assert told in found.output


def test_the_policy_is_shown_and_changed(place, tmp_path):
    assert "thresholds of the champion" in run("policy").output
    path = tmp_path / "policy.json"
    path.write_text('{"name": "mild", "labels": {"spam": {"remove": 0.99}, "scam": {}}}')
    media = tmp_path / "media.txt"
    media.write_text("00000000000000ff\n")
    assert "policy mild-" in run("policy", str(path), "--media", str(media), "--why", "too strict").output
    assert '"name": "mild"' in run("policy").output
