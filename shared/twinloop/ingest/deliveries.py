"""S3's notifications, as a queue delivers them: which objects to bring in, and which messages to deliver again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote_plus

from twinloop.contracts.system import System
from twinloop.errors import BadInputError, NotFoundError, UnavailableError
from twinloop.ingest.columns import Table, table_of
from twinloop.ingest.limits import Limits
from twinloop.ingest.names import parse_raw_key
from twinloop.ingest.process import ingest, refuse
from twinloop.ingest.receipts import Receipt
from twinloop.ingest.source import RawObject
from twinloop.ports import Log, ObjectStore


class Catalog(Protocol):
    """The tables of the lake as query engines see them."""

    def register(self, system: str, table: Table, dates: set[str]) -> None:
        """Make a table and its dates known; no harm where they are. Raises UnavailableError."""
        ...


def object_keys(body: str) -> list[str]:
    """Return the keys of the objects that a message tells of; none for S3's test message and for deletions.

    Raises BadInputError for what is no notification of S3.
    """
    try:
        message = json.loads(body)
        if message.get("Event") == "s3:TestEvent":
            return []
        created = [record for record in message["Records"] if record["eventName"].startswith("ObjectCreated")]
        return [unquote_plus(record["s3"]["object"]["key"]) for record in created]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"the message is no S3 notification: {body[:200]!r}") from error


@dataclass(frozen=True)
class Deliveries:
    """What it takes to bring objects in.

    Attributes:
        open_raw: A raw object as it is now, by key; raises NotFoundError, UnavailableError.
        load_system: A system by name; raises NotFoundError.
        objects: The data bucket.
        catalog: Where the lake's tables are registered.
        log: Where one line an object is told.
        limits: Bounds of one object.
    """

    open_raw: Callable[[str], RawObject]
    load_system: Callable[[str], System]
    objects: ObjectStore
    catalog: Catalog
    log: Log
    limits: Limits = field(default_factory=Limits)

    def take(self, messages: Mapping[str, str]) -> list[str]:
        """Bring in what messages (body by id) tell of; returns the ids of those to deliver again.

        A message is delivered again where the store, the catalog or the stream failed. What is wrong with an object
        ends in quarantine, and its message is done. A message that is no notification comes back until the queue sets
        it aside.
        """
        failed = []
        for message_id, body in messages.items():
            try:
                for key in object_keys(body):
                    self._take(key)
            except (UnavailableError, BadInputError) as error:
                self.log.error("delivery failed", extra={"message_id": message_id, "reason": str(error)})
                failed.append(message_id)
        return failed

    def _take(self, key: str) -> None:
        if key.endswith("/"):
            return  # consoles make such objects for folders
        try:
            named = parse_raw_key(key)
            system = self.load_system(named.system)
        except (BadInputError, NotFoundError) as error:
            refuse(key, str(error), self.objects)
            self.log.error("refused", extra={"key": key, "reason": str(error)})
            return
        try:
            made = ingest(self.open_raw(key), system, self.objects, self.limits)
        except NotFoundError:
            self.log.info("gone", extra={"key": key})  # deleted before its turn
            return
        if made.rows:
            table = table_of(made.table, system.tables[made.table])
            self.catalog.register(named.system, table, set(made.rows))
        self.log.info("ingested", extra=summary(made))


def summary(made: Receipt) -> dict[str, object]:
    """Return the facts of a receipt that a log line needs."""
    return {
        "key": made.raw_key,
        "rows": sum(made.rows.values()),
        "dates": len(made.rows),
        "duplicates": made.duplicates,
        "quarantined": dict(made.quarantined),
        "refused": made.refused,
    }
