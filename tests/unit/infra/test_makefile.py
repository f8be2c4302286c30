"""The Makefile on machines that have Python, and on those that only have uv."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("there", "command"),
    [
        ({"python3": "exit 0", "uv": "exit 0"}, "python3 infra/environments.py"),
        ({"uv": "exit 0"}, "uv run --no-project python infra/environments.py"),
        # A version manager's shim, of a version that is not installed.
        ({"python3": "exit 127", "uv": "exit 0"}, "uv run --no-project python infra/environments.py"),
    ],
)
def test_environments_are_made_with_what_is_there(there: dict[str, str], command: str, tmp_path: Path) -> None:
    for name, body in there.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run(
        [make, "-n", "environments"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == command
