"""Suggestions on the stack: simulated towns learnt from, upcoming events told, and one of them called off."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deployed import Answer, Cloud, answered_by, wait_for, write_lines

from twinloop.aws import functions
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import SuggestionsSettings, WorldSettings

RECOMMENDATIONS = "/v1/suggestions/recommendations"
BERLIN = {"lat": 52.52, "lon": 13.405}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def verdict(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three weeks until last midnight, in the lake and learnt from by the two lowest rungs."""
    folder = tmp_path_factory.mktemp("suggestions") / "world"
    start = (datetime.now(UTC) - timedelta(days=21)).replace(hour=0, minute=0, second=0, microsecond=0)
    simulate(
        folder,
        WorldSettings(users=600, items=600, days=21, seed=3, start=start),
        SuggestionsSettings(events=30_000),
    )
    cloud.load("suggestions", folder / "raw")
    return cloud.learn("suggestions", ("distance_popularity", "event_logistic"))


def ask(cloud: Cloud, **more: Any) -> Answer:
    return cloud.call(RECOMMENDATIONS, {"user_id": "u1", "explore": False, **more})


def usual(cloud: Cloud, version: str, **more: Any) -> dict[str, Any]:
    return answered_by(version, lambda: ask(cloud, **more))


def test_upcoming_events_near_by_are_told_with_their_clocks_and_reasons(cloud: Cloud, verdict: dict[str, Any]) -> None:
    told = usual(cloud, verdict["version"], **BERLIN, time_zone="Europe/Berlin", limit=10, include=["reasons"])
    events = told["events"]
    assert told["placed"]
    assert [one["rank"] for one in events] == list(range(1, len(events) + 1))
    assert len(events) >= 5
    now_ms = time.time() * 1000
    for one in events:
        assert one["starts_ms"] > now_ms - 60_000
        local = datetime.fromisoformat(one["local_start"])
        assert local.timestamp() * 1000 == pytest.approx(one["starts_ms"], abs=60_000)
        if one.get("distance_km") is not None:
            assert 0 <= one["distance_km"] <= 100
            assert local.utcoffset() in (timedelta(hours=1), timedelta(hours=2))  # Berlin's
            assert one["travel_min"] > 0
    assert any(one["reasons"] for one in events)
    far = ask(cloud, lat=-16.79, lon=179.97, limit=50).json["events"]
    assert {one["item_id"] for one in far if one.get("distance_km") is not None}.isdisjoint(
        one["item_id"] for one in events if one.get("distance_km") is not None
    )
    across = ask(cloud, lat=-16.79, lon=-179.97, limit=50).json["events"]  # some kilometres on, past the date line
    assert {one["item_id"] for one in far} & {one["item_id"] for one in across}


def test_what_serves_is_scored_on_a_labelled_file(cloud: Cloud, verdict: dict[str, Any], tmp_path: Path) -> None:
    # Lists of one moment, at which they are judged, too: who is asked an hour later may put events in another order.
    labelled, at_ms = tmp_path / "events.jsonl", int(time.time() * 1000) - 3_600_000
    usual(cloud, verdict["version"], **BERLIN)
    rows: list[dict[str, Any]] = []
    for who in range(20):
        events = ask(cloud, user_id=f"judge{who}", **BERLIN, limit=8, time_ms=at_ms).json["events"]
        told = {"user_id": f"judge{who}", "request_id": f"judged-{who}", "time": at_ms}
        rows += [
            {"event_id": f"v{who}-{n}", "type": "view", "item_id": one["item_id"], "position": n, "context": BERLIN}
            | told
            for n, one in enumerate(events)
        ]
        rows.append({"event_id": f"y{who}", "type": "rsvp", "item_id": events[0]["item_id"]} | told)
    write_lines(labelled, rows)
    for found in cloud.scores("suggestions", labelled).values():
        assert (found["release"], found["cases"]) == (verdict["version"], 20)
        assert found["metrics"]["ndcg_at_10"]["mean"] > 0.9  # what was said yes to had been ranked first


def test_somebody_without_a_place_is_answered(cloud: Cloud, verdict: dict[str, Any]) -> None:
    told = usual(cloud, verdict["version"], user_id=f"nobody{time.time_ns()}")
    assert not told["placed"]
    assert told["events"]
    assert all("distance_km" not in one for one in told["events"])


def test_a_cancelled_event_is_gone_within_a_minute_and_in_the_lake_after_it(
    cloud: Cloud, verdict: dict[str, Any]
) -> None:
    first = usual(cloud, verdict["version"], **BERLIN)["events"][0]["item_id"]
    mark, now = f"e2e{time.time_ns()}", datetime.now(UTC)
    event = {"event_id": f"{mark}-c", "type": "cancel", "time": now.isoformat(), "user_id": mark, "item_id": first}
    unheard = event | {"event_id": f"{mark}-x", "type": "postpone"}
    assert cloud.send("suggestions", [event, unheard]) == [f"{mark}-x"]

    def gone() -> bool:
        return first not in {one["item_id"] for one in ask(cloud, **BERLIN, limit=100).json["events"]}

    wait_for(gone, 60, "the cancelled event is gone")
    cloud.wait_for_events("suggestions", mark, now, {f"{mark}-c"})


def test_who_said_yes_is_not_asked_again(cloud: Cloud, verdict: dict[str, Any]) -> None:
    who = f"fan{time.time_ns()}"
    first = usual(cloud, verdict["version"], user_id=who, **BERLIN)["events"][0]["item_id"]
    now = datetime.now(UTC).isoformat()
    event = {"event_id": f"{who}-y", "type": "rsvp", "time": now, "user_id": who, "item_id": first}
    assert cloud.send("suggestions", [event]) == []

    def known() -> bool:
        return first not in {one["item_id"] for one in ask(cloud, user_id=who, **BERLIN, limit=100).json["events"]}

    wait_for(known, 60, "the answer is known")


def test_an_event_that_was_published_after_the_learning_is_suggested(
    cloud: Cloud, verdict: dict[str, Any], tmp_path: Path
) -> None:
    mark, starts = f"new{time.time_ns()}", datetime.now(UTC) + timedelta(hours=30)
    row = {"item_id": mark, "title": "Unheard", "topics": ["jazz"], "starts_at": starts.isoformat(), **BERLIN}
    write_lines(tmp_path / "items.jsonl", [row])
    cloud.load("suggestions", tmp_path)
    made = functions.invoke(cloud.place.outputs["RefreshFunction"], {"system": "suggestions"})
    champion = cloud.place.registry("suggestions").alias("champion")
    assert champion is not None
    assert champion.version == made["version"] != verdict["version"]

    def suggested() -> bool:
        told = ask(cloud, **BERLIN, radius_km=1, limit=100).json
        return told["model_version"] == made["version"] and mark in {one["item_id"] for one in told["events"]}

    wait_for(suggested, 60, "the new event is suggested")
    again = functions.invoke(cloud.place.outputs["RefreshFunction"], {"system": "suggestions"})
    assert again["version"] is None
