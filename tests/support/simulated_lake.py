"""Raw files in a lake, as `twinloop load` would deliver them, and the rows that are there then."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop import systems
from twinloop.ingest.process import ingest
from twinloop.ingest.receipts import Receipt
from twinloop.ingest.source import RawObject
from twinloop.ingest.upload import plan
from twinloop.ports import MemoryObjectStore, ObjectStore


class Loaded(NamedTuple):
    objects: MemoryObjectStore
    receipts: list[Receipt]


def loaded(raw: Path, name: str, at: datetime) -> Loaded:
    """Take every file through the real ingest of a system."""
    objects, system, receipts = MemoryObjectStore(), systems.load(name), []
    for upload in plan([raw], system):
        with upload.path.open("rb") as body:
            receipts.append(ingest(RawObject(upload.key, "1", at, upload.size, body), system, objects))
    return Loaded(objects, receipts)


def rows_of(objects: ObjectStore, name: str, table: str) -> list[dict[str, Any]]:
    """The rows of a table of a system's lake."""
    keys = [key for key in objects.keys(f"lake/{name}/{table}/") if key.endswith(".parquet")]
    return [row for key in keys for row in pq.read_table(pa.BufferReader(objects.read(key).body)).to_pylist()]
