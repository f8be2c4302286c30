"""Settings, state, sources and interpreters of the local cloud."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from twinloop_local import LocalCloudError, LocalSettings, PortInUseError
from twinloop_local.components import programs
from twinloop_local.interpreters import find_python313
from twinloop_local.processes import ProcessId, check_port_free, tail
from twinloop_local.sources import fingerprint
from twinloop_local.state import StackState, read


def test_defaults_and_every_variable(tmp_path: Path) -> None:
    assert LocalSettings.from_environment(tmp_path, {}).endpoint == "http://127.0.0.1:4566"
    environment = {
        "TWINLOOP_STACK": "second",
        "TWINLOOP_PORT": "5001",
        "TWINLOOP_SAGEMAKER_PORT": "5002",
        "TWINLOOP_REGION": "eu-west-1",
        "TWINLOOP_MINISTACK_ENV": "/opt/ministack",
        "TWINLOOP_LOCALSTACK_ENV": "envs/localstack",
        "TWINLOOP_LAMBDA_RUNTIME": "/opt/runtime",
        "TWINLOOP_SAM_ENV": "envs/sam",
        "TWINLOOP_JOB_PYTHON": "/opt/python",
        "TWINLOOP_TRAINING_SLOTS": "4",
        "TWINLOOP_STOP_GRACE": "5",
    }
    settings = LocalSettings.from_environment(tmp_path, environment)
    assert settings.state_dir == tmp_path / ".twinloop" / "second"
    assert settings.sagemaker_endpoint == "http://127.0.0.1:5002"
    assert (settings.ministack_env, settings.sam_env) == (Path("/opt/ministack"), tmp_path / "envs/sam")
    assert (settings.localstack_env, settings.lambda_runtime) == (tmp_path / "envs/localstack", Path("/opt/runtime"))
    assert (settings.training_slots, settings.stop_grace_s) == (4, 5)
    assert settings.aws_environment()["AWS_REGION"] == "eu-west-1"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TWINLOOP_PORT", "0"),
        ("TWINLOOP_PORT", "70000"),
        ("TWINLOOP_PORT", "http"),
        ("TWINLOOP_SAGEMAKER_PORT", "-1"),
        ("TWINLOOP_SAGEMAKER_PORT", "4566"),
        ("TWINLOOP_TRAINING_SLOTS", "0"),
        ("TWINLOOP_STACK", "Has Spaces"),
        ("TWINLOOP_STACK", "../elsewhere"),
    ],
)
def test_a_wrong_value_names_its_variable(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(LocalCloudError, match=variable):
        LocalSettings.from_environment(tmp_path, {variable: value})


def test_an_unknown_emulator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalCloudError, match="unknown emulator 'cloudzilla'; there is: ministack, localstack"):
        programs(LocalSettings(tmp_path), "cloudzilla")


def test_state_is_read_back_and_rubbish_is_none(tmp_path: Path) -> None:
    state = StackState(1, 2, processes={"ministack": ProcessId(7, 1.5)})
    state.write(tmp_path)
    assert read(tmp_path) == state
    for text in ("", "[]", "{}", '{"port": 1', '{"port":1,"sagemaker_port":2,"emulator":"x","processes":{"a":{}}}'):
        (tmp_path / "state.json").write_text(text)
        assert read(tmp_path) is None
    assert read(tmp_path / "nowhere") is None


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} .*TWINLOOP_PORT=<port>"):
            check_port_free(port, "TWINLOOP_PORT")
    check_port_free(port, "TWINLOOP_PORT")


def test_no_process_is_taken_for_another() -> None:
    assert not ProcessId(1, 0.0).alive()
    assert not ProcessId(2**22 + 1, 0.0).alive()


def test_a_tail_is_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == "(it wrote nothing)"
    log.write_bytes(b"\xff first\n" + b"x\n" * 20 + b"last\n")
    assert tail(log, 2) == "x\nlast"


def test_a_fingerprint_changes_with_names_and_contents_only(tmp_path: Path) -> None:
    folder = tmp_path / "functions"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "a.py").write_text("1")
    first = fingerprint([folder, tmp_path / "missing"])
    (folder / "__pycache__" / "a.pyc").write_text("compiled")
    (folder / "a.py").touch()
    assert fingerprint([folder, tmp_path / "missing"]) == first
    (folder / "a.py").write_text("2")
    second = fingerprint([folder])
    (folder / "a.py").rename(folder / "b.py")
    assert len({first, second, fingerprint([folder])}) == 3


def script(path: Path, exit_code: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def test_a_shim_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "shims" / "python3.13", 127)
    real = script(tmp_path / ".pyenv" / "versions" / "3.13.0" / "bin" / "python3.13", 0)
    assert find_python313({"PATH": str(tmp_path / "shims")}, tmp_path) == real
    first = script(tmp_path / "bin" / "python3.13", 0)
    assert find_python313({"PATH": f"{tmp_path / 'shims'}:{tmp_path / 'bin'}"}, tmp_path) == first
    assert find_python313({"TWINLOOP_PYTHON313": str(real), "PATH": str(tmp_path / "bin")}, tmp_path) == real


def test_no_interpreter_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(LocalCloudError, match=r"TWINLOOP_PYTHON313=/path/to/python3\.13"):
        find_python313({"PATH": str(tmp_path)}, tmp_path)
    with pytest.raises(LocalCloudError, match=r"no Python 3\.13"):
        find_python313({"TWINLOOP_PYTHON313": str(script(tmp_path / "p", 1))}, tmp_path)
