"""Many small files of a date into one, while others read and write.

A run writes a plan that names the files to replace, then the merged file; a later run, past the time that a
reader may still be at work, deletes those. In between rows are there twice, and readers see an id once; at no time is
a row missing. A run that dies anywhere is taken up by the next: names and bytes derive from the merged files alone.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.system import System
from twinloop.errors import NotFoundError
from twinloop.ingest.columns import Table, table_of
from twinloop.ingest.limits import DEFAULTS, Limits
from twinloop.ingest.names import lake_prefix
from twinloop.ingest.partition import first_of_each, parquet_bytes
from twinloop.ports import ObjectStore

_GRACE = timedelta(hours=6)  # longer than any reader holds on to a listing
_ENOUGH = 4  # files of a date that are worth merging
_AT_ONCE = 20_000  # files of one run; the next run goes on
_FULL = "full-"  # in the name of a merged file that has no room for more
_PARALLEL_READS = 16
_PLANS = "lake/{system}/_compactions/"


def compact(
    system: System,
    objects: ObjectStore,
    *,
    now: datetime,
    limits: Limits = DEFAULTS,
) -> dict[str, Any]:
    """Merge the small files of each date; returns the counts of files merged, written and deleted."""
    deleted, leaving = _finish(system, objects, now)
    merged = written = 0
    for name, model in system.tables.items():
        table = table_of(name, model)
        if not table.identity:
            continue  # all of a row would have to be compared
        for keys in _groups(objects, lake_prefix(system.spec.name, name), leaving):
            if merged >= _AT_ONCE:
                break
            with suppress(NotFoundError):  # a file went while we read: the next run sees what is there now
                counts = _merge_run(system.spec.name, table, keys, objects=objects, now=now, limits=limits)
                merged, written = merged + counts[0], written + counts[1]
    return {"system": system.spec.name, "merged": merged, "written": written, "deleted": deleted}


def _finish(system: System, objects: ObjectStore, now: datetime) -> tuple[int, set[str]]:
    """Delete what earlier runs replaced long enough ago; returns how many, and the files still to leave alone."""
    deleted, leaving = 0, set[str]()
    for key in list(objects.keys(_PLANS.format(system=system.spec.name))):
        plan = json.loads(objects.read(key).body)
        merged_exists = next(objects.keys(plan["by"]), None) == plan["by"]
        if not merged_exists:  # the run died before it wrote the file: there is nothing to stand for the others
            objects.delete(key)
        elif now - datetime.fromisoformat(plan["at"]) < _GRACE:
            leaving |= {*plan["replaced"], plan["by"]}
        else:
            for replaced in plan["replaced"]:
                objects.delete(replaced)
            deleted += len(plan["replaced"])
            objects.delete(key)
    return deleted, leaving


def _groups(objects: ObjectStore, prefix: str, leaving: set[str]) -> Iterator[list[str]]:
    """Yield runs of files that follow each other within a date and may be merged.

    A file followed by another part of the same object is full, and stays. A run never reaches across a file that
    stays, so the order in which rows win is kept.
    """
    by_date: defaultdict[str, list[str]] = defaultdict(list)
    for key in objects.keys(prefix):
        if key.endswith(".parquet"):
            by_date[key.rpartition("/")[0]].append(key)
    for keys in by_date.values():
        run: list[str] = []
        for key, following in zip(keys, [*keys[1:], ""], strict=True):
            if key in leaving or _stem(key) == _stem(following) or _FULL in key:
                yield from _worthwhile(run)
                run = []
            else:
                run.append(key)
        yield from _worthwhile(run)


def _worthwhile(run: list[str]) -> Iterator[list[str]]:
    if len(run) >= _ENOUGH:
        yield run


def _stem(key: str) -> str:
    return key.rpartition("-")[0]


def _merge_run(
    system: str, table: Table, keys: list[str], *, objects: ObjectStore, now: datetime, limits: Limits
) -> tuple[int, int]:
    """Merge a run of files into as few as the limit of rows allows; returns the files read and written."""
    merged = written = rows = 0
    batch: list[tuple[str, pa.Table]] = []
    for key, body in _bodies(objects, keys):
        part = pq.read_table(io.BytesIO(body))
        batch.append((key, part))
        rows += part.num_rows
        if rows >= limits.part_rows or key == keys[-1]:
            if len(batch) > 1:
                _replace(system, table, batch, objects, now, full=rows >= limits.part_rows)
                merged, written = merged + len(batch), written + 1
            batch, rows = [], 0
    return merged, written


def _replace(
    system: str, table: Table, batch: list[tuple[str, pa.Table]], objects: ObjectStore, now: datetime, *, full: bool
) -> None:
    keys = [key for key, _ in batch]
    name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]
    # In the order of keys the new name takes the place of the last of those it stands for.
    by = f"{keys[-1].removesuffix('.parquet')}~{_FULL if full else ''}{name}.parquet"
    plan = {"by": by, "replaced": keys, "at": now.isoformat()}
    objects.write(f"{_PLANS.format(system=system)}{name}.json", json.dumps(plan).encode())
    rows = pa.concat_tables([rows for _, rows in batch], promote_options="default")
    once = first_of_each(rows, table.identity, last=not table.dated, newest_by=table.newest_by)
    objects.write(by, parquet_bytes(once))


def _bodies(objects: ObjectStore, keys: list[str]) -> Iterator[tuple[str, bytes]]:
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        for start in range(0, len(keys), _PARALLEL_READS):  # no further ahead than that: bodies take memory
            some = keys[start : start + _PARALLEL_READS]
            yield from zip(some, pool.map(lambda key: objects.read(key).body, some), strict=True)
