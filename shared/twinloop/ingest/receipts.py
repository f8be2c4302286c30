"""Receipts: what became of a raw object, one small JSON each, written last."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from twinloop.contracts.model import Contract
from twinloop.errors import NotFoundError
from twinloop.ingest.names import output_name, receipt_key
from twinloop.ports import ObjectStore


class Receipt(Contract):
    """What one version of a raw object became.

    Attributes:
        rows: Rows in the lake by date, as delivered; readers see a repeated id once.
        duplicates: Rows left out because their id came before in the same file and date.
        quarantined: Rejected rows by kind of fault; a file refused whole counts as one.
        refused: Why the file as a whole was refused, or why its rest could not be read.
    """

    system: str
    table: str
    raw_key: str
    etag: str
    modified: datetime
    rows: dict[str, int] = Field(default_factory=dict)
    duplicates: int = 0
    files: tuple[str, ...] = ()
    quarantined: dict[str, int] = Field(default_factory=dict)
    quarantine: tuple[str, ...] = ()
    refused: str | None = None


def receipt(objects: ObjectStore, system: str, raw_key: str, etag: str) -> Receipt | None:
    """Return the receipt of a version of a raw object; None while it is not processed."""
    try:
        stored = objects.read(receipt_key(system, output_name(raw_key, etag)))
    except NotFoundError:
        return None
    return Receipt.model_validate_json(stored.body)


def write_receipt(objects: ObjectStore, made: Receipt) -> None:
    """Write a receipt: from here on the object counts as processed."""
    key = receipt_key(made.system, output_name(made.raw_key, made.etag))
    objects.write(key, made.model_dump_json().encode(), content_type="application/json")
