"""The search system on the stack: a simulated catalogue loaded and learnt from, and what the API finds in it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deployed import Answer, Cloud, answered_by, wait_for, write_lines

from twinloop.aws import functions
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.searches import SearchWorld
from twinloop.datasets.simulator.settings import SearchSettings

RESULTS = "/v1/search/results"
SETTINGS = SearchSettings(items=300, topics=6, queries=200, searches=1000, judged=0.7, seed=5)
WORLD = SearchWorld(SETTINGS)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def verdict(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The catalogue, its judgments and two weeks of searches in the lake, and learnt from by two rungs."""
    folder = tmp_path_factory.mktemp("search") / "world"
    made = simulate(folder, SETTINGS).rows
    loaded = cloud.load("search", folder / "raw")
    assert (loaded["items"], loaded["events"]) == (made["items"], made["events"])
    assert 2_000 < loaded["judgments"] <= made["judgments"]  # two searchers may have asked the same
    return cloud.learn("search", ("bm25", "learned_ranking"))


def ask(cloud: Cloud, **body: Any) -> Answer:
    return cloud.call(RESULTS, body)


def test_a_title_finds_its_document_with_its_words_and_facets(cloud: Cloud, verdict: dict[str, Any]) -> None:
    title = WORLD.titles[7]
    include = ["titles", "highlights", "reasons"]
    told = answered_by(verdict["version"], lambda: ask(cloud, query=title, include=include))
    first = told["items"][0]
    assert (first["rank"], first["title"].lower()) == (1, title)
    assert first["reasons"]
    marked = first["highlights"]["title"]
    words = {marked["text"][start:end].lower() for start, end in marked["marks"]}
    assert words == set(title.split())

    films = ask(cloud, query=title, of={"kind": ["film"]}, facets=["kind"], limit=50).json
    assert films["items"]
    assert all(int(item["item_id"].removeprefix("d")) % 2 for item in films["items"])
    assert {value["value"] for value in films["facets"]["kind"]} <= {"film", "book"}


def test_a_mistyped_word_is_taken_for_what_was_meant_and_nothing_is_found_of_nothing(
    cloud: Cloud, verdict: dict[str, Any]
) -> None:
    word = next(word for title in WORLD.titles for word in title.split() if len(word) >= 7)
    told = ask(cloud, query=word[:3] + word[4:]).json
    assert [one["taken_for"] for one in told["corrections"]] == [word]
    assert word in told["items"][0]["title"].lower()


def test_what_serves_is_scored_on_judgments(cloud: Cloud, verdict: dict[str, Any], tmp_path: Path) -> None:
    labelled = tmp_path / "judgments.jsonl"
    rows = [{"query": title, "item_id": f"d{n}", "grade": 1} for n, title in enumerate(WORLD.titles[:40])]
    write_lines(labelled, rows)
    for found in cloud.scores("search", labelled).values():
        assert found["release"] == verdict["version"]
        assert found["metrics"]["ndcg@10"]["mean"] > 0.6


def test_what_the_index_cannot_filter_by_is_said(cloud: Cloud, verdict: dict[str, Any]) -> None:
    answer = ask(cloud, query=WORLD.titles[7], of={"smell": ["sweet"]})
    assert (answer.status, answer.kind) == (400, "application/problem+json"), answer
    assert "smell" in answer.json["detail"]


def test_what_people_search_and_click_reaches_the_lake(cloud: Cloud, verdict: dict[str, Any]) -> None:
    mark, now = f"e2e{time.time_ns()}", datetime.now(UTC)
    told = ask(cloud, query=WORLD.titles[7]).json
    asked = {"user_id": mark, "query": WORLD.titles[7], "request_id": told["prediction_id"], "time": now.isoformat()}
    shown = [item["item_id"] for item in told["items"]]
    events = [
        {"event_id": f"{mark}-q", "type": "query", "shown": shown} | asked,
        {"event_id": f"{mark}-c", "type": "click", "item_id": shown[0], "position": 0} | asked,
        {"event_id": f"{mark}-x", "type": "click", "item_id": shown[0], "position": "first"} | asked,
    ]
    assert cloud.send("search", events) == [f"{mark}-x"]
    cloud.wait_for_events("search", mark, now, {f"{mark}-q", f"{mark}-c"})


def test_the_index_follows_its_items(cloud: Cloud, verdict: dict[str, Any], tmp_path: Path) -> None:
    mark = f"zu{time.time_ns()}"
    row = {"item_id": mark, "title": f"Unheard {mark}", "text": "new", "attributes": {"rating": 9, "kind": "film"}}
    write_lines(tmp_path / "items.jsonl", [row])
    cloud.load("search", tmp_path)
    made = functions.invoke(cloud.place.outputs["RefreshFunction"], {"system": "search"})
    assert made["items"] == SETTINGS.items + 1
    champion = cloud.place.registry("search").alias("champion")
    assert champion is not None
    assert champion.version == made["version"]

    def found() -> bool:
        told = ask(cloud, query=mark).json
        return told["model_version"] == made["version"] and [one["item_id"] for one in told["items"][:1]] == [mark]

    wait_for(found, 60, "the new item is found")
    assert functions.invoke(cloud.place.outputs["RefreshFunction"], {"system": "search"})["version"] is None
