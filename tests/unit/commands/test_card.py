"""`twinloop card`: the design card is what the code and the benchmarks say, for any system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_system
from typer.testing import CliRunner

from twinloop import systems
from twinloop.cli import app
from twinloop.commands import card
from twinloop.commands.design_card import design_card
from twinloop.commands.measured import cell, measured, table
from twinloop.errors import BadInputError

ROOT = Path(__file__).resolve().parents[3]
SYSTEMS = sorted(
    path.parent.name.replace("_", "-") for path in (ROOT / "shared" / "twinloop" / "systems").glob("*/spec.py")
)
STEPS = ("Requirements", "Framing", "Data", "Architecture", "Evaluation", "Deployment and monitoring")


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_committed_card_is_what_the_code_and_the_benchmarks_say(name: str) -> None:
    committed = (ROOT / "docs" / "systems" / f"{name}.md").read_text(encoding="utf-8")
    assert committed == card.page_of(name), f"docs/systems/{name}.md is not up to date: twinloop card {name} --write"


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_has_the_six_steps_and_all_that_the_spec_says(name: str) -> None:
    page, system = card.page_of(name), systems.load(name)
    places = [page.index(f"## {number}. {title}") for number, title in enumerate(STEPS, 1)]
    assert places == sorted(places)
    words = " ".join(page.split())
    for step in ("requirements", "framing", "data", "architecture", "evaluation", "deployment"):
        assert " ".join(getattr(system.spec, step).split()) in words
    for rung in system.spec.rungs:
        assert f"| {rung.name} | {rung.complexity} |" in page
    for feature in (*system.features, *(system.counting.features if system.counting else ())):
        assert feature.name in page
        assert feature.description in page
    for contract in system.tables.values():
        assert all(name in page for name in contract.model_fields)
    assert system.spec.gate.primary in page


def test_every_benchmark_is_in_it() -> None:
    page = card.page_of("video")
    for path in (ROOT / "benchmarks").glob("*.json"):
        assert f"### Measured: {path.stem.replace('_', ' ')}" in page
    assert page.index("### Measured: quality") < page.index("## 6.") < page.index("### Measured: serving")


def test_another_system_has_one_too() -> None:
    page = design_card(tiny_system.SYSTEM, {"quality-tiny": "- ndcg: 1\n", "speed": "- ms: 2\n"})
    assert page.index("## 5.") < page.index("- ndcg: 1") < page.index("## 6.") < page.index("- ms: 2")
    assert page.endswith("- ms: 2\n")


def test_it_is_shown_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "project_root", lambda: tmp_path)
    shown = CliRunner().invoke(app, ["card", "video"])
    assert shown.exit_code == 0, shown.output
    assert not (tmp_path / "docs").exists()
    written = CliRunner().invoke(app, ["card", "video", "--write"])
    assert written.exit_code == 0, written.output
    assert (tmp_path / "docs" / "systems" / "video.md").read_text(encoding="utf-8") == shown.output
    missing = CliRunner().invoke(app, ["card", "nothing", "--write"])
    assert missing.exit_code == 1
    assert "there is no system 'nothing'" in missing.output


# ---------------------------------------------------------------- figures


def of(tmp_path: Path, report: object, system: str = "video") -> str:
    (tmp_path / "it.json").write_text(json.dumps(report), encoding="utf-8")
    return measured(tmp_path, system).get("it", "")


def test_alike_objects_are_rows_with_their_intervals(tmp_path: Path) -> None:
    rows = {name: {"ndcg": 0.5, "ndcg low": 0.4, "ndcg high": 0.6, "users": 1000} for name in ("ease", "two_tower")}
    text = of(tmp_path, {"command": "make it", "machine": {"cpus": 2}, "films": rows})
    assert text.splitlines() == [
        "`make it`; machine: cpus 2.",
        "",
        "**films**",
        "",
        "|  | ndcg | users |",
        "|---|---|---|",
        "| ease | 0.5 (0.4 to 0.6) | 1,000 |",
        "| two tower | 0.5 (0.4 to 0.6) | 1,000 |",
    ]


def test_what_stands_alone_is_a_line(tmp_path: Path) -> None:
    text = of(tmp_path, {"seconds": 2.0, "cold": {"ms": 300, "fine": True}, "warm": {"us": 1}})
    assert text.splitlines() == ["- seconds: 2", "- cold: ms 300, fine yes", "- warm: us 1"]


def test_a_script_of_the_same_name_made_what_names_no_command(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "it.py").touch()
    assert of(folder, {"seconds": 1}).startswith("`python benchmarks/it.py`.\n")
    assert of(folder, {"seconds": 1, "command": "make it"}).startswith("`make it`.\n")


def test_figures_of_other_systems_are_left_out(tmp_path: Path) -> None:
    assert of(tmp_path, {"systems": ["ads"], "seconds": 1}) == ""
    mixed = {
        "films": {"systems": ["video"], "auc": 0.7},
        "banners": {"systems": ["ads"], "auc": 0.6},
        "rails": {"s": 1},
    }
    assert of(tmp_path, mixed) == "- films: auc 0.7\n- rails: s 1\n"
    assert of(tmp_path, mixed, "ads") == "- banners: auc 0.6\n- rails: s 1\n"


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"it\.json: is no JSON"):
        measured(tmp_path, "video")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (30.0, "30"),
        (2e-05, "0.00002"),
        (1234567, "1,234,567"),
        (36500.5, "36,500.5"),
        (0.0, "0"),
        (True, "yes"),
        (None, ""),
        (["a", 1], "a, 1"),
        ({"per_ms": 0.5}, "per ms 0.5"),
    ],
)
def test_values_as_one_reads_them(value: object, told: str) -> None:
    assert cell(value) == told


def test_cells_do_not_break_their_table() -> None:
    assert table(["a"], [["x | y\nz"]])[-2] == "| x \\| y z |"
