"""The ads system on the stack: a simulated world loaded and learnt from, and what the API says of its ads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from deployed import Answer, Cloud, wait_for

from twinloop.commands import learn
from twinloop.commands.data import load_files
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
    receipts = load_files(cloud.place, "ads", [folder / "raw"])
    assert sum(sum(receipt.quarantined.values()) for receipt in receipts) == 0
    found, progress = learn.run(cloud.place, "ads", ("base_rate", "logistic"))
    assert {job.status for job in progress.jobs} == {"Completed"}, progress.jobs
    assert found["promote"], found
    return found


def ask(cloud: Cloud, **more: Any) -> Answer:
    return cloud.call(PREDICTIONS, {"user_id": "u1", "ads": ADS, "explore": False, "context": {"slot": "top"}, **more})


def test_ads_are_told_with_their_chances_in_the_order_of_what_they_are_worth(
    cloud: Cloud, verdict: dict[str, Any]
) -> None:
    told = wait_for(
        lambda: found if (found := ask(cloud)).status == 200 and not found.json["degraded"] else None,
        60,
        "the champion answers",
    ).json
    assert (told["model_version"], told["arm"]) == (verdict["version"], "champion")
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
    if verdict["rung"] == "logistic":
        assert len({one["p_click"] for one in ads}) > 10

    without = ask(cloud, ads=[{"ad": one["ad"]} for one in ADS], limit=5).json["ads"]
    assert len(without) == 5
    assert all("expected_value" not in one for one in without)
    chances = [one["p_click"] for one in without]
    assert chances == sorted(chances, reverse=True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ads": []}, "ads"),
        ({"ads": [{"ad": "ad1", "bid": -1}]}, "ads.0.bid"),
        ({"ads": [{"ad": "ad1"}, {"bid": 1}]}, "ads.1.ad"),
        ({"ads": [{"ad": "ad1"}, {"ad": "ad1"}]}, "ads"),
        ({"ads": [{"ad": f"ad{n}"} for n in range(1001)]}, "ads"),
        ({"user_id": 7}, "user_id"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_request_is_refused_by_the_field(
    cloud: Cloud, verdict: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    answer = ask(cloud, **body)
    assert (answer.status, answer.kind) == (400, "application/problem+json"), answer
    assert field in {fault["field"] for fault in answer.json["errors"]}


def test_without_a_key_nothing_is_said_but_how_to_ask(cloud: Cloud) -> None:
    assert cloud.call(PREDICTIONS, {"user_id": "u1", "ads": ADS}, key=None).status == 403
    answer = cloud.call("/v1/ads/openapi.json", key=None)
    assert (answer.status, answer.kind) == (200, "application/json")
    assert set(answer.json["paths"]) == {PREDICTIONS, "/v1/ads/events"}
    assert PREDICTIONS not in cloud.call("/v1/openapi.json", key=None).json["paths"]


def test_learning_goes_on_from_the_champion(cloud: Cloud, verdict: dict[str, Any]) -> None:
    if verdict["rung"] != "logistic":
        pytest.skip(f"{verdict['rung']} cannot go on")
    found, progress = learn.run(cloud.place, "ads", since="last")
    assert {(job.name.split("-ads-")[1].rsplit("-", 1)[0], job.status) for job in progress.jobs} == {
        ("base-rate", "Completed"),
        ("logistic", "Completed"),
    }
    assert found["champion"] == verdict["version"]
