"""Quarantined rows sent through again, as they are or mended: nothing is lost and nothing is there twice.

Rows go into a new raw object whose key derives from their content, and a record says which entries of quarantine were
sent. A replay that dies in between sends the same object again, which ingest knows. A row that fails again is a new
entry, under the replayed object's name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from twinloop.contracts.model import Contract
from twinloop.errors import BadInputError
from twinloop.ingest.names import REPLAYED, RawKey, parse_raw_key
from twinloop.ingest.quarantine import row_of
from twinloop.ports import ObjectStore

_BATCH_ROWS = 50_000


class Replayed(Contract):
    """What a replay sent, or would have to be mended by hand first.

    Attributes:
        objects: Keys of the new raw objects.
        rows: Rows sent.
        by_hand: Entries that hold no whole row: files refused whole, overlong lines. Deliver those anew.
        known: Entries that an earlier replay sent.
    """

    objects: tuple[str, ...]
    rows: int
    by_hand: int
    known: int


class _Batch(NamedTuple):
    lines: list[bytes]
    sent: list[tuple[str, int]]
    kinds: Counter[str]


def pending(objects: ObjectStore, system: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of quarantine that no replay sent yet; written to a file they can be mended."""
    sent = _sent(objects, system)
    for entry in _entries(objects, system):
        if (entry["file"], entry["line"]) not in sent:
            yield entry


def replay(objects: ObjectStore, system: str, mended: Iterable[bytes] | None = None) -> Replayed:
    """Send quarantined rows again.

    Args:
        objects: The data bucket.
        system: Which system's quarantine.
        mended: Lines of entries as `pending` gives them, with `row` put right (text or an object). None: all rows
            that wait, unchanged, which helps after a contract was widened.

    Raises:
        BadInputError: A line of `mended` is no entry; nothing was sent.
    """
    sent = _sent(objects, system)
    given = _entries(objects, system) if mended is None else iter(_parse(system, mended))
    by_hand = known = rows = 0
    keys: list[str] = []
    batches: defaultdict[str, _Batch] = defaultdict(lambda: _Batch([], [], Counter()))
    for entry in given:
        table, row = parse_raw_key(entry["file"]).table, row_of(entry)
        if (entry["file"], entry["line"]) in sent:
            known += 1
        elif row is None or (mended is None and entry["kind"] == "line too long"):
            by_hand += 1
        else:
            batch = batches[table]
            batch.lines.append(row.replace(b"\n", b" "))
            batch.sent.append((entry["file"], entry["line"]))
            batch.kinds[entry["kind"]] += 1
            rows += 1
            if len(batch.lines) >= _BATCH_ROWS:
                keys.append(_send(objects, system, table, batches.pop(table)))
    keys += [_send(objects, system, table, batch) for table, batch in sorted(batches.items())]
    return Replayed(objects=tuple(keys), rows=rows, by_hand=by_hand, known=known)


def _send(objects: ObjectStore, system: str, table: str, batch: _Batch) -> str:
    body = b"\n".join(batch.lines) + b"\n"
    name = hashlib.sha256(body + repr(batch.sent).encode()).hexdigest()[:24]
    key = f"raw/{system}/{table}/replay/{name}.jsonl"
    objects.write(key, body, content_type="application/x-ndjson")
    record = {"table": table, "raw_key": key, "kinds": batch.kinds, "sent": batch.sent}
    objects.write(f"{REPLAYED.format(system=system)}{name}.json", json.dumps(record).encode())
    return key


def _sent(objects: ObjectStore, system: str) -> set[tuple[str, int]]:
    records = (json.loads(objects.read(key).body) for key in objects.keys(REPLAYED.format(system=system)))
    return {(file, line) for record in records for file, line in record["sent"]}


def _entries(objects: ObjectStore, system: str) -> Iterator[dict[str, Any]]:
    for key in objects.keys(f"quarantine/{system}/"):
        if key.endswith(".jsonl"):
            yield from map(json.loads, objects.read(key).body.splitlines())


def _parse(system: str, lines: Iterable[bytes]) -> list[dict[str, Any]]:
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            named: RawKey = parse_raw_key(entry["file"])
            fine = named.system == system and isinstance(entry["line"], int) and entry["row"] is not None
        except (ValueError, KeyError, TypeError, AttributeError, BadInputError):
            fine = False
        if not fine:
            raise BadInputError(
                f"line {number} is no entry of {system}'s quarantine with file, line and row; nothing was sent. "
                "Begin with what `twinloop replay --list` writes and mend only `row`"
            )
        entry.pop("row_base64", None)  # the mended text counts
        entries.append({"kind": "mended", **entry})
    return entries
