"""LocalStack in host mode: how it is started, and what must be installed for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from twinloop_local.errors import LocalCloudError
from twinloop_local.program import Program, base_environment
from twinloop_local.settings import HOST, PORT_VARIABLE, LocalSettings

# The version of requirements/localstack.in. Others were not tried with the plugins; 2026.3 images want a token.
VERSION = "4.14.0"
_INSTALL = "install it with `make environments EMULATOR=localstack`"
_TRIAL = "twinloop_localstack.lambdas.trial"
_TRIAL_LIMIT_S = 60
_PLAIN = (
    "functions run in plain folders that LAMBDA_TASK_ROOT and PYTHONPATH name, not at /var/task, /opt and a /tmp of "
    "their own, because "
)
_UNKNOWN = "whether functions have /var/task, /opt and a /tmp of their own is not known: "
_FOR_ROOT = "; root needs the right CAP_SYS_ADMIN for them, which a container has to be given"
_FOR_OTHERS = "; to have them, start it as root, or let ordinary users make namespaces"


def localstack(settings: LocalSettings) -> Program:
    """LocalStack with our plugins.

    Raises:
        LocalCloudError: It is not installed, or not as it must be.
    """
    _check(settings)
    command = (_python(settings), "-P", "-m", "localstack.runtime.main")
    health = f"{settings.endpoint}/_localstack/health"
    return Program("localstack", command, variables(settings), settings.port, PORT_VARIABLE, health, _notes(settings))


def _notes(settings: LocalSettings) -> tuple[str, ...]:
    try:
        plain = why_plain(settings)
    except LocalCloudError as error:
        return (f"{_UNKNOWN}{error}",)
    return (f"{_PLAIN}{plain}",) if plain else ()


def why_plain(settings: LocalSettings) -> str | None:
    """Why functions cannot have AWS's places here; None where they can. Tried, by what will run them.

    Raises:
        LocalCloudError: It could not be tried.
    """
    command = [_python(settings), "-P", "-m", _TRIAL]
    environment = variables(settings)
    del environment["TMPDIR"]  # in a folder that is not there before the start
    try:
        done = subprocess.run(
            command, env=environment, cwd="/", check=False, capture_output=True, text=True, timeout=_TRIAL_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalCloudError(f"the trial could not be made: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise LocalCloudError(f"the trial could not be made: {said[-1]}")
    refused = done.stdout.strip()
    if not refused:
        return None
    return f"a trial was refused: {refused}{_FOR_ROOT if os.geteuid() == 0 else _FOR_OTHERS}"


def variables(settings: LocalSettings) -> dict[str, str]:
    """All that LocalStack gets of an environment."""
    return {
        **base_environment(settings),
        "PATH": os.pathsep.join([str(settings.localstack_env / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PYTHONUNBUFFERED": "1",
        "GATEWAY_LISTEN": f"{HOST}:{settings.port}",
        # The default server, and the DNS server, listen on every interface.
        "GATEWAY_SERVER": "hypercorn",
        "DNS_ADDRESS": "0",
        # In the addresses that it gives out; its own name for this machine has to be looked up in public DNS.
        "LOCALSTACK_HOST": f"localhost:{settings.port}",
        "SQS_ENDPOINT_STRATEGY": "path",
        "FILESYSTEM_ROOT": str(settings.state_dir / "emulator"),
        # Nothing is sent to its makers, nothing is fetched from them.
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "TWINLOOP_LAMBDA_RUNTIME": str(settings.lambda_runtime.absolute()),
        # An idle queue is looked at every second, not ever more seldom: AWS has its pollers wait at the queue.
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "1",
        "PROVIDER_OVERRIDE_DYNAMODB": "moto",
        "PROVIDER_OVERRIDE_GLUE": "moto",
    }


def _python(settings: LocalSettings) -> str:
    return str((settings.localstack_env / "bin" / "python").absolute())  # it is not started in the user's folder


def _check(settings: LocalSettings) -> None:
    environment = settings.localstack_env
    if not (environment / "bin" / "python").exists():
        raise LocalCloudError(
            f"no LocalStack at {environment}: {_INSTALL}, "
            "or name its Python 3.13 environment by TWINLOOP_LOCALSTACK_ENV"
        )
    found = _installed(environment, "localstack_core")
    if found != VERSION:
        raise LocalCloudError(
            f"LocalStack {VERSION} is needed, {environment} has {found or 'none'}: {_INSTALL}, "
            "or name an environment that has it by TWINLOOP_LOCALSTACK_ENV"
        )
    if _installed(environment, "twinloop_localstack") is None:
        raise LocalCloudError(
            f"{environment} lacks our plugins for LocalStack (infra/local/localstack_plugins): {_INSTALL}"
        )
    if not (settings.lambda_runtime / "bin" / "python").exists():
        raise LocalCloudError(
            f"no Lambda runtime at {settings.lambda_runtime}: {_INSTALL}, "
            "or name its Python 3.13 environment by TWINLOOP_LAMBDA_RUNTIME"
        )


def _installed(environment: Path, distribution: str) -> str | None:
    """Version of a distribution in another interpreter's environment, which need not be started to know it."""
    for found in environment.glob(f"lib/python3*/site-packages/{distribution}-*.dist-info"):
        return found.name.removesuffix(".dist-info").partition("-")[2]
    return None
