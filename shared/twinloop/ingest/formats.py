"""A raw object's content to batches of typed rows, by its format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from twinloop.errors import BadInputError
from twinloop.ingest.batches import Batch
from twinloop.ingest.columns import Table
from twinloop.ingest.comma import CommaSeparated
from twinloop.ingest.jsonl import JsonLines
from twinloop.ingest.limits import Limits
from twinloop.ingest.lines import blocks
from twinloop.ingest.names import format_of
from twinloop.ingest.source import Content
from twinloop.ingest.tabular import read_parquet

_MAGIC = {b"PAR1": "Parquet", b"PK\x03\x04": "a zip archive", b"Obj\x01": "Avro"}


def read_rows(name: str, content: Content, table: Table, folder: Path, limits: Limits) -> Iterator[Batch]:
    """Yield the rows of a file; raises BadInputError where the file as a whole cannot be read."""
    kind = format_of(name)
    if kind == "parquet":
        yield from read_parquet(content, table, folder, limits)
    elif kind == "csv":
        yield from CommaSeparated(table, limits).read(blocks(_text(content, kind), limits, quoted=True))
    else:
        yield from JsonLines(table, limits).read(blocks(_text(content, kind), limits))


def _text(content: Content, kind: str) -> Iterable[bytes]:
    """Return the content's chunks; raises BadInputError where the first one is no text."""
    chunks = content.chunks()
    first = next(chunks, b"")
    for magic, what in _MAGIC.items():
        if first.startswith(magic):
            raise BadInputError(f"the file is named .{kind} and holds {what}")
    if b"\0" in first[:1000]:
        raise BadInputError(f"the file is named .{kind} and is not UTF-8 text (it holds zero bytes, as UTF-16 does)")
    return chain([first], chunks) if first else ()
