"""Rejected rows on their way to quarantine: written to disk as they come, uploaded in parts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # replaying needs no pyarrow
    from twinloop.ingest.batches import Reject

_PART_BYTES = 16_000_000


class Quarantine:
    """The rejects of one raw object; a context manager, for the file that they wait in."""

    def __init__(self, file: str, folder: Path) -> None:
        self._file, self._out = file, (folder / "quarantine.jsonl").open("w+b")
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, *failure: object) -> None:
        self._out.close()

    def add(self, rejects: Iterable[Reject]) -> None:
        """Take rejects, in the file's order."""
        for reject in rejects:
            self.counts[reject.fault.kind] += 1
            self._out.write(json.dumps(entry(self._file, reject), ensure_ascii=False).encode() + b"\n")

    def only(self, reject: Reject) -> None:
        """Take one reject in place of all before: the file as a whole is refused."""
        self._out.seek(0)
        self._out.truncate()
        self.counts.clear()
        self.add([reject])

    def parts(self) -> Iterator[bytes]:
        """Yield the entries in parts of whole lines."""
        self._out.seek(0)
        while lines := self._out.readlines(_PART_BYTES):
            yield b"".join(lines)


def entry(file: str, reject: Reject) -> dict[str, Any]:
    """Return an entry of quarantine; bytes that are no text are kept exactly, as base64."""
    row: dict[str, Any] = {"reason": reject.fault.reason, "kind": reject.fault.kind, "file": file, "line": reject.line}
    if reject.row is None:
        return {**row, "row": None}
    try:
        return {**row, "row": reject.row.decode()}
    except UnicodeDecodeError:
        shown = reject.row.decode(errors="backslashreplace")
        return {**row, "row": shown, "row_base64": base64.b64encode(reject.row).decode()}


def row_of(entry: dict[str, Any]) -> bytes | None:
    """Return the row of an entry as it was delivered; None for a file as a whole."""
    if "row_base64" in entry:
        return base64.b64decode(entry["row_base64"])
    row = entry["row"]
    return None if row is None else row.encode() if isinstance(row, str) else json.dumps(row).encode()
