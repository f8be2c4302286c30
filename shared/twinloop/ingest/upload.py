"""Files of a user's disk to raw objects: which table each belongs to, and a key that its content decides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.ingest.names import FORMATS_IN_WORDS, format_of

_CHUNK = 1_000_000


@dataclass(frozen=True)
class Upload:
    """One file to upload. The same content has the same key, so loading it twice is harmless."""

    path: Path
    table: str
    key: str
    size: int


def plan(paths: Iterable[Path], system: System) -> list[Upload]:
    """Return the uploads for files and folders; raises BadInputError that names every file that has no place.

    A file's table is the name of its folder (`events/2024.jsonl`), or what its own name begins with (`events.csv`,
    `events-2024.jsonl.gz`).
    """
    uploads, faults = [], []
    for path in _files(paths):
        try:
            uploads.append(_upload(path, system))
        except BadInputError as error:
            faults.append(str(error))
    if faults:
        raise BadInputError("nothing was uploaded:\n" + "\n".join(faults))
    if not uploads:
        raise BadInputError(f"there is nothing to load; give files or folders of {FORMATS_IN_WORDS}")
    return uploads


def table_for(path: Path, system: System) -> str:
    """Return the table that a file belongs to by its folder or its name; raises BadInputError."""
    stem = path.name.lower()
    by_name = [table for table in system.tables if re.match(rf"{re.escape(table)}([^a-z0-9]|$)", stem)]
    parents = {part.lower() for part in path.absolute().parent.parts[-3:]}
    by_folder = [table for table in system.tables if table in parents]
    found = by_name or by_folder
    if len(found) == 1:
        return found[0]
    tables = ", ".join(sorted(system.tables))
    why = "its name tells no table" if not found else f"its name tells several: {', '.join(found)}"
    raise BadInputError(
        f"{path}: {why}; name it or its folder after one of {tables} (events.jsonl, or events/monday.jsonl)"
    )


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.is_file())
            yield from (p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts))
        elif path.is_file():
            yield path
        else:
            raise BadInputError(f"{path}: there is no such file or folder")


def _upload(path: Path, system: System) -> Upload:
    try:
        format_of(path.name)
    except BadInputError as error:
        raise BadInputError(f"{path}: is none of the formats that are read: {FORMATS_IN_WORDS}") from error
    table, size = table_for(path, system), path.stat().st_size
    if not size:
        raise BadInputError(f"{path}: is empty")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[-100:]
    return Upload(path, table, f"raw/{system.spec.name}/{table}/load/{digest.hexdigest()[:16]}-{name}", size)
