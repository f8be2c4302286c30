"""What stands around a training job: the snapshot that it is given, and the archive that is left of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from twinloop.ports import ObjectStore


def on_disk(objects: ObjectStore, prefix: str, folder: Path, *, without: str | None = None) -> Path:
    """The objects of a channel as a job finds them, but for those with `without` in their key; returns the folder."""
    for key in objects.keys(prefix):
        if without is None or without not in key:
            path = folder / key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(objects.read(key).body)
    return folder


def packed(folder: Path) -> bytes:
    """A folder as SageMaker packs what a job left in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, arcname=".")
    return buffer.getvalue()
