"""`twinloop up` and `status`: what is printed of the local cloud, and what it complains of."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import twinloop_local
from twinloop.cli import app
from twinloop.commands import cloud
from twinloop.commands.target import Deployment
from twinloop_local import Component, LocalCloudError, Status

GONE = Component(name="ministack", alive=False, pid=7, port=4566, log=Path("/logs/[x]/ministack.log"))
STATUS = Status("broken", "http://127.0.0.1:4566", "http://127.0.0.1:4570", (GONE,), "ministack")


def test_the_local_clouds_errors_end_a_command_like_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def up(*args: object, **more: object) -> None:
        raise LocalCloudError("port 4566 is taken; set [TWINLOOP_PORT]")

    monkeypatch.setattr(twinloop_local, "up", up)
    done = CliRunner().invoke(app, ["up"])
    assert done.exit_code == 1
    assert done.stderr == "error port 4566 is taken; set [TWINLOOP_PORT]\n"


def test_a_variable_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLOOP_PORT", "many")
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error TWINLOOP_PORT='many'")


def test_status_tells_which_program_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twinloop_local, "status", lambda settings: STATUS)
    done = CliRunner().invoke(app, ["status"])
    assert done.stdout == (
        "broken: AWS at http://127.0.0.1:4566 (ministack), SageMaker at http://127.0.0.1:4570\n"
        "  ministack: gone pid 7, port 4566, log /logs/[x]/ministack.log\n"
    )


def test_up_prints_the_address_that_answers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {"ApiUrl": "https://a1.execute-api.us-east-1.amazonaws.com/local", "ApiId": "a1"}
    monkeypatch.setattr(twinloop_local, "up", lambda *args, **more: STATUS)
    monkeypatch.setattr(twinloop_local, "deploy", lambda *args, **more: dict(outputs))
    monkeypatch.setattr(cloud, "deployment", lambda: Deployment("twinloop", outputs))
    monkeypatch.setenv("TWINLOOP_API_URL", "http://127.0.0.1:4566/restapis/{ApiId}")
    done = CliRunner().invoke(app, ["up"])
    assert "ApiUrl: http://127.0.0.1:4566/restapis/a1\n" in done.stdout
    assert "amazonaws" not in done.stdout
    assert CliRunner().invoke(app, ["up", "--no-deploy"]).stdout == (
        "endpoint: http://127.0.0.1:4566\nsagemaker: http://127.0.0.1:4570\n"
    )
