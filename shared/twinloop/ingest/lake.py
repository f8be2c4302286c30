"""What the lake and quarantine hold, from receipts and names alone: no scan of data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import Field

from twinloop.contracts.model import Contract
from twinloop.errors import NotFoundError
from twinloop.ingest.names import RECEIPTS, REPLAYED, UNKNOWN
from twinloop.ingest.receipts import Receipt
from twinloop.ports import ObjectStore

_PARALLEL_READS = 16


class TableReport(Contract):
    """One table of the lake.

    Attributes:
        rows: Rows by date, as delivered; a reader sees an id once, so it may see fewer.
        files: Parquet files by date, as they are now.
        quarantined: Rows that wait in quarantine by kind of fault; a file refused whole counts as one.
        replayed: Rows that were sent through again.
        refused: Files refused whole, or broken off, with the reason.
    """

    rows: dict[str, int] = Field(default_factory=dict)
    files: dict[str, int] = Field(default_factory=dict)
    objects: int = 0
    duplicates: int = 0
    quarantined: dict[str, int] = Field(default_factory=dict)
    replayed: int = 0
    refused: dict[str, str] = Field(default_factory=dict)


def describe(objects: ObjectStore, system: str) -> dict[str, TableReport]:
    """Return a report of each table that anything was delivered to."""
    receipts = [Receipt.model_validate_json(body) for body in _bodies(objects, RECEIPTS.format(system=system))]
    replays = [json.loads(body) for body in _bodies(objects, REPLAYED.format(system=system))]
    files = _files(objects, system)
    tables = sorted({*(r.table for r in receipts), *files})
    return {
        table: _report(
            [r for r in receipts if r.table == table], [r for r in replays if r["table"] == table], files.get(table)
        )
        for table in tables
    }


def strays(objects: ObjectStore) -> dict[str, str]:
    """Return the objects that were delivered to no system or table that there is, with the reason of each."""
    entries = [json.loads(body) for body in _bodies(objects, f"quarantine/{UNKNOWN}/")]
    return dict(sorted((entry["file"], entry["reason"]) for entry in entries))


def _report(receipts: list[Receipt], replays: list[dict[str, Any]], files: Counter[str] | None) -> TableReport:
    rows, quarantined = Counter[str](), Counter[str]()
    for receipt in receipts:
        rows.update(receipt.rows)
        quarantined.update(receipt.quarantined)
    for replay in replays:
        quarantined.subtract(replay["kinds"])
    return TableReport(
        rows=dict(sorted(rows.items())),
        files=dict(sorted((files or {}).items())),
        objects=len(receipts),
        duplicates=sum(receipt.duplicates for receipt in receipts),
        quarantined={kind: count for kind, count in quarantined.most_common() if count > 0},
        replayed=sum(sum(replay["kinds"].values()) for replay in replays),
        refused={receipt.raw_key: receipt.refused for receipt in receipts if receipt.refused},
    )


def _files(objects: ObjectStore, system: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for key in objects.keys(f"lake/{system}/"):
        parts = key.split("/")
        if len(parts) == 5 and parts[3].startswith("dt=") and key.endswith(".parquet"):
            found.setdefault(parts[2], Counter())[parts[3].removeprefix("dt=")] += 1
    return found


def _bodies(objects: ObjectStore, prefix: str) -> Iterator[bytes]:
    def read(key: str) -> bytes | None:
        try:
            return objects.read(key).body
        except NotFoundError:
            return None  # deleted since it was listed

    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        yield from (body for body in pool.map(read, list(objects.keys(prefix))) if body is not None)
