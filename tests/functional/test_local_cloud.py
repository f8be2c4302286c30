"""Starting, stopping and deploying, for real: MiniStack, the executor, and `sam` on a toy application."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from ports import free_port

from twinloop_local import (
    LocalCloudError,
    LocalSettings,
    PortInUseError,
    StartError,
    deploy,
    down,
    outputs,
    status,
    up,
)
from twinloop_local.clients import client
from twinloop_local.errors import DeployError

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "support" / "toy_app"

pytestmark = [
    pytest.mark.skipif(not (ROOT / ".envs/ministack").exists(), reason="MiniStack is not installed: make environments"),
    pytest.mark.slow,
]


def settings_in(root: Path, stack: str) -> LocalSettings:
    here = LocalSettings.from_environment(ROOT, {})
    return replace(here, root=root, stack=stack, port=free_port(), sagemaker_port=free_port())


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[LocalSettings]:
    made = settings_in(tmp_path, "toy")
    yield made
    down(made)


def pids(settings: LocalSettings) -> list[int]:
    return [component.pid for component in status(settings).components]


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_up_status_down_leave_nothing(settings: LocalSettings) -> None:
    said: list[str] = []
    assert status(settings).state == "down"
    started = up(settings, progress=said.append)
    assert started.state == "running"
    assert [component.name for component in started.components] == ["ministack", "sagemaker"]
    assert any(f"port {settings.port}" in line for line in said)
    before = pids(settings)
    assert up(settings).state == "running"  # again: nothing happens
    assert pids(settings) == before
    down(settings, progress=said.append)
    assert all(gone(pid) for pid in before)
    assert status(settings).state == "down"
    assert list(settings.root.iterdir()) == []
    down(settings)  # again: no error


def test_down_removes_whatever_lies_there_and_nothing_that_a_link_leads_to(
    settings: LocalSettings, tmp_path: Path
) -> None:
    kept = tmp_path / "kept" / "of somebody else"
    kept.parent.mkdir()
    kept.write_bytes(b"kept")
    code = settings.state_dir / "tmp" / "worker" / "code"
    (code / "package").mkdir(parents=True)
    for folder in (code, code / "package"):
        (folder / "module.py").write_bytes(b"")
        (folder / "link").symlink_to(kept)
        (folder / "link to a folder").symlink_to(kept.parent)
        folder.chmod(0o500)
    down(settings)
    assert not settings.state_dir.exists()
    assert kept.read_bytes() == b"kept"


def test_nothing_listens_beyond_this_machine(settings: LocalSettings) -> None:
    up(settings)
    for pid in pids(settings):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        listening = [c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
        assert set(listening) == {"127.0.0.1"}


def test_two_stacks_side_by_side(settings: LocalSettings) -> None:
    other = settings_in(settings.root, "other")
    up(settings)
    try:
        up(other)
        client(settings, "s3").create_bucket(Bucket="mine")
        assert client(other, "s3").list_buckets()["Buckets"] == []
        down(settings)
        assert status(other).state == "running"
    finally:
        down(other)


@pytest.mark.parametrize(
    ("field", "variable"), [("port", "TWINLOOP_PORT"), ("sagemaker_port", "TWINLOOP_SAGEMAKER_PORT")]
)
def test_a_port_in_use_is_named_with_its_variable(settings: LocalSettings, field: str, variable: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", getattr(settings, field)))
        holder.listen()
        with pytest.raises(PortInUseError, match=rf"port {getattr(settings, field)} .*{variable}="):
            up(settings)
    assert status(settings).state == "down"
    assert not settings.state_dir.exists()


@pytest.mark.parametrize("victim", ["ministack", "sagemaker"])
def test_a_crash_is_seen_and_mended(settings: LocalSettings, victim: str) -> None:
    up(settings)
    before = pids(settings)
    psutil.Process({c.name: c.pid for c in status(settings).components}[victim]).kill()
    wait_until(lambda: status(settings).state != "running")
    assert status(settings).state == "broken"
    said: list[str] = []
    assert up(settings, progress=said.append).state == "running"
    assert "cleaning up what a crashed run left behind" in said
    assert all(gone(pid) for pid in before)


def test_a_reused_pid_is_not_ours(settings: LocalSettings) -> None:
    """After a reboot the numbers in the state belong to others; `down` must leave those alone."""
    up(settings)
    ours = pids(settings)
    file = settings.state_dir / "state.json"
    written = json.loads(file.read_text())
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        kept = file.read_text()
        written["processes"]["ministack"]["pid"] = stranger.pid
        file.write_text(json.dumps(written))
        assert status(settings).state == "broken"
        down(settings)
        assert stranger.poll() is None
        assert all(gone(pid) for pid in ours), kept
    finally:
        stranger.kill()
        stranger.wait()


def test_illegible_state_is_cleaned(settings: LocalSettings) -> None:
    up(settings)
    ours = pids(settings)
    (settings.state_dir / "state.json").write_text('{"port": 45')
    assert status(settings).state == "broken"
    down(settings)
    assert all(gone(pid) for pid in ours)


def test_a_failed_start_shows_the_log_and_leaves_nothing(settings: LocalSettings, tmp_path: Path) -> None:
    fake = tmp_path / "env" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    fake.write_text("#!/bin/sh\necho the dog ate my homework\nexit 3\n")
    fake.chmod(0o755)
    with pytest.raises(StartError, match=r"ministack ended while starting[\s\S]*the dog ate my homework"):
        up(replace(settings, ministack_env=tmp_path / "env"))
    assert status(settings).state == "down"


def test_a_missing_environment_says_what_to_do(settings: LocalSettings, tmp_path: Path) -> None:
    with pytest.raises(LocalCloudError, match="TWINLOOP_MINISTACK_ENV"):
        up(replace(settings, ministack_env=tmp_path / "nowhere"))


def test_other_ports_while_running_are_refused(settings: LocalSettings) -> None:
    up(settings)
    with pytest.raises(LocalCloudError, match="runs on ports"):
        up(replace(settings, port=free_port()))


def test_deploy_needs_a_running_cloud(settings: LocalSettings) -> None:
    with pytest.raises(LocalCloudError, match="twinloop up"):
        deploy(settings, template=TOY / "template.yaml", parameters={}, sources=[])


@pytest.mark.skipif(not (ROOT / ".envs/sam").exists(), reason="SAM CLI is not installed: make environments")
def test_sam_builds_deploys_and_skips_what_is_done(
    settings: LocalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "app"
    shutil.copytree(TOY, app)
    monkeypatch.setenv("TWINLOOP_SECRET_OF_THE_SHELL", "must not reach a function")
    monkeypatch.setenv("AWS_PROFILE", "a-real-account")
    up(settings)
    arguments = {
        "template": app / "template.yaml",
        "parameters": {"SageMakerEndpointUrl": settings.sagemaker_endpoint},
        "sources": [app / "hello", app / "layer"],
    }
    said: list[str] = []
    got = deploy(settings, progress=said.append, **arguments)
    assert got == outputs(settings)
    assert got["SageMakerEndpoint"] == settings.sagemaker_endpoint

    functions = client(settings, "lambda")
    answer = json.loads(functions.invoke(FunctionName=got["FunctionName"])["Payload"].read())
    assert answer["greeting"] == "hello from the layer"
    assert answer["python"] == [3, 13]
    assert answer["jobs"] == 0
    seen = answer["environment"]
    assert seen["AWS_ENDPOINT_URL"] == settings.endpoint
    assert "TWINLOOP_SECRET_OF_THE_SHELL" not in seen
    assert "AWS_PROFILE" not in seen

    said.clear()
    assert deploy(settings, progress=said.append, **arguments) == got
    assert said == ["the build is up to date", "the stack is as the sources are; nothing to deploy"]

    (app / "layer" / "words.py").write_text('GREETING = "changed"\n')
    deploy(settings, **arguments)
    answer = json.loads(functions.invoke(FunctionName=got["FunctionName"])["Payload"].read())
    assert answer["greeting"] == "changed"

    (app / "layer" / "Makefile").write_text("build-WordsLayer:\n\t@echo no words today; exit 4\n")
    with pytest.raises(DeployError, match="no words today"):
        deploy(settings, **arguments)
