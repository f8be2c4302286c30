"""What each system is asked, said once: wrong requests are refused by the field, and nobody is answered without a key.

None of it needs a model: what is wrong is refused before one is looked for. What `video` refuses is in `test_api`.
"""

from __future__ import annotations

from typing import Any

import pytest
from deployed import Cloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ADS = {"user_id": "u1", "ads": [{"ad": "ad1", "bid": 0.1}], "explore": False, "context": {"slot": "top"}}
SUGGESTIONS = {"user_id": "u1", "explore": False}

GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "ads": ("predictions", ADS),
    "moderation": ("decisions", {"text": "x"}),
    "search": ("results", {"query": "x"}),
    "suggestions": ("recommendations", SUGGESTIONS),
}
WRONG: dict[str, list[tuple[dict[str, Any], str]]] = {
    "ads": [
        (ADS | {"ads": []}, "ads"),
        (ADS | {"ads": [{"ad": "ad1", "bid": -1}]}, "ads.0.bid"),
        (ADS | {"ads": [{"ad": "ad1"}, {"bid": 1}]}, "ads.1.ad"),
        (ADS | {"ads": [{"ad": "ad1"}, {"ad": "ad1"}]}, "ads"),
        (ADS | {"ads": [{"ad": f"ad{n}"} for n in range(1001)]}, "ads"),
        (ADS | {"user_id": 7}, "user_id"),
        (ADS | {"colour": "red"}, "colour"),
    ],
    "moderation": [
        ({}, ""),
        ({"text": 7}, "text"),
        ({"text": "x" * 100_001}, "text"),
        ({"text": "x", "items": [{"text": "y"}]}, ""),
        ({"items": []}, "items"),
        ({"items": [{"text": "y"}] * 101}, "items"),
        ({"items": [{"text": "y"}, {"item_id": "i"}]}, "items.1.text"),
        ({"text": "x", "media_hashes": ["beef"]}, "media_hashes.0"),
        ({"text": "x", "colour": "red"}, "colour"),
    ],
    "search": [
        ({"query": ""}, "query"),
        ({}, "query"),
        ({"query": "x" * 501}, "query"),
        ({"query": "x", "limit": 0}, "limit"),
        ({"query": "x", "between": {"rating": {"least": "much"}}}, "between.rating.least"),
        ({"query": "x", "colour": "red"}, "colour"),
    ],
    "suggestions": [
        (SUGGESTIONS | {"lat": 52.5}, ""),
        (SUGGESTIONS | {"lat": 91, "lon": 0}, "lat"),
        (SUGGESTIONS | {"lat": "north", "lon": 0}, "lat"),
        (SUGGESTIONS | {"time_zone": "Mars/Olympus"}, "time_zone"),
        (SUGGESTIONS | {"limit": 0}, "limit"),
        (SUGGESTIONS | {"days": -1}, "days"),
        (SUGGESTIONS | {"user_id": ""}, "user_id"),
        (SUGGESTIONS | {"colour": "red"}, "colour"),
    ],
}


def path_of(system: str) -> str:
    return f"/v1/{system}/{GOOD[system][0]}"


@pytest.mark.parametrize(
    ("system", "body", "field"),
    [
        pytest.param(system, body, field, id=f"{system}-{number}-{field or 'whole'}")
        for system, cases in WRONG.items()
        for number, (body, field) in enumerate(cases)
    ],
)
def test_a_wrong_request_is_refused_by_the_field(cloud: Cloud, system: str, body: dict[str, Any], field: str) -> None:
    answer = cloud.call(path_of(system), body)
    assert (answer.status, answer.kind) == (400, "application/problem+json"), answer
    assert field in {fault["field"] for fault in answer.json["errors"]}


@pytest.mark.parametrize("system", GOOD)
def test_without_a_key_nothing_is_said_but_how_to_ask(cloud: Cloud, system: str) -> None:
    path, (_, good) = path_of(system), GOOD[system]
    assert cloud.call(path, good, key=None).status == 403
    answer = cloud.call(f"/v1/{system}/openapi.json", key=None)
    assert (answer.status, answer.kind) == (200, "application/json")
    assert set(answer.json["paths"]) == {path, f"/v1/{system}/events"}
    assert path not in cloud.call("/v1/openapi.json", key=None).json["paths"]
