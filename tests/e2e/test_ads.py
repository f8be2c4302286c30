"""The ads system on the stack: a simulated world loaded and learnt from, and what the API says of its ads."""

from __future__ import annotations

import io
import math
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deployed import Answer, Cloud, answered_by, wait_for

from twinloop.commands import learn
from twinloop.contracts.live import LiveCalibration, live_key
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings

PREDICTIONS = "/v1/ads/predictions"
ADS = [{"ad": f"ad{n}", "bid": 0.1 * (1 + n % 7)} for n in range(50)]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def verdict(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two weeks until yesterday, in the lake and learnt from by the two lowest rungs."""
    folder = tmp_path_factory.mktemp("ads") / "world"
    start = (datetime.now(UTC) - timedelta(days=15)).replace(hour=0, minute=0, second=0, microsecond=0)
    world = WorldSettings(users=300, items=100, days=14, seed=1, start=start)
    simulate(folder, world, AdsSettings(events=30_000, click_rate=0.1))
    cloud.load("ads", folder / "raw")
    found = cloud.learn("ads", ("base_rate", "logistic"))
    assert found["rung"] == "logistic", found
    return found


def ask(cloud: Cloud, **more: Any) -> Answer:
    return cloud.call(PREDICTIONS, {"user_id": "u1", "ads": ADS, "explore": False, "context": {"slot": "top"}, **more})


def test_ads_are_told_with_their_chances_in_the_order_of_what_they_are_worth(
    cloud: Cloud, verdict: dict[str, Any]
) -> None:
    told = answered_by(verdict["version"], lambda: ask(cloud))
    assert told["arm"] == "champion"
    assert told["prediction_id"]
    ads = told["ads"]
    assert len(ads) + told["capped"] + told["paced"] == len(ADS)
    assert [one["rank"] for one in ads] == list(range(1, len(ads) + 1))
    bids = {one["ad"]: one["bid"] for one in ADS}
    for one in ads:
        assert one["bid"] == bids[one["ad"]]
        assert 0 < one["p_click"] < 1
        assert one["expected_value"] == pytest.approx(one["bid"] * one["p_click"])
    worth = [one["expected_value"] for one in ads]
    assert worth == sorted(worth, reverse=True)
    assert len({one["p_click"] for one in ads}) > 10

    without = ask(cloud, ads=[{"ad": one["ad"]} for one in ADS], limit=5).json["ads"]
    assert len(without) == 5
    assert all("expected_value" not in one for one in without)
    chances = [one["p_click"] for one in without]
    assert chances == sorted(chances, reverse=True)


def test_what_serves_is_scored_on_a_labelled_file_in_process_and_through_the_api(
    cloud: Cloud, verdict: dict[str, Any], tmp_path: Path
) -> None:
    made = tmp_path / "world"
    start = datetime(2025, 1, 1, tzinfo=UTC)
    world = WorldSettings(users=300, items=100, days=14, seed=1, start=start)
    simulate(made, world, AdsSettings(events=300, click_rate=0.1))
    [labelled] = (made / "raw" / "events").iterdir()
    scores = cloud.scores("ads", labelled)
    for found in scores.values():
        assert found["cases"] > 50
        assert found["release"] == verdict["version"]
        assert -2 < found["metrics"]["log_gain"]["mean"] < 0
    assert scores["--api"]["metrics"]["log_gain"]["mean"] == pytest.approx(
        scores["--in-process"]["metrics"]["log_gain"]["mean"], abs=0.01
    )


def test_learning_goes_on_from_the_champion(cloud: Cloud, verdict: dict[str, Any]) -> None:
    found, progress = learn.run(cloud.place, "ads", since="last")
    assert {(job.name.split("-ads-")[1].rsplit("-", 1)[0], job.status) for job in progress.jobs} == {
        ("base-rate", "Completed"),
        ("logistic", "Completed"),
    }
    assert found["champion"] == verdict["version"]


def in_lake(cloud: Cloud, days: set[str], mark: str) -> int:
    """Count the events whose id begins with a mark, each once."""
    store, found = cloud.place.store, set()
    for day in days:
        for key in store.keys(f"lake/ads/events/dt={day}/"):
            found.update(pq.read_table(io.BytesIO(store.read(key).body), columns=["event_id"])["event_id"].to_pylist())
    return sum(str(event).startswith(mark) for event in found)


def odds(p: float) -> float:
    return p / (1 - p)


def test_where_more_is_clicked_than_was_said_chances_follow_within_a_look(
    cloud: Cloud, verdict: dict[str, Any]
) -> None:
    """Half of what was answered is clicked, three hours ago by the clock of the application; nobody waits for it."""
    now, mark, store = datetime.now(UTC), f"live{time.time_ns()}", cloud.place.store
    # Nothing happens to these: what is said of them changes by the offset alone.
    control = {"user_id": f"{mark}-nobody", "ads": [{"ad": f"{mark}-{n}"} for n in range(5)]}
    champion = cloud.place.registry("ads").alias("champion")
    assert champion is not None
    version = champion.version
    before = answered_by(version, lambda: ask(cloud, **control))

    # Nobody learns of answers that were degraded, as one is where the store took too long.
    answers = [answered_by(version, partial(ask, cloud, user_id=f"{mark}-{n}", limit=10)) for n in range(12)]
    shown = int((now - timedelta(hours=3)).timestamp() * 1000)
    events: list[dict[str, Any]] = []
    for n, answer in enumerate(answers):
        for place, one in enumerate(answer["ads"]):
            row = {"user_id": f"{mark}-{n}", "item_id": one["ad"], "request_id": answer["prediction_id"]}
            row |= {"event_id": f"{mark}-{n}-{place}", "type": "impression", "time": shown + n, "position": place}
            events.append(row)
            if place % 2:
                events.append(row | {"event_id": f"{mark}-{n}-{place}-c", "type": "click", "time": shown + 60_000})
    rows, clicks = sum(len(answer["ads"]) for answer in answers), sum(row["type"] == "click" for row in events)
    assert rows == 120
    # The lake is as far as its latest event says.
    latest = {"event_id": f"{mark}-now", "type": "impression", "user_id": f"{mark}-0", "item_id": "ad1"}
    events.append(latest | {"time": int(now.timestamp() * 1000)})
    for begin in range(0, len(events), 500):
        assert cloud.send("ads", events[begin : begin + 500]) == []

    days = {f"{moment:%Y-%m-%d}" for moment in (now, now - timedelta(hours=3), now - timedelta(hours=2))}
    wait_for(lambda: in_lake(cloud, days, mark) == len(events), 240, "the events are in the lake")
    wanted = {answer["prediction_id"] for answer in answers}

    def logged() -> bool:
        keys = [key for moment in (now, datetime.now(UTC)) for key in store.keys(f"predictions/ads/{moment:%Y/%m/%d}/")]
        lines = b"\n".join(store.read(key).body for key in keys)
        return all(prediction_id.encode() in lines for prediction_id in wanted)

    wait_for(logged, 120, "the answers are in the log")
    try:
        told = cloud.twinloop("monitor", "ads")
        assert version in told
        assert "champion" in told
        made = LiveCalibration.model_validate_json(store.read(live_key("ads")).body)
        offsets = made.versions[version]
        assert (offsets.rows, offsets.positives) == (rows, clicks)
        assert offsets.expected < 0.7 * clicks
        added = offsets.of({"slot": "top"})
        assert added > 0.3

        def moved() -> dict[str, Any] | None:
            found: dict[str, Any] = ask(cloud, **control).json
            same = found["degraded"] or found["ads"][0]["p_click"] == before["ads"][0]["p_click"]
            return None if same else found

        after = wait_for(moved, 30, "the offset is in what is said")
        said = {one["ad"]: one["p_click"] for one in before["ads"]}
        for one in after["ads"]:
            assert odds(one["p_click"]) == pytest.approx(odds(said[one["ad"]]) * math.exp(added), rel=1e-3)
        assert after["model_version"] == version
    finally:
        store.delete(live_key("ads"))
