"""Keys of the data bucket as ingest reads and makes them. Every output name derives from the raw object alone."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from twinloop.contracts.spec import SYSTEM_NAME
from twinloop.errors import BadInputError

FORMATS = ("jsonl", "csv", "parquet")
FORMATS_IN_WORDS = ".jsonl, .jsonl.gz, .csv, .csv.gz or .parquet"
RECEIPTS = "lake/{system}/_receipts/"
REPLAYED = "quarantine/{system}/_replayed/"
UNKNOWN = "_unknown"  # in a system's and a table's place: what belongs to neither
_SYSTEM, _TABLE = re.compile(SYSTEM_NAME), re.compile(r"[a-z][a-z0-9_-]{0,40}")


@dataclass(frozen=True)
class RawKey:
    """`raw/<system>/<table>/<name>`."""

    key: str
    system: str
    table: str
    name: str


def parse_raw_key(key: str) -> RawKey:
    """Return the parts of a raw object's key; raises BadInputError where it is not laid out as expected."""
    parts = key.split("/", 3)
    named = len(parts) == 4 and parts[0] == "raw" and _SYSTEM.fullmatch(parts[1]) and _TABLE.fullmatch(parts[2])
    if not named or not parts[3]:
        raise BadInputError(f"{key!r} is not raw/<system>/<table>/<file>; drop the file under its system and table")
    return RawKey(key, parts[1], parts[2], parts[3])


def format_of(name: str) -> str:
    """Return `jsonl`, `csv` or `parquet` by a file's name; raises BadInputError. Compression is seen by content."""
    stem = name.lower().removesuffix(".gz")
    suffix = stem.rpartition(".")[2]
    aliases = {"ndjson": "jsonl", "json": "jsonl"}
    found = aliases.get(suffix, suffix)
    if found not in FORMATS:
        raise BadInputError(f"{name!r} is none of the formats that are read: {FORMATS_IN_WORDS}")
    return found


def output_name(raw_key: str, etag: str) -> str:
    """Return the name that everything made from one version of one raw object carries."""
    return hashlib.sha256(f"{raw_key}\n{etag.strip(chr(34))}".encode()).hexdigest()[:24]


def entity_name(name: str, modified: datetime) -> str:
    """Return a name whose order is the order of upload: readers take an entity's last row by key."""
    return f"{modified:%Y%m%dT%H%M%S}-{name}"


def lake_prefix(system: str, table: str) -> str:
    """Return where a table's Parquet files are."""
    return f"lake/{system}/{table}/"


def receipt_key(system: str, name: str) -> str:
    """Return where the receipt of a processed object is."""
    return f"{RECEIPTS.format(system=system)}{name}.json"


def quarantine_key(system: str, table: str, name: str, part: int) -> str:
    """Return where rejected rows of an object go."""
    return f"quarantine/{system}/{table}/{name}-{part:04d}.jsonl"
