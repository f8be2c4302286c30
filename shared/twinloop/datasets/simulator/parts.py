"""Tables to files, part by part: compressed JSON lines or Parquet. The same rows are the same bytes."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.datasets.simulator.json_lines import json_lines
from twinloop.errors import BadInputError

PART_ROWS = 500_000


class _Part(Protocol):
    def add(self, rows: pa.Table) -> None: ...

    def close(self) -> None: ...


class _Lines:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        del schema
        self._raw: IO[bytes] = path.open("wb")
        # Neither a time nor a name goes into the file: its bytes are those of its rows.
        self._file = gzip.GzipFile("", "wb", compresslevel=1, fileobj=self._raw, mtime=0)

    def add(self, rows: pa.Table) -> None:
        self._file.write(json_lines(rows))

    def close(self) -> None:
        self._file.close()
        self._raw.close()


class _Parquet:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, rows: pa.Table) -> None:
        self._file.write_table(rows)

    def close(self) -> None:
        self._file.close()


FORMATS: dict[str, type[_Lines] | type[_Parquet]] = {"jsonl.gz": _Lines, "parquet": _Parquet}


class Parts:
    """One table's files: `<folder>/<name>-00000.<format>` and so on, of about PART_ROWS rows. A context manager."""

    def __init__(self, folder: Path, name: str, kind: str, part_rows: int = PART_ROWS) -> None:
        if kind not in FORMATS:
            raise BadInputError(f"the format is one of {', '.join(FORMATS)}, not {kind!r}")
        self._folder, self._name, self._kind, self._part_rows = folder, name, kind, part_rows
        self._open: _Part | None = None
        self._in_part, self._number = 0, 0
        self.rows = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, rows: pa.Table) -> None:
        """Append rows; a part is full where they end."""
        if not rows.num_rows:
            return
        if self._open is None:
            path = self._folder / f"{self._name}-{self._number:05d}.{self._kind}"
            self._open = FORMATS[self._kind](path, rows.schema)
            self._number += 1
        self._open.add(rows)
        self.rows += rows.num_rows
        self._in_part += rows.num_rows
        if self._in_part >= self._part_rows:
            self._close()

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open, self._in_part = None, 0
