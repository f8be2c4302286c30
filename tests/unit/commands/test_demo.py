"""`twinloop demo`: what it prints, and the facts it leaves in build/demo.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
import tiny_system
from deployed_in_memory import MemoryDeployment
from rich.console import Console
from typer.testing import CliRunner

from twinloop import systems
from twinloop.cli import app
from twinloop.commands import demo, learn
from twinloop.datasets import catalogue
from twinloop.errors import NotFoundError
from twinloop.ingest.process import ingest
from twinloop.ingest.receipts import Receipt
from twinloop.ingest.source import RawObject
from twinloop.ingest.upload import plan
from twinloop.ports import MemoryObjectStore

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
    assert "what should user 196 watch next? Says 2" in done.output
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
    assert [item["title"] for item in found["answer"]["items"]][:2] == ["Title of i0", "Title of i1"]


def test_a_second_time_it_does_not_learn_again(place: MemoryDeployment, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["demo"])
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0, done.output
    assert "learned before" in done.output
    assert "learn" not in json.loads((tmp_path / "build" / "demo.json").read_text(encoding="utf-8"))["seconds"]


def test_a_system_without_a_demo_is_told_which_there_are() -> None:
    done = CliRunner().invoke(app, ["demo", "nothing"])
    assert done.exit_code == 1
    assert "there is no demo of 'nothing'; known: ads, moderation, search, suggestions, video" in done.output


def test_untitled_items_are_shown_by_their_id_and_titles_as_they_are() -> None:
    items = [ITEM, ITEM | {"rank": 2, "title": "[red]Alien[/] :cat: [/nothing]"}]
    console = Console(width=100, markup=False, emoji=False)
    with console.capture() as shown:
        console.print(demo.answer_shown(catalogue.shown_with("video"), {"items": items, "model_version": "v1"}))
    assert [line.split() for line in shown.get().splitlines()[-2:]] == [
        ["1", "i1"],
        ["2", "[red]Alien[/]", ":cat:", "[/nothing]", "i1"],
    ]


def test_an_answer_of_another_kind_is_shown_and_kept_as_it_came(place: MemoryDeployment) -> None:
    tiny_system.promote(place.store, tiny_system.register(place.store))
    answer = {"action": "allow", "model_version": "v1"}
    dataset = replace(catalogue.shown_with("video"), question="is it fine?", listed=None)
    console = Console(width=100, markup=False, emoji=False)
    with console.capture() as shown:
        console.print(demo.answer_shown(dataset, answer))
    question, told = shown.get().strip().split("\n", 1)
    assert question == "is it fine? Says v1:"
    assert json.loads(told) == answer
    assert demo.facts(place, "video", {"ask": 1.0}, {}, answer)["answer"] == answer


def test_data_sets_are_known_by_name_and_by_system() -> None:
    assert catalogue.dataset("movielens-100k") is catalogue.shown_with("video")
    with pytest.raises(NotFoundError, match="no data set 'x'; known: movielens-100k, simulated-ads, simulated-mod"):
        catalogue.dataset("x")


@pytest.mark.parametrize("shown", catalogue.DATASETS, ids=lambda shown: shown.name)
def test_what_a_demo_asks_and_trains_is_what_its_system_knows(shown: catalogue.Dataset) -> None:
    system = systems.load(shown.system)
    assert system.endpoint.request.model_validate_json(json.dumps(shown.request))
    ladder = [rung.name for rung in system.spec.rungs]
    assert [rung for rung in ladder if rung in shown.rungs] == list(shown.rungs), "a ladder, from its foot"
    assert shown.rungs[0] == ladder[0]
    answered = system.endpoint.answer.model_fields
    if shown.listed is not None:
        [row] = get_args(answered[shown.listed].annotation)[:1]
        assert set(shown.columns) <= row.model_fields.keys()


@pytest.mark.parametrize("name", ["simulated-ads", "simulated-search", "simulated-moderation", "simulated-suggestions"])
def test_what_is_made_up_for_a_demo_is_taken_in_whole_and_is_the_same_again(name: str, tmp_path: Path) -> None:
    shown = catalogue.dataset(name)
    system, store = systems.load(shown.system), MemoryObjectStore()
    rows = shown.write(tmp_path)
    uploads = plan([tmp_path], system)
    made = []
    for upload in uploads:
        with upload.path.open("rb") as body:
            made.append(ingest(RawObject(upload.key, "1", datetime.now(UTC), upload.size, body), system, store))
    assert {receipt.table for receipt in made} == set(rows)
    assert all(receipt.rows and not receipt.quarantined for receipt in made)
    shown.write(tmp_path)
    assert plan([tmp_path], system) == uploads, "repeating it is harmless"


def test_data_sets_are_written_by_name(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "simulated-search", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "items: 1,000 rows" in done.output
