"""Files that come out the same, byte for byte, from the same rows."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.artefacts import FileEntry

_ROW_GROUP = 32_768


class ParquetFile:
    """One Parquet file with fixed settings, fed in pieces of any size; a context manager.

    Row groups are cut by row count alone, so the bytes depend on the rows and their order, not on the pieces.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._schema = schema.remove_metadata()
        self._writer = pq.ParquetWriter(path, self._schema, version="2.6", compression="zstd", compression_level=3)
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self.rows = 0

    def write(self, piece: pa.Table) -> None:
        """Append rows."""
        self._pending.append(piece.cast(self._schema))
        self._pending_rows += piece.num_rows
        self.rows += piece.num_rows
        while self._pending_rows >= _ROW_GROUP:
            self._flush(_ROW_GROUP)

    def _flush(self, rows: int) -> None:
        together = pa.concat_tables(self._pending)
        self._writer.write_table(together.slice(0, rows).combine_chunks(), row_group_size=_ROW_GROUP)
        self._pending = [together.slice(rows)]
        self._pending_rows = together.num_rows - rows

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending_rows:
            self._flush(self._pending_rows)
        self._writer.close()


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write gzipped JSON lines without a clock or a name in the header; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            count += 1
    return count


def file_entry(root: Path, path: str, rows: int) -> FileEntry:
    """Describe one written file by its place under the root."""
    with (root / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path, sha256=digest, bytes=(root / path).stat().st_size, rows=rows)
