"""What reaches the terminal is what was said: data and errors are never taken for markup."""

from __future__ import annotations

import json

import pytest
import typer
from deployed_in_memory import MemoryDeployment
from typer.testing import CliRunner

from twinloop.cli import app
from twinloop.commands import data, learn, models, screen
from twinloop.commands.screen import plainly
from twinloop.errors import BadInputError
from twinloop.ingest.process import refuse

WILD = "pip install 'twinloop[sagemaker]' [/a/path] [red]not red[/red] :cat: [bold"


def run(command: object, *arguments: str) -> object:
    one = typer.Typer()
    one.command()(command)
    return CliRunner().invoke(one, list(arguments))


def test_errors_are_shown_as_they_are() -> None:
    @plainly
    def fail() -> None:
        raise BadInputError(WILD)

    done = run(fail)
    assert done.exit_code == 1
    assert done.stderr == f"error {WILD}\n"


def test_a_missing_module_names_the_command_that_brings_it() -> None:
    @plainly
    def fail() -> None:
        raise ModuleNotFoundError("no", name="pyarrow.parquet")

    done = run(fail)
    assert done.exit_code == 1
    assert done.stderr == "error this needs pyarrow.parquet: pip install 'twinloop[evaluate]'\n"


def test_a_module_that_no_extra_brings_is_a_defect() -> None:
    @plainly
    def fail() -> None:
        raise ModuleNotFoundError("no", name="twinloop.nothing")

    assert isinstance(run(fail).exception, ModuleNotFoundError)


def test_reasons_and_moves_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_system

    place = MemoryDeployment()
    monkeypatch.setattr(models, "deployment", lambda: place)
    version = tiny_system.register(place.store)
    done = CliRunner().invoke(app, ["promote", "video", version, "--why", WILD])
    assert done.output == f"champion: nothing -> {version} ({WILD})\n"
    assert "[red]not red[/red] :cat:" in CliRunner().invoke(app, ["models", "video"]).output


def test_verdicts_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    place = MemoryDeployment()
    monkeypatch.setattr(learn, "deployment", lambda: place)
    monkeypatch.setattr(learn, "run", lambda where, system, rungs, since: ({"verdict": WILD}, learn.Progress()))
    assert CliRunner().invoke(app, ["learn", "video"]).output == f"{WILD}\n"


def test_reasons_of_failed_jobs_are_shown_as_they_are() -> None:
    job = learn.executions.Job("ease", "Failed", "", WILD)
    progress = learn.Progress(began={"Ladder": 1.0}, jobs=[job], ended=2.0)
    with screen.console.capture() as shown:
        screen.console.print(learn._table("video", progress))
    assert "✗ ease" in shown.get()
    assert WILD in shown.get()


def test_keys_of_refused_objects_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    place = MemoryDeployment()
    monkeypatch.setattr(data, "deployment", lambda: place)
    receipt = {"system": "video", "table": "items", "raw_key": f"raw/video/items/{WILD}", "etag": "e"}
    receipt |= {"modified": "2025-01-01T00:00:00Z", "refused": WILD, "quarantined": {"[file] refused": 1}}
    place.store.write("lake/video/_receipts/x.json", json.dumps(receipt).encode())
    done = CliRunner().invoke(app, ["lake", "video"])
    assert f"items raw/video/items/{WILD}: {WILD}\n" in done.output
    assert "1 [file] refused" in done.output
    assert "belong" not in done.output


def test_the_lake_tells_of_objects_that_belong_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    place = MemoryDeployment()
    monkeypatch.setattr(data, "deployment", lambda: place)
    refuse("raw/vidoe/items/a.jsonl", "there is no system 'vidoe'", place.store)
    done = CliRunner().invoke(app, ["lake", "video"])
    assert done.exit_code == 1  # nothing was delivered to video; but where it went is told
    assert "1 object belongs to no system or table:\n  raw/vidoe/items/a.jsonl: there is no system" in done.output
    for number in range(12):
        refuse(f"raw/{number}", "no", place.store)
    told = CliRunner().invoke(app, ["lake", "video"]).output
    assert "13 objects belong to no system or table:" in told
    assert "and 3 more; all are in quarantine/_unknown/" in told
