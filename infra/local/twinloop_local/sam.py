"""Runs the real `sam`, in an environment of its own, its output kept in a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from twinloop_local.errors import DeployError, LocalCloudError
from twinloop_local.interpreters import NAME, find_python313
from twinloop_local.processes import tail
from twinloop_local.settings import LocalSettings


def run_sam(settings: LocalSettings, arguments: Sequence[str], log: Path) -> None:
    """Run `sam ARGUMENTS...` against this stack.

    Raises:
        DeployError: It failed; the message ends with the last of what it said.
    """
    sam = settings.sam_env / "bin" / "sam"
    if not sam.exists():
        raise LocalCloudError(
            f"no SAM CLI at {settings.sam_env}: install it with `make environments`, "
            "or name its environment by TWINLOOP_SAM_ENV"
        )
    with log.open("wb") as out:
        done = subprocess.run(
            [str(sam), *arguments],
            check=False,
            cwd=settings.state_dir,  # away from samconfig.toml, whose stages are those of AWS
            env=_environment(settings, sam),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    if done.returncode != 0:
        raise DeployError(f"sam {arguments[0]} failed. The end of {log}:\n{tail(log, 30)}")


def _environment(settings: LocalSettings, sam: Path) -> dict[str, str]:
    """The caller's environment, but for AWS: no credentials, profile or endpoint of theirs may slip in."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_", "PYTHON"))}
    tools = settings.state_dir / "tools"
    tools.mkdir(exist_ok=True)
    python = tools / NAME
    if not python.exists():
        _point_at(python, find_python313(os.environ, Path.home()))
    return {
        **own,
        **settings.aws_environment(),
        "PATH": os.pathsep.join([str(tools), str(sam.parent), own.get("PATH", os.defpath)]),
        # Nothing of ~/.aws is read, nothing is written to ~/.aws-sam.
        "AWS_CONFIG_FILE": str(settings.state_dir / "home" / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(settings.state_dir / "home" / "credentials"),
        "__SAM_CLI_APP_DIR": str(settings.state_dir / "home"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def _point_at(link: Path, python: Path) -> None:
    """Put one interpreter on PATH without what lies beside it."""
    link.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    link.chmod(0o755)
