"""What a deployment is made of, as one hash: equal sources need no second build."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

# Everything of the project that ends up in a function, a layer or the stack.
PROJECT = (
    "template.yaml",
    "functions",
    "shared/twinloop",
    "training_jobs",
    "infra/layers",
    "infra/statemachines",
    "requirements/layers",
)
_LEFT_OUT = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files and of folders' files. What does not exist counts as empty."""
    digest = hashlib.sha256()
    for root in paths:
        for path in sorted(_files(root)):
            name = path.relative_to(root.parent).as_posix()
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return [path for path in root.rglob("*") if path.is_file() and not _LEFT_OUT.intersection(path.parts)]
