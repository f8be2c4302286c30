"""`twinloop demo`: what it prints, and the facts it leaves in build/demo.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_system
from deployed_in_memory import MemoryDeployment
from rich.console import Console
from rich.json import JSON
from typer.testing import CliRunner

from twinloop.cli import app
from twinloop.commands import demo, learn
from twinloop.datasets import catalogue
from twinloop.errors import NotFoundError
from twinloop.ingest.receipts import Receipt

ITEM = {"item_id": "i1", "rank": 1, "score": 1.0}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryDeployment:
    """Everything around the demo but the cloud: learning promotes a tiny release."""
    place = MemoryDeployment()

    def learned(where: object, system: str, rungs: Sequence[str]) -> tuple[dict[str, object], learn.Progress]:
        assert "deep_trees" not in rungs, "a demo is over in minutes"
        tiny_system.promote(place.store, tiny_system.register(place.store))
        return {"verdict": "promoted"}, learn.Progress(began={"Snapshot": 1.0, "Ladder": 3.0}, ended=10.0)

    def loaded(where: object, system: str, paths: list[Path]) -> list[Receipt]:
        assert [path.is_dir() for path in paths] == [True]
        made = {"raw_key": "raw/video/events/x", "etag": "e", "modified": "2025-01-01T00:00:00Z"}
        return [Receipt.model_validate({"system": system, "table": "events", "rows": {"2025-01-01": 7}} | made)]

    def written(folder: Path) -> dict[str, int]:
        folder.mkdir(parents=True, exist_ok=True)
        return {}

    monkeypatch.setattr(demo, "project_root", lambda: tmp_path)
    monkeypatch.setattr(demo, "bring_up", lambda emulator: {})
    monkeypatch.setattr(demo, "deployment", lambda: place)
    monkeypatch.setattr(demo, "load_files", loaded)
    monkeypatch.setattr(demo.learn, "run", learned)
    monkeypatch.setattr(catalogue, "DATASETS", tuple(_with(known, written) for known in catalogue.DATASETS))
    place.enter(monkeypatch, place.serve())
    return place


def _with(known: catalogue.Dataset, write: object) -> catalogue.Dataset:
    return catalogue.Dataset(**{**vars(known), "write": write})


def test_it_prints_titles_and_leaves_its_facts(place: MemoryDeployment, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0, done.output
    assert "Title of i0" in done.output
    assert "curl -s https://api.example/local/v1/video/recommendations" in done.output
    for part in ("video: releases", "champion", "twinloop learn video", "build/demo.json"):
        assert part in done.output
    found = json.loads((tmp_path / "build" / "demo.json").read_text(encoding="utf-8"))
    champion = place.registry("video").alias("champion")
    assert champion is not None
    assert found["champion"]["version"] == champion.version
    assert found["api_url"] == "https://api.example/local"
    assert found["rows"] == {"events": 7}
    assert list(found["seconds"]) == ["cloud", "data", "load", "learn", "learn: Snapshot", "learn: Ladder", "ask"]
    assert found["seconds"]["learn: Ladder"] == 7.0
    assert [item["title"] for item in found["recommendations"]][:2] == ["Title of i0", "Title of i1"]


def test_a_second_time_it_does_not_learn_again(place: MemoryDeployment, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["demo"])
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0, done.output
    assert "learned before" in done.output
    assert "learn" not in json.loads((tmp_path / "build" / "demo.json").read_text(encoding="utf-8"))["seconds"]


def test_a_system_without_a_demo_is_told_which_there_are() -> None:
    done = CliRunner().invoke(app, ["demo", "nothing"])
    assert done.exit_code == 1
    assert "there is no demo of 'nothing'; known: video" in done.output


def test_untitled_items_are_shown_by_their_id_and_titles_as_they_are() -> None:
    items = [ITEM, ITEM | {"rank": 2, "title": "[red]Alien[/] :cat: [/nothing]"}]
    console = Console(width=100, markup=False, emoji=False)
    with console.capture() as shown:
        console.print(demo.answer_shown("what next?", {"items": items, "model_version": "v1"}))
    assert "1  i1" in shown.get()
    assert "2  [red]Alien[/] :cat: [/nothing]" in shown.get()


def test_an_answer_of_another_kind_is_shown_and_kept_as_it_came(place: MemoryDeployment) -> None:
    tiny_system.promote(place.store, tiny_system.register(place.store))
    answer = {"action": "allow", "model_version": "v1"}
    assert isinstance(demo.answer_shown("is it fine?", answer), JSON)
    found = demo.facts(place, "video", {"ask": 1.0}, {}, answer)
    assert found["answer"] == answer
    assert "recommendations" not in found


def test_data_sets_are_known_by_name_and_by_system() -> None:
    assert catalogue.dataset("movielens-100k") is catalogue.shown_with("video")
    with pytest.raises(NotFoundError, match="no data set 'x'; known: movielens-100k"):
        catalogue.dataset("x")
