"""What users do changes what they are recommended; what operators decide reaches warm functions."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from deployed import EVENTS, Cloud, Learned, Loaded, wait_for

from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.commands import learn
from twinloop.features.values import compute
from twinloop.registry.overview import release_rows
from twinloop.systems.video.features import COUNTING

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

USER = "244"


def test_a_watched_item_is_gone_from_the_next_recommendations(cloud: Cloud, learned: Learned) -> None:
    item, now = cloud.recommend(USER, limit=1)["items"][0]["item_id"], datetime.now(UTC)
    watched = {
        "event_id": "e2e-watched",
        "type": "watch",
        "time": now.isoformat(),
        "user_id": USER,
        "item_id": item,
        "watch_s": 90,
        "duration_s": 100,
    }
    wrong = {**watched, "event_id": "e2e-wrong", "watch_s": "long"}
    answer = cloud.call(EVENTS, {"events": [watched, wrong, watched]})
    assert answer.status == 202, answer
    assert answer.json["accepted"] == 2
    [rejected] = answer.json["rejected"]
    assert (rejected["index"], rejected["event_id"], rejected["retry"]) == (1, "e2e-wrong", False)
    assert rejected["errors"][0]["field"] == "watch_s"

    def left_out() -> bool:
        return item not in {found["item_id"] for found in cloud.recommend(USER, limit=100)["items"]}

    wait_for(left_out, 30, "the watched item is no longer recommended")
    history = DynamoOnlineStore(cloud.place.outputs["Table"]).history("video", USER)
    assert [entry.strength for entry in history if entry.item_id == item] == [1.0]

    store = cloud.place.store
    wait_for(
        lambda: any(b"e2e-watched" in store.read(key).body for key in store.keys("raw/video/events/live/")),
        90,
        "the event is in raw/",
    )
    rows = wait_for(
        lambda: [row for row in cloud.lake_rows("events", f"{now:%Y-%m-%d}") if row["user_id"] == USER],
        60,
        "the event is in the lake",
    )
    # Once for a reader, who goes by the id: what was sent twice may be in two files.
    assert {(row["event_id"], row["item_id"], row["watch_s"]) for row in rows} == {("e2e-watched", item, 90.0)}


def test_a_new_user_is_known_after_the_first_thing_they_like(cloud: Cloud, learned: Learned) -> None:
    user = "e2e newcomer"
    assert cloud.recommend(user)["cold"] is True
    event = {"event_id": "e2e-first", "type": "like", "time": int(time.time() * 1000), "user_id": user, "item_id": "50"}
    assert cloud.call(EVENTS, {"events": [event]}).status == 202
    answer = wait_for(
        lambda: None if (found := cloud.recommend(user, limit=100))["cold"] else found, 30, "the user is known"
    )
    assert "50" not in {item["item_id"] for item in answer["items"]}


def test_what_a_user_does_changes_their_features_within_seconds(cloud: Cloud, learned: Learned) -> None:
    user, item = f"e2e features {time.time_ns()}", "50"
    store = DynamoFeatureStore(cloud.place.outputs["Table"])

    def features() -> dict[str, float]:
        known = store.recall("video", user, [item])
        found = compute(COUNTING, int(time.time() * 1000) + 1, known.user, known.items)
        return {name: float(value.values[0]) for name, value in found.items()}

    before = features()
    common = {"user_id": user, "item_id": item, "time": int(time.time() * 1000)}
    events = [
        {"event_id": f"{user} shown", "type": "impression"} | common,
        {"event_id": f"{user} clicked", "type": "click"} | common,
        {"event_id": f"{user} watched", "type": "watch", "watch_s": 45, "duration_s": 60} | common,
    ]
    for _ in range(2):  # the second time changes nothing
        assert cloud.call(EVENTS, {"events": events}).status == 202
    wait_for(lambda: features()["user_watch_s_1d"] == 45.0, 30, "the user's features know of the watch")
    wait_for(lambda: features()["user_clicks_1d"] == 1.0, 30, "and of the click")
    time.sleep(3)  # for the second delivery
    after = features()
    assert after["user_impressions_1d"] == after["user_item_impressions_30d"] == 1.0
    assert after["item_impressions_1d"] == before["item_impressions_1d"] + 1
    assert "user_watch_s_1d" in cloud.twinloop("features", "video", "--user", user)


def test_promotion_and_rollback_reach_the_warm_function_within_30_seconds(cloud: Cloud, learned: Learned) -> None:
    before = cloud.recommend(USER)["model_version"]
    other = next(row.version for row in release_rows(cloud.place.registry("video")) if row.version != before)

    def serves(version: str) -> bool:
        answer = cloud.recommend(USER)
        assert answer["items"]
        return bool(answer["model_version"] == version)

    assert other in cloud.twinloop("promote", "video", other, "--why", "to see it serve")
    wait_for(lambda: serves(other), 30, "the promoted release answers")
    assert before in cloud.twinloop("rollback", "video", "--why", "seen")
    wait_for(lambda: serves(before), 30, "the release before answers")
    promoted, rolled_back = cloud.place.registry("video").history()[-2:]
    assert (promoted.version, promoted.why) == (other, "to see it serve")
    assert (rolled_back.version, rolled_back.came_from, rolled_back.why) == (before, other, "seen")


@pytest.mark.timeout(1800)
def test_what_happens_now_is_known_in_seconds_recommended_next_and_learnt_from(
    cloud: Cloud, loaded: Loaded, learned: Learned
) -> None:
    """A video that nobody knew becomes loved: through the API into features and lists, and then into the model."""
    mark, likes = f"e2e{time.time_ns()}", Counter(row["item_id"] for row in loaded.events)
    # Liked by few: what its lovers like besides is then no matter of what everybody likes.
    loved = min(likes, key=lambda item: (abs(likes[item] - 20), item))
    new, fan = f"{mark}-new", f"{mark}-fan"
    registry, store = cloud.place.registry("video"), DynamoFeatureStore(cloud.place.outputs["Table"])
    known_before = {row.version for row in release_rows(registry)}
    champion = cloud.recommend(USER)["model_version"]

    # So long ago that nobody waits any more for what becomes of it: these are rows to learn engagement from, and the
    # last ones, hours later, are those that its predictions are judged by.
    now, hour = int(time.time() * 1000), 3_600_000
    lovers = [f"{mark}-{n}" for n in range(40)]
    learnt_from = lovers[:34]
    events = []
    for n, user in enumerate(lovers):
        moment = now - (5 if user in learnt_from else 2) * hour + 1000 * n
        shown = {"user_id": user, "item_id": new, "time": moment, "request_id": f"{mark} r{n}"}
        events += [
            {"event_id": f"{user} shown", "type": "impression", "position": n % 5} | shown,
            {"event_id": f"{user} clicked", "type": "click"} | shown | {"time": shown["time"] + 500},
            {"event_id": f"{user} loved", "type": "like", "user_id": user, "item_id": loved, "time": now + n},
        ]
    assert cloud.call(EVENTS, {"events": events}).json["accepted"] == len(events)

    def clicks(user: str) -> float:
        found = compute(COUNTING, int(time.time() * 1000) + 1, store.recall("video", user).user)
        return float(found["user_clicks_1d"].values[0])

    # One video's counters take one write after the other: a crowd waits its turn, the fan below does not.
    wait_for(lambda: all(clicks(user) == 1.0 for user in lovers), 60, "what its lovers did is counted")
    cold = cloud.recommend(fan, limit=20, explore=False)
    does = [
        {"event_id": f"{fan} {type_}", "type": type_, "user_id": fan, "item_id": loved} for type_ in ("like", "click")
    ]
    assert cloud.call(EVENTS, {"events": [event | {"time": now} for event in does]}).status == 202

    wait_for(lambda: clicks(fan) == 1.0, 30, "the fan's features have changed")
    warm = wait_for(
        lambda: None if (found := cloud.recommend(fan, limit=20, explore=False))["cold"] else found,
        30,
        "and their list",
    )
    ids = [item["item_id"] for item in warm["items"]]
    assert cold["cold"] is True
    assert ids != [item["item_id"] for item in cold["items"]]
    assert not {loved, new} & set(ids)

    today = f"{datetime.now(UTC):%Y-%m-%d}"
    dates = {today, *(f"{datetime.fromtimestamp((now - hours * hour) / 1000, UTC):%Y-%m-%d}" for hours in (2, 5))}
    wanted = {event["event_id"] for event in events}
    wait_for(
        lambda: wanted <= {row["event_id"] for date in dates for row in cloud.lake_rows("events", date)},
        180,
        "all events are in the lake",
    )
    _, progress = learn.run(cloud.place, "video", ("popularity", "multitask_ranker"))
    assert {job.status for job in progress.jobs} == {"Completed"}
    rows = [row for row in release_rows(registry) if row.version not in known_before]
    assert {row.rung for row in rows} == {"popularity", "multitask_ranker"}
    release = registry.release(next(row.version for row in rows if row.rung == "multitask_ranker"))
    manifest = json.loads(cloud.place.store.read(f"snapshots/video/{release.snapshot_id}/manifest.json").body)
    assert manifest["rows"]["train/impressions"] >= len(learnt_from)
    assert manifest["outcomes"]["labels"] == ["click", "long_watch", "watch_s"]

    serving = cloud.recommend(USER)["model_version"]
    if serving != release.version:
        cloud.twinloop("promote", "video", release.version, "--why", "to see what it has learnt")

    def learnt() -> dict[str, Any] | None:
        answer = cloud.recommend(fan, limit=100, explore=False, context={"tab": "home"})
        shown = {item["item_id"] for item in answer["items"]}
        return answer if answer["model_version"] == release.version and new in shown else None

    answer = wait_for(learnt, 30, "who likes what its lovers like is shown the video that was new")
    assert not answer["degraded"]
    assert all(0 < item["p_click"] < 1 and item["watch_s"] >= 0 for item in answer["items"])
    cloud.twinloop("promote", "video", champion, "--why", "the other tests' own")
    wait_for(lambda: cloud.recommend(USER)["model_version"] == champion, 30, "the champion is back")
