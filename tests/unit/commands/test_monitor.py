"""`twinloop monitor`: the function is called, and its offsets are shown beside the releases that they are of."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from typer.testing import CliRunner

from twinloop.aws import functions
from twinloop.cli import app
from twinloop.commands import monitor
from twinloop.errors import BadInputError, NotFoundError, UnavailableError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC).isoformat()
OFFSETS = {
    "since": "2026-01-31T05:00:00Z",
    "until": "2026-01-31T11:00:00Z",
    "rows": 12_345,
    "positives": 500,
    "expected": 450.0,
    "offset": 0.1234,
    "by": {"page": {"home": -0.05}},
}


def answer(**versions: Any) -> dict[str, Any]:
    made = {"system": "ads", "label": "click", "made_at": NOW, "versions": versions}
    read = {"objects": 3, "size": 9, "lines": 4_000, "left_out": 2, "damaged": 1, "whole": True}
    return {"calibration": made, "log": read}


class Lambda:
    """Lambda's client, as far as it is called."""

    def __init__(self, said: Any, **more: Any) -> None:
        self.said, self.more, self.asked = said, more, {}

    def invoke(self, **asked: Any) -> dict[str, Any]:
        self.asked = asked
        if isinstance(self.said, Exception):
            raise self.said
        return {"Payload": io.BytesIO(json.dumps(self.said).encode()), **self.more}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A deployment whose champion is v1."""
    registry = SimpleNamespace(alias=lambda name: SimpleNamespace(version="v1") if name == "champion" else None)
    found = SimpleNamespace(name="s", outputs={"MonitorFunction": "fn"}, registry=lambda system: registry)
    monkeypatch.setattr(monitor, "deployment", lambda: found)
    return found


def called(monkeypatch: pytest.MonkeyPatch, said: Any, **more: Any) -> Lambda:
    made = Lambda(said, **more)
    monkeypatch.setattr(functions, "waiting_client", lambda service: made)
    return made


def test_offsets_are_shown_by_release_and_by_value(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = called(monkeypatch, answer(v1=OFFSETS, v0=OFFSETS | {"by": {}, "offset": -0.5}))
    done = CliRunner().invoke(app, ["monitor", "ads"])
    assert done.exit_code == 0, done.stderr
    assert made.asked == {"FunctionName": "fn", "Payload": b'{"system": "ads"}'}
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "v1 champion 01-31 05:00 01-31 11:00 12,345 500 0.900 everything +0.123" in rows
    assert "page home -0.050" in rows
    assert any(row.startswith("v0 01-31") and row.endswith("-0.500") for row in rows)
    assert "4,000 answers of the log read, 2 left out, 1 damaged lines" in rows


def test_where_nothing_is_known_yet_it_says_so(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    called(monkeypatch, answer())
    assert "no showing of the last hours" in CliRunner().invoke(app, ["monitor", "ads"]).stdout


def test_a_stack_of_before_is_to_be_deployed_again(place: SimpleNamespace) -> None:
    place.outputs.clear()
    done = CliRunner().invoke(app, ["monitor", "ads"])
    assert (done.exit_code, done.stderr) == (1, "error the stack s has no function `monitor`; deploy it again\n")


@pytest.mark.parametrize(
    ("said", "more", "error", "words"),
    [
        ({"errorType": "BadInputError", "errorMessage": "no"}, {"FunctionError": "Unhandled"}, BadInputError, "no"),
        ({"errorType": "MemoryError", "errorMessage": "big"}, {"FunctionError": "Unhandled"}, UnavailableError, "big"),
        (None, {"FunctionError": "Unhandled"}, UnavailableError, "Unhandled"),
        ([1], {}, UnavailableError, "no object"),
        (ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "Invoke"), {}, NotFoundError, "deploy again"),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "Invoke"), {}, UnavailableError, "refused"),
        (ReadTimeoutError(endpoint_url="x"), {}, UnavailableError, "did not answer"),
    ],
)
def test_what_a_function_complains_of_is_told(
    monkeypatch: pytest.MonkeyPatch, said: Any, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    called(monkeypatch, said, **more)
    with pytest.raises(error, match=words):
        functions.invoke("fn", {})
