"""Labelled files, read as the ETL reads them. It needs the extra [evaluate]; import it where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.ingest.process import ingest
from twinloop.ingest.receipts import Receipt
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore, ObjectStore


def read_labelled(system: System, table: str, path: Path) -> tuple[Iterator[dict[str, Any]], Receipt]:
    """Return the good rows of a raw file, as the lake would have them, and what became of the others.

    Raises BadInputError where the file is not there or cannot be read.
    """
    if not path.is_file():
        raise BadInputError(f"{path}: there is no such file")
    store, key = MemoryObjectStore(), f"raw/{system.spec.name}/{table}/{path.name}"
    with path.open("rb") as body:
        made = ingest(RawObject(key, "file", datetime.now(UTC), path.stat().st_size, body), system, store)
    if made.refused and not made.rows:
        raise BadInputError(f"{path}: {made.refused}")
    return _rows(store, made), made


def _rows(store: ObjectStore, made: Receipt) -> Iterator[dict[str, Any]]:
    for key in made.files:
        yield from pq.read_table(pa.BufferReader(store.read(key).body)).to_pylist()
