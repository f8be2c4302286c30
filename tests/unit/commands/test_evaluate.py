"""`twinloop evaluate`: whoever answers is told, and what was not asked for is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import engaged
import pytest
import tiny_system
from deployed_in_memory import MemoryDeployment
from tiny_models import video_files
from typer.testing import CliRunner

from twinloop.cli import app
from twinloop.commands import evaluate
from twinloop.commands.evaluate import from_log, score
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError, ConflictError, NotFoundError
from twinloop.features.stores import MemoryFeatureStore
from twinloop.systems.video.features import COUNTING
from twinloop.systems.video.presets import DEFAULT, PRESETS, Preset

USERS = 12


@pytest.fixture
def place() -> MemoryDeployment:
    """Two releases, the first of them the champion; users who liked i2, and of whom that is known."""
    place = MemoryDeployment()
    tiny_system.promote(place.store, tiny_system.register(place.store))
    for user in range(USERS):
        place.histories.merge("video", f"u{user}", [HistoryEntry("i2", 1000, 1.0)])
    return place


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Everybody went on to i3, which the tiny model puts first; i2 they had met; i5 they did not like."""
    path = tmp_path / "events.jsonl"
    rows = [
        {"event_id": f"{user}-{item}", "type": "rating", "time": 1_700_000_000_000 + user, "user_id": f"u{user}"}
        | {"item_id": item, "rating": rating}
        for user in range(USERS)
        for item, rating in (("i2", 5), ("i3", 5), ("i5", 1))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def second_release(place: MemoryDeployment) -> str:
    return tiny_system.register(place.store, video_files(7, schema_hash=tiny_system.SCHEMA))


def test_in_process_the_champion_is_judged(place: MemoryDeployment, held_out: Path, monkeypatch) -> None:
    place.enter(monkeypatch, place.serve())
    found = score(place, "video", held_out)
    assert (found["asked"], found["cases"], found["rows"]) == ("in process", USERS, 3 * USERS)
    assert found["metrics"]["ndcg@10"]["mean"] == 1.0
    assert "degraded" not in found


def test_an_alias_names_another_release(place: MemoryDeployment, held_out: Path, monkeypatch) -> None:
    place.enter(monkeypatch, place.serve())
    other = second_release(place)
    tiny_system.promote(place.store, other, "shadow")
    assert score(place, "video", held_out, alias="shadow")["release"] == other


def test_the_api_is_judged_with_who_answered(place: MemoryDeployment, held_out: Path, monkeypatch) -> None:
    place.enter(monkeypatch, place.serve())
    found = score(place, "video", held_out, api=True)
    assert found["asked"] == "api"
    assert found["answered_by"] == {found["release"]: USERS}
    assert found["arms"] == {"champion": USERS}
    assert found["degraded"] == 0.0
    assert found["metrics"]["ndcg@10"]["mean"] == 1.0


def test_fallbacks_are_a_share_of_the_answers(place: MemoryDeployment, held_out: Path, monkeypatch) -> None:
    place.enter(monkeypatch, place.serve(histories=False))
    found = score(place, "video", held_out, api=True)
    assert found["degraded"] == 1.0
    assert found["metrics"]["ndcg@10"]["mean"] < 1.0


def test_a_stale_release_behind_the_api_is_refused(place: MemoryDeployment, held_out: Path, monkeypatch) -> None:
    app, stale = place.serve(), place.registry("video").alias("champion")
    place.enter(monkeypatch, app)
    score(place, "video", held_out, api=True)  # loads what is champion now
    champion = second_release(place)
    tiny_system.promote(place.store, champion)
    with pytest.raises(ConflictError, match="30 seconds") as refused:
        score(place, "video", held_out, api=True)
    assert stale is not None
    assert champion in str(refused.value)
    assert f"{stale.version} ({USERS})" in str(refused.value)


def test_a_challenger_beside_the_champion_is_refused(place: MemoryDeployment, held_out: Path, monkeypatch) -> None:
    tiny_system.promote(place.store, second_release(place), "challenger")
    place.enter(monkeypatch, place.serve(challenger_share=0.5))
    with pytest.raises(ConflictError, match="without a challenger"):
        score(place, "video", held_out, api=True)


def test_an_alias_cannot_be_asked_of_the_api(place: MemoryDeployment, held_out: Path) -> None:
    with pytest.raises(BadInputError, match="--alias is for --in-process"):
        score(place, "video", held_out, api=True, alias="shadow")


def test_a_system_without_labelled_files_says_so(place: MemoryDeployment, held_out: Path, register) -> None:
    register(replace(tiny_system.SYSTEM, evaluation=None))
    with pytest.raises(NotFoundError, match="video does not say"):
        score(place, "video", held_out)


def test_files_that_hold_nothing_to_judge_by(place: MemoryDeployment, tmp_path: Path, monkeypatch) -> None:
    place.enter(monkeypatch, place.serve())
    met = {"event_id": "1", "type": "like", "time": 1_700_000_000_000, "user_id": "u1", "item_id": "i2"}
    path = tmp_path / "met.jsonl"
    path.write_text(json.dumps(met) + "\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="nothing to judge by"):
        score(place, "video", path)
    with pytest.raises(BadInputError, match="no such file"):
        score(place, "video", tmp_path / "gone.jsonl")
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match="empty"):
        score(place, "video", path)


def logged(tmp_path: Path, requests: int = 400) -> tuple[Path, Path]:
    """A log as serving writes it, half of it by any preset, and what came of it: users like `diverse` lists."""
    log, events = tmp_path / "log.jsonl", tmp_path / "outcome.jsonl"
    predictions, outcome = [], []
    for number in range(requests):
        name = list(PRESETS)[number // 2 % len(PRESETS)] if number % 2 else DEFAULT
        predictions.append(
            {
                "prediction_id": f"p{number}",
                "system": "video" if number else "other",
                "cold": False,
                "history_events": 5,
                "items": [["i1", 1.0], ["i2", 0.5]],
                "preset": {"name": name, "propensity": 0.625 if name == DEFAULT else 0.125, "drawn": True},
                "propensities": None,
                "tried": [],
            }
        )
        event = {"time": 1_700_000_000_000 + number, "user_id": "u", "request_id": f"p{number}"}
        if name == "diverse":
            liked = {"type": "like", "item_id": "i1"}
            # Liked twice, which counts once.
            outcome += [event | liked | {"event_id": f"{number}-{copy}"} for copy in range(2)]
        outcome.append(event | {"type": "hide", "item_id": "i2", "event_id": f"{number}-hide"})
        outcome.append(event | {"type": "like", "item_id": "elsewhere", "event_id": f"{number}-elsewhere"})
    log.write_text("".join(json.dumps(line) + "\n" for line in predictions), encoding="utf-8")
    events.write_text("".join(json.dumps(row) + "\n" for row in outcome), encoding="utf-8")
    return log, events


def test_a_log_tells_what_a_preset_would_have_earned(tmp_path: Path) -> None:
    log, events = logged(tmp_path)
    found = from_log("video", log, events, preset="diverse")
    assert (found["system"], found["preset"], found["rounds"]) == ("video", "diverse", 399)
    assert found["snips"]["mean"] == 1.0
    assert found["ips"]["low"] < 1.0 < found["ips"]["high"]
    assert found["dr"]["low"] < 1.0 < found["dr"]["high"]
    assert found["served"]["mean"] == pytest.approx(50 / 399)
    usual = from_log("video", log, events)
    assert usual["preset"] == DEFAULT
    assert usual["snips"]["mean"] == 0.0


@pytest.mark.parametrize("system", ["ads", "search"])
def test_a_system_that_does_not_say_what_was_liked_has_no_estimate(tmp_path: Path, system: str) -> None:
    log, events = logged(tmp_path, 4)
    with pytest.raises(NotFoundError, match=f"none of {system}'s events says that"):
        from_log(system, log, events)


def test_a_log_that_does_not_say_what_was_tried_tells_what_a_preset_would_have_earned(tmp_path: Path) -> None:
    """As of suggestions: half of the lists are of `soon`, and an RSVP came of each of these."""
    log, events = tmp_path / "log.jsonl", tmp_path / "outcome.jsonl"
    lines, outcome = [], []
    for number in range(200):
        preset = "soon" if number % 2 else "balanced"
        chosen = {"name": preset, "propensity": 0.5, "drawn": True}
        shown = {"items": [["e1", 1.0], ["e2", 0.5]], "propensities": None, "placed": True, "history_events": 2}
        lines.append({"prediction_id": f"p{number}", "system": "suggestions", "preset": chosen} | shown)
        did = {"event_id": f"{number}", "time": 1_700_000_000_000, "user_id": "u", "item_id": "e2"}
        outcome.append(did | {"type": "rsvp" if number % 2 else "decline", "request_id": f"p{number}"})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    events.write_text("".join(json.dumps(row) + "\n" for row in outcome), encoding="utf-8")
    found = from_log("suggestions", log, events, preset="soon")
    assert (found["rounds"], found["snips"]["mean"], found["served"]["mean"]) == (200, 1.0, 0.5)
    assert found["trials"] is None
    with pytest.raises(BadInputError, match="without --no-explore"):
        from_log("suggestions", log, events, preset="soon", explore=False)


def test_the_command_prints_the_estimates(tmp_path: Path) -> None:
    log, events = logged(tmp_path)
    asked = ["evaluate", "video", "--log", str(log), "--events", str(events), "--preset", "fresh", "--no-explore"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {"ips", "snips", "dr", "effective_rounds", "support"} <= set(found)
    assert found["explore"] is False


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--preset", "loud"], "there is no preset 'loud'; video has balanced"),
        (["--api"], "--log asks neither"),
        (["--alias", "shadow"], "--log asks neither"),
    ],
)
def test_what_a_log_cannot_be_asked_is_refused(tmp_path: Path, more: list[str], told: str) -> None:
    log, events = logged(tmp_path, 4)
    done = CliRunner().invoke(app, ["evaluate", "video", "--log", str(log), "--events", str(events), *more])
    assert done.exit_code == 1
    assert told in done.stderr


def test_presets_are_of_a_log_alone(tmp_path: Path) -> None:
    _, events = logged(tmp_path, 4)
    for more in (["--preset", "fresh"], ["--no-explore"]):
        done = CliRunner().invoke(app, ["evaluate", "video", "--events", str(events), *more])
        assert done.exit_code == 1
        assert "go with --log" in done.stderr


def test_in_process_a_release_that_asks_what_is_known_is_told_by_the_store(
    place: MemoryDeployment, held_out: Path, monkeypatch
) -> None:
    """i4 was shown so often that it goes before i3, which everybody liked."""
    monkeypatch.setitem(PRESETS, DEFAULT, Preset("", click=1.0))
    parts, known = engaged.files(), MemoryFeatureStore()
    tiny_system.promote(place.store, tiny_system.register(place.store, parts, schema=engaged.schema_of(parts)))
    place.enter(monkeypatch, place.serve())
    monkeypatch.setattr(evaluate, "DynamoFeatureStore", lambda table: known)
    before = score(place, "video", held_out)["metrics"]["ndcg@10"]["mean"]
    shown = engaged.shown(50, before_ms=1_700_000_000_000)
    known.count("video", ("item", "i4"), shown, COUNTING.layout("item"))
    assert before == 1.0  # all are alike, so i3 stays where the retrieval puts it
    assert score(place, "video", held_out)["metrics"]["ndcg@10"]["mean"] < 1.0
