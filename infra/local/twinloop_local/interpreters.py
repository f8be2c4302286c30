"""Finds an interpreter that really runs: a version manager's shim of that name may only say `command not found`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from twinloop_local.errors import LocalCloudError

VARIABLE = "TWINLOOP_PYTHON313"
NAME = "python3.13"
_CHECK = "import pip, sys; sys.exit(sys.version_info[:2] != (3, 13))"


def find_python313(environment: Mapping[str, str], home: Path) -> Path:
    """The first Python 3.13 with pip: the one named by TWINLOOP_PYTHON313, on PATH, kept by uv, by pyenv.

    Raises:
        LocalCloudError: There is none; the message says how to get or name one.
    """
    for candidate in _candidates(environment, home):
        if _runs(candidate, environment):
            return candidate
    raise LocalCloudError(
        f"no Python 3.13 with pip found on PATH, under uv or under pyenv: install one (`uv python install 3.13`), "
        f"or name it by {VARIABLE}=/path/to/{NAME}"
    )


def _candidates(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    if environment.get(VARIABLE):
        yield Path(environment[VARIABLE])
        return
    for entry in environment.get("PATH", "").split(os.pathsep):
        if entry:
            yield Path(entry) / NAME
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    places = {
        Path(environment.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python"): "cpython-3.13*/bin",
        Path(environment.get("PYENV_ROOT") or home / ".pyenv") / "versions": "3.13*/bin",
    }
    for place, pattern in places.items():
        for folder in sorted(place.glob(pattern), reverse=True):
            yield folder / NAME


def _runs(python: Path, environment: Mapping[str, str]) -> bool:
    if not os.access(python, os.X_OK):
        return False
    try:
        done = subprocess.run(
            [str(python), "-c", _CHECK],
            check=False,
            capture_output=True,
            timeout=30,
            env={name: value for name, value in environment.items() if not name.startswith("PYTHON")},
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
