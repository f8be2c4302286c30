"""Raw tables beside users, items and events: how their rows are known again, in files, in the lake, and compacted."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import ClassVar

import notes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinloop.contracts.columns import dated, kinds
from twinloop.contracts.events import VIDEO_TABLES, EventTime, Id
from twinloop.contracts.model import Contract, identity
from twinloop.ingest.columns import table_of
from twinloop.ingest.compact import compact
from twinloop.ingest.partition import first_of_each
from twinloop.ports import MemoryObjectStore

LABELS = notes.world(20)["labels"]


class Said(Contract):
    by: str
    item_id: Id
    time: EventTime | None = None


class Wrong(Contract):
    identity_columns: ClassVar[tuple[str, ...] | None] = ("query",)

    item_id: Id


def rows(objects: MemoryObjectStore, table: str) -> list[dict[str, object]]:

    found = []
    for key in objects.keys(f"lake/notes/{table}/"):
        if key.endswith(".parquet"):
            found += pq.read_table(io.BytesIO(objects.read(key).body)).to_pylist()
    return found


def test_a_contract_says_how_its_rows_are_known_again() -> None:
    assert [identity(row) for row in VIDEO_TABLES.values()] == [("user_id",), ("item_id",), ("event_id",)]
    assert identity(notes.LabelRow) == ("item_id", "reviewer", "time")
    assert identity(Said) == ()
    with pytest.raises(ValueError, match="Wrong has no column 'query'"):
        identity(Wrong)
    assert (dated(notes.LabelRow), dated(notes.GradeRow), dated(Said)) == (True, False, False)
    assert kinds(notes.NoteRow) == {
        "item_id": "text", "text": "text", "author_id": "text", "created_at": "time", "tags": "list", "extra": "json"
    }  # fmt: skip
    assert {c.name: c.kind for c in table_of("items", notes.NoteRow).columns} == kinds(notes.NoteRow)


def test_many_rows_speak_of_one_item_and_none_is_lost() -> None:
    objects = MemoryObjectStore()
    [receipt] = notes.deliver(objects, {"labels": [*LABELS, *LABELS[:3], {"item_id": "n0", "aside": "?"}]})
    assert (receipt.duplicates, sum(receipt.quarantined.values())) == (3, 1)
    found = rows(objects, "labels")
    assert len(found) == len(LABELS)
    assert {(row["item_id"], row["reviewer"]) for row in found} == {(r["item_id"], r["reviewer"]) for r in LABELS}


def test_compaction_knows_rows_by_all_that_tells_them_apart() -> None:
    objects = MemoryObjectStore()
    for number in range(5):
        notes.deliver(objects, {"labels": LABELS[: 40 + number]}, name=f"part{number}")
    for number in range(5):
        graded = [{"topic": topic, "item_id": "x", "grade": number} for topic in "ab"]
        notes.deliver(objects, {"grades": graded}, name=f"g{number}", at=notes.NOW + timedelta(minutes=number))
    assert compact(notes.SYSTEM, objects, now=notes.NOW)["merged"] == 10
    compact(notes.SYSTEM, objects, now=notes.NOW + timedelta(days=1))
    key = [(row["item_id"], row["reviewer"], row["time"]) for row in rows(objects, "labels")]
    assert len(key) == len(set(key)) == 44
    assert sorted((row["topic"], row["grade"]) for row in rows(objects, "grades")) == [("a", 4.0), ("b", 4.0)]


@pytest.mark.parametrize(("last", "expected"), [(False, [1, 2, 3]), (True, [2, 3, 4])])
def test_repetitions_are_those_of_all_columns_also_empty_ones(last: bool, expected: list[int]) -> None:
    table = pa.table({"a": ["x", "x", "y", "x"], "b": [None, "1", None, None], "n": [1, 2, 3, 4]})
    assert first_of_each(table, ("a", "b"), last=last)["n"].to_pylist() == expected
    assert first_of_each(table, (), last=last) is table
