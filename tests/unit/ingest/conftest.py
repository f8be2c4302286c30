"""A bucket in memory and a way to deliver objects into it."""

import hashlib
import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinloop import systems
from twinloop.ingest.limits import DEFAULTS
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@dataclass
class World:
    """Deliver raw objects, look at what they became."""

    objects: MemoryObjectStore = field(default_factory=MemoryObjectStore)
    system: object = field(default_factory=lambda: systems.load("video"))
    name: str = "video"

    def deliver(self, key, body, *, modified=NOON, limits=DEFAULTS, etag=None):
        body = body if isinstance(body, bytes) else body.encode()
        digest = hashlib.sha256(body).hexdigest()
        return self.deliver_stream(key, io.BytesIO(body), modified=modified, limits=limits, etag=etag or digest)

    def deliver_stream(self, key, stream, *, modified=NOON, limits=DEFAULTS, etag="1"):
        raw = RawObject(f"raw/{self.name}/{key}", etag, modified, 0, stream)
        return ingest(raw, self.system, self.objects, limits)

    def rows(self, table="events"):
        keys = [key for key in self.objects.keys(f"lake/{self.name}/{table}/") if key.endswith(".parquet")]
        parts = [pq.read_table(io.BytesIO(self.objects.read(key).body)) for key in keys]
        return pa.concat_tables(parts).to_pylist() if parts else []

    def ids(self, table="events", column="event_id"):
        return [row[column] for row in self.rows(table)]

    def quarantine(self):
        bodies = [self.objects.read(key).body for key in self.objects.keys("quarantine/") if key.endswith(".jsonl")]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    def state(self):
        """Everything but raw data, to compare."""
        return {key: self.objects.read(key).body for key in self.objects.keys("") if not key.startswith("raw/")}


@pytest.fixture
def world():
    return World()


@pytest.fixture
def event():
    """A function that makes an event's JSON line."""

    def line(number, **changes):
        row = {
            "event_id": f"e{number}",
            "type": "click",
            "time": "2025-03-01T10:00:00Z",
            "user_id": "u1",
            "item_id": "v1",
            **changes,
        }
        return json.dumps({name: value for name, value in row.items() if value is not ...})

    return line


@pytest.fixture
def new_world():
    """Make further worlds, to compare."""
    return World
