"""The programs a stack consists of: how each is started and how it says that it is ready."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twinloop_local.errors import LocalCloudError
from twinloop_local.localstack import localstack
from twinloop_local.program import Program, base_environment
from twinloop_local.settings import ACCOUNT, HOST, PORT_VARIABLE, SAGEMAKER_PORT_VARIABLE, LocalSettings


def programs(settings: LocalSettings, emulator: str) -> tuple[Program, ...]:
    """Programs in the order they start.

    Raises:
        LocalCloudError: The emulator is not one we know, or its environment is not installed.
    """
    if emulator not in EMULATORS:
        raise LocalCloudError(f"unknown emulator {emulator!r}; there is: {', '.join(EMULATORS)}")
    return (EMULATORS[emulator](settings), _executor(settings))


def _ministack(settings: LocalSettings) -> Program:
    python = settings.ministack_env / "bin" / "python"
    if not python.exists():
        raise LocalCloudError(
            f"no MiniStack at {settings.ministack_env}: install it with `make environments`, "
            "or name its Python 3.13 environment by TWINLOOP_MINISTACK_ENV"
        )
    state = settings.state_dir
    environment = {
        **base_environment(settings),
        "PATH": os.pathsep.join([str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "GATEWAY_PORT": str(settings.port),
        "BIND_HOST": HOST,
        "MINISTACK_HOST": "localhost",
        "MINISTACK_REGION": settings.region,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "IOT_MTLS_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "ATHENA_ENGINE": "duckdb",
        "STATE_DIR": str(state / "emulator"),
        "S3_DATA_DIR": str(state / "emulator" / "s3"),
    }
    command = (str(python.absolute()), "-P", "-m", "ministack")
    health = f"{settings.endpoint}/_ministack/health"
    return Program("ministack", command, environment, settings.port, PORT_VARIABLE, health)


def _executor(settings: LocalSettings) -> Program:
    environment = {
        **base_environment(settings),
        **settings.aws_environment(),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "MOTO_ACCOUNT_ID": ACCOUNT,
        "PYTHONUNBUFFERED": "1",
    }
    command = (
        *(sys.executable, "-P", "-m", "twinloop_local.executor"),
        *("--port", str(settings.sagemaker_port)),
        *("--jobs", str(settings.state_dir / "jobs")),
        *("--slots", str(settings.training_slots)),
        *("--grace", str(settings.stop_grace_s)),
        *("--python", _from_here(settings.job_python)),
    )
    health = f"{settings.sagemaker_endpoint}/health"
    port = settings.sagemaker_port
    return Program("sagemaker", command, environment, port, SAGEMAKER_PORT_VARIABLE, health)


def _from_here(program: Path) -> str:
    """A path from the user's folder, where the program is not started; a mere name is looked for on PATH as it is."""
    return str(program.absolute() if len(program.parts) > 1 else program)


def folders(state_dir: Path) -> tuple[Path, ...]:
    """Folders that must be there before the programs start."""
    return tuple(state_dir / name for name in ("logs", "tmp", "home", "emulator", "jobs"))


DEFAULT_EMULATOR = "ministack"
EMULATORS = {"ministack": _ministack, "localstack": localstack}
