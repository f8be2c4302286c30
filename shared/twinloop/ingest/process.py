"""One raw object into the lake and into quarantine. Delivered again, late or twice at once, it leaves the same."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.ingest.batches import Batch, Reject
from twinloop.ingest.columns import Table, table_of
from twinloop.ingest.formats import read_rows
from twinloop.ingest.limits import DEFAULTS, Limits
from twinloop.ingest.names import UNKNOWN, entity_name, lake_prefix, output_name, parse_raw_key, quarantine_key
from twinloop.ingest.partition import DatePartitions, Part, parquet_bytes
from twinloop.ingest.quarantine import Quarantine, entry
from twinloop.ingest.receipts import Receipt, receipt, write_receipt
from twinloop.ingest.rows import Fault
from twinloop.ingest.source import Content, RawObject
from twinloop.ports import ObjectStore

_PARQUET = "application/vnd.apache.parquet"
_UPLOADS = 4


def ingest(raw: RawObject, system: System, objects: ObjectStore, limits: Limits = DEFAULTS) -> Receipt:
    """Bring one raw object in; returns its receipt, the old one where it was brought in before.

    Raises UnavailableError where the store or the stream fails: trying again later helps. Whatever is wrong with the
    object itself ends in quarantine.
    """
    earlier = receipt(objects, system.spec.name, raw.key, raw.etag)
    if earlier is not None and (_dated(earlier, system) or earlier.modified >= raw.modified):
        return earlier
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        made = _Work(raw, system, objects, Path(folder), limits).run()
    write_receipt(objects, made)
    for key in set(earlier.files if earlier else ()) - set(made.files):
        objects.delete(key)  # the same entities under the time of an earlier upload
    return made


def refuse(key: str, reason: str, objects: ObjectStore) -> None:
    """Put a raw object that belongs to no system or table into quarantine, under `_unknown`."""
    line = json.dumps(entry(key, Reject(None, Fault(reason, "file refused"), None)), ensure_ascii=False).encode()
    place = quarantine_key(UNKNOWN, UNKNOWN, output_name(key, ""), 0)
    objects.write(place, line + b"\n", content_type="application/x-ndjson")


def _dated(earlier: Receipt, system: System) -> bool:
    model = system.tables.get(earlier.table)
    return model is None or table_of(earlier.table, model).dated


class _Work:
    """The way of one object through the steps."""

    def __init__(self, raw: RawObject, system: System, objects: ObjectStore, folder: Path, limits: Limits) -> None:
        self._raw, self._system, self._objects = raw, system, objects
        self._folder, self._limits = folder, limits
        self._key = parse_raw_key(raw.key)
        self._name = output_name(raw.key, raw.etag)

    def run(self) -> Receipt:
        with Quarantine(self._raw.key, self._folder) as quarantine:
            try:
                table = self._table(self._system.tables)
                partitions, refused = self._read(table, quarantine)
            except BadInputError as error:
                quarantine.only(Reject(None, Fault(str(error), "file refused"), None))
                return self._receipt(quarantine, refused=str(error))
            files, rows, duplicates = self._upload(partitions, table)
            return self._receipt(quarantine, rows=rows, duplicates=duplicates, files=tuple(files), refused=refused)

    def _table(self, tables: Mapping[str, type]) -> Table:
        name = self._key.table
        if name not in tables:
            known = ", ".join(sorted(tables))
            raise BadInputError(f"{self._key.system} has no table {name!r}; it has {known}")
        return table_of(name, tables[name])

    def _read(self, table: Table, quarantine: Quarantine) -> tuple[DatePartitions, str | None]:
        partitions = DatePartitions(table.schema, table.identity, self._folder, self._limits, newest_by=table.newest_by)
        day = None if table.dated else self._raw.modified.date()
        content = Content(self._raw, self._limits)
        for batch in self._batches(content, table):
            partitions.add(batch.table, day)
            quarantine.add(batch.rejects)
        if content.broken:
            fault = Fault(f"{content.broken}; deliver the rest again", "file breaks off")
            quarantine.add([Reject(None, fault, None)])
        return partitions, content.broken

    def _batches(self, content: Content, table: Table) -> Iterator[Batch]:
        seen = False
        for batch in read_rows(self._key.name, content, table, self._folder, self._limits):
            seen = seen or bool(batch.table.num_rows or batch.rejects)
            yield batch
        if not seen and content.broken is None:
            raise BadInputError("the file is empty: it holds no rows")

    def _upload(self, partitions: DatePartitions, table: Table) -> tuple[list[str], Counter[str], int]:
        name = self._name if table.dated else entity_name(self._name, self._raw.modified)
        prefix, rows, files, duplicates = lake_prefix(self._key.system, table.name), Counter[str](), list[str](), 0
        under_way: deque[Future[str]] = deque()
        with ThreadPoolExecutor(_UPLOADS) as pool:
            for part in partitions.parts():
                key = f"{prefix}dt={part.day}/{name}-{part.number:04d}.parquet"
                under_way.append(pool.submit(self._put, key, part))
                files.append(key)
                rows[str(part.day)] += part.rows.num_rows
                duplicates += part.duplicates
                if len(under_way) > _UPLOADS:  # rows that wait take memory
                    under_way.popleft().result()
            for upload in under_way:
                upload.result()
        return files, rows, duplicates

    def _put(self, key: str, part: Part) -> str:
        return self._objects.write(key, parquet_bytes(part.rows), content_type=_PARQUET)

    def _put_quarantine(self, parts: Iterable[bytes]) -> Iterator[str]:
        for number, body in enumerate(parts):
            key = quarantine_key(self._key.system, self._key.table, self._name, number)
            self._objects.write(key, body, content_type="application/x-ndjson")
            yield key

    def _receipt(self, quarantine: Quarantine, **facts: object) -> Receipt:
        about: dict[str, object] = {"system": self._key.system, "table": self._key.table, "raw_key": self._raw.key}
        about |= {"etag": self._raw.etag, "modified": self._raw.modified, "quarantined": dict(quarantine.counts)}
        return Receipt.model_validate({**about, "quarantine": tuple(self._put_quarantine(quarantine.parts())), **facts})
