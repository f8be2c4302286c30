"""The compose file cannot be run without a Docker engine; what can be checked of it is checked here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from twinloop_local import LocalSettings
from twinloop_local.localstack import VERSION, variables

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "infra" / "local" / "localstack.compose.yaml"

# Of the settings without Docker: what names places on this machine, and what a container has otherwise.
OWN_TO_THE_HOST = {
    "AWS_EC2_METADATA_DISABLED",
    "FILESYSTEM_ROOT",
    "HOME",
    "PATH",
    "PYTHONUNBUFFERED",
    "TMPDIR",
    "TWINLOOP_LAMBDA_RUNTIME",
}
OTHERWISE = {
    "GATEWAY_LISTEN": "0.0.0.0:4566",
    "LAMBDA_RUNTIME_EXECUTOR": "docker",
    "LOCALSTACK_HOST": "localhost:${TWINLOOP_PORT:-4566}",  # the published port: callers are outside
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


@pytest.fixture(scope="module")
def service(document: dict[str, Any]) -> dict[str, Any]:
    assert set(document) == {"name", "services", "configs"}
    [made] = document["services"].values()
    assert set(made) == {"image", "ports", "environment", "volumes", "configs", "extra_hosts", "healthcheck"}
    found: dict[str, Any] = made
    return found


def test_the_image_is_of_the_version_that_is_locked(service: dict[str, Any]) -> None:
    assert service["image"] == f"localstack/localstack:{VERSION}"
    assert f"localstack-core[runtime]=={VERSION}" in (ROOT / "requirements" / "localstack.in").read_text().splitlines()
    assert f"localstack-core=={VERSION} " in (ROOT / "requirements" / "localstack.txt").read_text()


def test_the_port_is_published_on_this_machine_only(service: dict[str, Any]) -> None:
    assert service["ports"] == ["127.0.0.1:${TWINLOOP_PORT:-4566}:4566"]


def test_the_settings_are_those_without_docker(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANG", "LC_ALL", "TZ"):
        monkeypatch.delenv(name, raising=False)
    here = variables(LocalSettings(ROOT))
    shared = {name: value for name, value in here.items() if name not in OWN_TO_THE_HOST}
    assert service["environment"] == {**shared, **OTHERWISE}


def test_what_it_mounts_is_there(document: dict[str, Any], service: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for volume in service["volumes"]]
    assert mounted == ["/var/run/docker.sock", "./localstack_plugins"]
    assert (FILE.parent / "localstack_plugins" / "pyproject.toml").exists()
    assert {config["source"] for config in service["configs"]} == set(document["configs"])
