"""`twinloop simulate`: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twinloop.cli import app


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    return done.exit_code, done.output


def test_it_writes_a_folder_and_says_what_to_do_with_it(tmp_path: Path) -> None:
    options = {"users": 200, "items": 100, "days": 3, "events": 2000, "seed": 4, "drift": 0.5, "start": "2024-02-28"}
    code, output = run(
        "video", tmp_path / "it", *(part for name, value in options.items() for part in (f"--{name}", value))
    )
    assert code == 0, output
    assert f"twinloop load video {tmp_path / 'it' / 'raw'}" in output
    assert "the best possible: click AUC 0." in output
    assert "not real" in output
    facts = json.loads((tmp_path / "it" / "simulation.json").read_text(encoding="utf-8"))
    told = {**facts["world"], **facts["settings"]}
    assert told["start"] == "2024-02-28T00:00:00+00:00"
    assert {name: told[name] for name in options if name != "start"} == {
        k: v for k, v in options.items() if k != "start"
    }
    assert facts["rows"]["users"] == 200
    assert {path.name for path in (tmp_path / "it").iterdir()} == {
        "raw",
        "truth.parquet",
        "README.md",
        "simulation.json",
    }


def test_ads_are_simulated_with_what_is_their_own(tmp_path: Path) -> None:
    options = ("--users", 100, "--items", 60, "--days", 2, "--events", 3000, "--click-rate", 0.05, "--late", 0.5)
    code, output = run("ads", tmp_path / "it", *options)
    assert code == 0, output
    assert f"twinloop load ads {tmp_path / 'it' / 'raw'}" in output
    assert "the best possible: click AUC 0." in output
    assert "long view" not in output
    facts = json.loads((tmp_path / "it" / "simulation.json").read_text(encoding="utf-8"))
    assert facts["system"] == "ads"
    told = facts["settings"]
    assert (told["slots"], told["click_rate"], told["late"], told["late_minutes"]) == (3, 0.05, 0.5, 20.0)


def test_searches_are_simulated_with_what_is_their_own(tmp_path: Path) -> None:
    options = ("--items", 60, "--topics", 3, "--queries", 20, "--searches", 300, "--judged", 1, "--mistyped", 0.5)
    code, output = run("search", tmp_path / "it", *options, "--days", 3, "--start", "2024-02-28")
    assert code == 0, output
    assert f"twinloop load search {tmp_path / 'it' / 'raw'}" in output
    assert "the best possible: click AUC 0." in output
    assert "400 rows" in output  # 20 documents of each query were judged
    facts = json.loads((tmp_path / "it" / "simulation.json").read_text(encoding="utf-8"))
    assert facts["system"] == "search"
    assert "world" not in facts
    told = facts["settings"]
    assert (told["start"], told["days"], told["items"], told["slots"]) == ("2024-02-28T00:00:00+00:00", 3, 60, 10)


def test_help_says_what_it_is_for() -> None:
    code, output = run("--help")
    assert code == 0
    words = " ".join(output.replace("│", " ").split())
    assert "tests, load and demos" in words
    assert "default: (video 10; ads 3; search 10; suggestions 20)" in words


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nothing", "it"), "no simulator of 'nothing'; known: video, ads, search, moderation, suggestions"),
        (("video", "it", "--late", 0.5), "--late is of ads, and not of video"),
        (("search", "it", "--cold-users", 0.5), "--cold-users is of video and ads and suggestions, and not of search"),
        (("search", "it", "--days", 3000), "events of the future are refused"),
        (("search", "it", "--topics", 500), "topics lies between"),
        (("video", "it", "--click-rate", 5), "click_rate lies between"),
        (("video", "it", "--days", 3000), "events of the future are refused"),
        (("video", "it", "--format", "csv"), "the format is one of jsonl.gz, parquet"),
        (("video", "."), "not an empty folder"),
    ],
)
def test_what_it_refuses(
    arguments: tuple[object, ...], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    code, output = run(*arguments)
    assert code == 1
    assert reason in " ".join(output.split())
