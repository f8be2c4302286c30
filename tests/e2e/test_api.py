"""Requests to the deployed API, good and bad."""

from __future__ import annotations

from typing import Any

import pytest
from deployed import EVENTS, RECOMMENDATIONS, Answer, Cloud, Learned, Loaded

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def problem(answer: Answer, status: int) -> dict[str, Any]:
    assert (answer.status, answer.kind) == (status, "application/problem+json"), answer
    document: dict[str, Any] = answer.json
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    return document


def faults(answer: Answer) -> dict[str, str]:
    return {fault["field"]: fault["reason"] for fault in problem(answer, 400)["errors"]}


def test_a_known_user_gets_unseen_titles_chosen_by_what_they_did(
    cloud: Cloud, loaded: Loaded, learned: Learned
) -> None:
    answer = cloud.recommend("196", limit=10, include=["titles", "reasons"], explore=False)
    items = answer["items"]
    assert [item["rank"] for item in items] == list(range(1, 11))
    assert len({item["item_id"] for item in items}) == 10
    assert [item["title"] for item in items] == [loaded.items[item["item_id"]] for item in items]
    assert {item["reason"] for item in items} == {"history"}
    assert all(reason["code"] and reason["text"] for item in items for reason in item["reasons"])
    assert all(item["reasons"] for item in items)
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)
    assert answer["model_version"] == learned.verdict["version"]
    assert (answer["arm"], answer["degraded"], answer["cold"]) == ("champion", False, False)
    assert answer["prediction_id"] != cloud.recommend("196")["prediction_id"]


def test_an_unknown_user_gets_the_popular_list_and_is_told_so(cloud: Cloud, loaded: Loaded, learned: Learned) -> None:
    answer = cloud.recommend("nobody has met this user", limit=5, include=["titles", "reasons"])
    assert (answer["cold"], answer["degraded"]) == (True, False)
    assert {item["reason"] for item in answer["items"]} == {"popular"}
    assert all(item["title"] for item in answer["items"])
    others = cloud.recommend("nor this one", limit=5)
    assert [item["item_id"] for item in others["items"]] == [item["item_id"] for item in answer["items"]]


def test_a_preset_changes_the_list_and_an_unknown_one_is_refused(cloud: Cloud, learned: Learned) -> None:
    lists = {preset: cloud.recommend("196", preset=preset, explore=False) for preset in ("balanced", "diverse")}
    assert {preset: answer["preset"] for preset, answer in lists.items()} == {
        "balanced": "balanced",
        "diverse": "diverse",
    }
    ids = {preset: [item["item_id"] for item in answer["items"]] for preset, answer in lists.items()}
    assert ids["balanced"] != ids["diverse"]
    refused = faults(cloud.call(RECOMMENDATIONS, {"user_id": "196", "preset": "loud"}))
    assert "not one of balanced" in refused["preset"]


def test_new_items_are_tried_at_few_places(cloud: Cloud, loaded: Loaded, learned: Learned) -> None:
    # Each of its five places is given to a new item one time in five: of so many lists, one will surely have some.
    answers = [cloud.recommend("196", limit=50, include=["titles", "reasons"])["items"] for _ in range(24)]
    tried = [item for items in answers for item in items if item["reason"] == "new"]
    assert 0 < len(tried) < 24 * 5 / 2
    assert {item["rank"] for item in tried} <= {6, 16, 26, 36, 46}
    assert all(item["title"] == loaded.items[item["item_id"]] for item in tried)


def test_what_was_seen_is_never_recommended(cloud: Cloud, loaded: Loaded, learned: Learned) -> None:
    heavy = sorted(loaded.seen, key=lambda user: -len(loaded.seen[user]))[:5]
    light = sorted(loaded.seen, key=lambda user: len(loaded.seen[user]))[:5]
    for user in heavy + light:
        returned = {item["item_id"] for item in cloud.recommend(user, limit=100)["items"]}
        assert len(returned) == 100
        assert not returned & loaded.seen[user]


def test_what_the_request_excludes_is_not_returned(cloud: Cloud, learned: Learned) -> None:
    first = [item["item_id"] for item in cloud.recommend("196", limit=5)["items"]]
    again = [item["item_id"] for item in cloud.recommend("196", limit=5, exclude=first[:2])["items"]]
    assert len(set(again)) == 5
    assert not set(again) & set(first[:2])


def test_a_wrong_type_and_an_unknown_field_are_named(cloud: Cloud, learned: Learned) -> None:
    answer = cloud.call(RECOMMENDATIONS, {"user_id": 196, "limit": "ten", "colour": "red", "exclude": ["1", 2]})
    found = faults(answer)
    assert set(found) == {"user_id", "limit", "colour", "exclude.1"}
    assert found["colour"] == "unknown field"
    assert faults(cloud.call(RECOMMENDATIONS, {"limit": 3})) == {"user_id": "required"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"user_id": "1", "limit": NaN}'])
def test_what_is_no_request_at_all_is_a_400(cloud: Cloud, learned: Learned, body: bytes) -> None:
    assert problem(cloud.call(RECOMMENDATIONS, raw=body), 400)["detail"]


def test_a_wrong_event_is_named_by_its_place(cloud: Cloud) -> None:
    event = {"event_id": "wrong", "type": "applaud", "time": "yesterday", "user_id": "196"}
    found = faults(cloud.call(EVENTS, {"events": [event]}))
    assert {"events.0.type", "events.0.time", "events.0.item_id"} <= set(found)
    assert faults(cloud.call(EVENTS, {"events": [], "sender": "me"})).keys() == {"events", "sender"}


def test_events_for_a_system_that_is_not_there_are_a_404(cloud: Cloud) -> None:
    assert "chess" in problem(cloud.call("/v1/chess/events", {"events": [{}]}), 404)["detail"]


@pytest.mark.parametrize("path", [RECOMMENDATIONS, EVENTS])
def test_a_body_of_ten_megabytes_is_a_413(cloud: Cloud, path: str) -> None:
    answer = cloud.call(path, {"user_id": "196", "context": {"page": "x" * 10_000_000}})
    assert "limit" in problem(answer, 413)["detail"] or "large" in problem(answer, 413)["detail"]


@pytest.mark.parametrize("path", [RECOMMENDATIONS, EVENTS])
@pytest.mark.parametrize("key", [None, "a-key-that-nobody-made"])
def test_without_a_valid_key_nothing_is_served(cloud: Cloud, path: str, key: str | None) -> None:
    assert cloud.call(path, {"user_id": "196"}, key=key).status == 403


@pytest.mark.needs("gateway responses")
@pytest.mark.parametrize("path", [RECOMMENDATIONS, EVENTS])
@pytest.mark.parametrize("key", [None, "a-key-that-nobody-made"])
def test_without_a_valid_key_the_gateway_refuses_in_the_same_words(cloud: Cloud, path: str, key: str | None) -> None:
    assert "x-api-key" in problem(cloud.call(path, {"user_id": "196"}, key=key), 403)["detail"]


def test_a_path_that_is_not_there_is_a_404(cloud: Cloud) -> None:
    assert cloud.call("/v1/video/nothing", {}).status == 404


@pytest.mark.needs("gateway responses")
def test_a_path_that_is_not_there_is_a_problem_in_the_same_words(cloud: Cloud) -> None:
    assert "openapi.json" in problem(cloud.call("/v1/video/nothing", {}), 404)["detail"]


def test_the_openapi_document_is_served_without_a_key(cloud: Cloud) -> None:
    answer = cloud.call("/v1/openapi.json", key=None)
    assert (answer.status, answer.kind) == (200, "application/json")
    document = answer.json
    assert set(document["paths"]) >= {RECOMMENDATIONS, EVENTS}
    assert document["openapi"].startswith("3.")
