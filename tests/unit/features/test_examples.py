"""Snapshots of labelled examples: each row once, parts that divide no group, cases, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import notes
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.artefacts import Case
from twinloop.contracts.examples import Examples
from twinloop.contracts.outcomes import Outcomes
from twinloop.contracts.spec import Split
from twinloop.errors import BadInputError, IntegrityError
from twinloop.evaluation.candidates import open_bench
from twinloop.features.rungs import snapshot_answer
from twinloop.features.snapshot import make_snapshot
from twinloop.features.splits import PARTS
from twinloop.ports import MemoryObjectStore
from twinloop.serving.loading import load_models

LATER = notes.NOW + timedelta(hours=1)
HASH = {author: hashlib.sha256(author.encode()).hexdigest() for author in (f"a{n}" for n in range(500))}


def system(sql: str | None = None, *, split: Split | None = None, **changes: Any) -> Any:
    changes = {"sql": sql} | changes if sql is not None else changes
    spec = notes.SYSTEM.spec.model_copy(update={"split": split or notes.SYSTEM.spec.split})
    return replace(notes.SYSTEM, spec=spec, examples=replace(notes.EXAMPLES, **changes))


def snapshot(tables: Any = None, of: Any = notes.SYSTEM, **more: Any) -> Any:
    objects = MemoryObjectStore()
    notes.deliver(objects, tables or notes.world())
    return objects, make_snapshot(of, objects, now=notes.NOW, **more)


def table(objects: MemoryObjectStore, manifest: Any, path: str) -> Any:
    return pq.read_table(io.BytesIO(objects.read(f"snapshots/notes/{manifest.snapshot_id}/{path}").body))


def rows_of(objects: MemoryObjectStore, manifest: Any, part: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table(objects, manifest, f"{part}/examples.parquet").to_pylist()
    return found


def cases_of(objects: MemoryObjectStore, manifest: Any) -> list[Case]:
    body = objects.read(f"snapshots/notes/{manifest.snapshot_id}/cases/test.jsonl.gz").body
    return [Case.model_validate_json(line) for line in gzip.decompress(body).splitlines()]


@pytest.fixture(scope="module")
def made() -> Any:
    return snapshot()


def test_it_holds_examples_and_no_lists_and_needs_no_events(made: Any) -> None:
    objects, manifest = made
    assert [entry.path for entry in manifest.files] == [
        "cases/test.jsonl.gz",
        "items/items.parquet",
        "test/examples.parquet",
        "train/examples.parquet",
        "users/users.parquet",
        "validation/examples.parquet",
    ]
    assert manifest.example_columns == (
        *("example_id:string", "group_id:string", "time_ms:int64"),
        *("text:string", "aside:double", "reviewers:list<string>"),
    )
    assert sum(manifest.rows[f"{part}/examples"] for part in PARTS) == manifest.rows["items"]
    assert (manifest.rows["users"], manifest.most_cases) == (0, 40)
    first = int(manifest.first_event.timestamp() * 1000)
    assert first == min(row["time_ms"] for part in PARTS for row in rows_of(objects, manifest, part))
    assert {entry.path.split("/")[2] for entry in manifest.lake_files} == {"items", "labels"}
    items = table(objects, manifest, "items/items.parquet")
    assert set(items.column_names) == {"item_id", "text", "author_id", "created_ms", "tags", "extra"}


def test_the_systems_slices_of_each_example_are_beside_it() -> None:
    def slices(row: Any) -> list[str]:
        return ["words=urgent", "by=a0", "by=a0"] if "urgent" in row["text"] else []

    objects, manifest = snapshot(of=system(slices=slices))
    assert manifest.example_columns[-1] == "slices:list<string>"
    rows = [row for part in PARTS for row in rows_of(objects, manifest, part)]
    assert {tuple(row["slices"]) for row in rows if "urgent" in row["text"]} == {("by=a0", "words=urgent")}
    assert {tuple(row["slices"]) for row in rows if "urgent" not in row["text"]} == {()}
    clash = notes.EXAMPLES.sql.replace("said.reviewers", "said.reviewers AS slices")
    with pytest.raises(IntegrityError, match="slices"):
        snapshot(of=system(clash, slices=slices))


def test_the_same_lake_is_the_same_snapshot(made: Any) -> None:
    objects, manifest = made
    assert make_snapshot(notes.SYSTEM, objects, now=notes.NOW).snapshot_id == manifest.snapshot_id
    reversed_rows = {name: rows[::-1] for name, rows in notes.world().items()}
    _, other = snapshot(reversed_rows)
    theirs = {entry.path: entry.sha256 for entry in other.files}
    assert theirs == {entry.path: entry.sha256 for entry in manifest.files}


def test_a_group_is_where_its_hash_says(made: Any) -> None:
    for part in PARTS:
        rows = rows_of(*made, part)
        assert [(row["group_id"], row["example_id"]) for row in rows] == sorted(
            (row["group_id"], row["example_id"]) for row in rows
        )
        for row in rows:
            place = int(HASH[row["group_id"]], 16) / 16**64
            assert part == ("test" if place < 0.2 else "validation" if place < 0.3 else "train")


def test_a_group_stays_in_its_part_when_data_come() -> None:
    before, after = snapshot(notes.world(100)), snapshot(notes.world(300))
    for part in PARTS:
        theirs = {row["group_id"] for row in rows_of(*before, part)}
        assert theirs <= {row["group_id"] for row in rows_of(*after, part)}


def test_by_time_the_last_groups_are_test_and_none_is_divided() -> None:
    late = notes.world()
    late["items"][0]["created_at"] = "2025-06-20T00:00:00Z"  # of a0, which begins before
    late["items"].append({**late["items"][0], "item_id": "late", "author_id": "a0"})
    made = snapshot(late, system(split=Split(strategy="global", validation=0.1, test=0.2)))
    groups = [{row["group_id"] for row in rows_of(*made, part)} for part in PARTS]
    assert [len(part) for part in groups] == [140, 20, 40]
    assert len(set.union(*groups)) == 200
    begins: dict[str, str] = {}
    for item in late["items"]:
        begins[item["author_id"]] = min(item["created_at"], begins.get(item["author_id"], "9"))
    assert max(begins[author] for author in groups[0]) < min(begins[author] for author in groups[2])


@settings(max_examples=15)
@given(
    st.integers(30, 80),
    st.sampled_from(["by_group", "global"]),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.sampled_from([0.1, 0.4]),
)
def test_every_example_is_in_one_part(authors: int, strategy: Any, validation: float, test: float) -> None:
    split = Split(strategy=strategy, validation=validation, test=test)
    world = notes.world(authors)
    made = snapshot(world, system(split=split), minimum_cases=0)
    ids = [row["example_id"] for part in PARTS for row in rows_of(*made, part)]
    assert sorted(ids) == sorted(item["item_id"] for item in world["items"])
    if validation == 0:
        assert made[1].rows["validation/examples"] == 0


def test_rows_count_once_as_their_contract_knows_them() -> None:
    world = notes.world()
    objects = MemoryObjectStore()
    notes.deliver(objects, world)
    before = make_snapshot(notes.SYSTEM, objects, now=notes.NOW)
    # The same labels in another file, one more word of ann's, and a note that was mended.
    again = {**world["labels"][0], "time": "2025-06-25T00:00:00Z", "aside": True}
    mended = {**world["items"][5], "text": "lunch lunch lunch lunch"}
    notes.deliver(objects, {"labels": [*world["labels"], again], "items": [mended]}, name="later", at=LATER)
    after = make_snapshot(notes.SYSTEM, objects, now=notes.NOW)
    was = {row["example_id"]: row for part in PARTS for row in rows_of(objects, before, part)}
    now = {row["example_id"]: row for part in PARTS for row in rows_of(objects, after, part)}
    changed = {name for name in now if now[name] != was[name]}
    assert changed == {"n0", "n5"} - ({"n5"} if was["n5"]["text"] == mended["text"] else set())
    assert now["n0"]["reviewers"] == ["ann", "ann", "ben"]


GRADES = """
    SELECT topic || item_id AS example_id, topic AS group_id, 1748736000000 AS time_ms, grade, topic FROM grades
"""


def test_of_rows_without_a_time_the_latest_counts() -> None:
    topics = [f"t{n}" for n in range(60)]
    rows = [{"topic": topic, "item_id": item, "grade": 1} for topic in topics for item in ("x", "y")]
    graded = system(
        GRADES,
        tables=("grades",),
        case=lambda rows: Case(case_id=rows[0]["group_id"], request={}, truth={"g": [row["grade"] for row in rows]}),
    )
    objects = MemoryObjectStore()
    notes.deliver(objects, {"grades": rows}, name="a")
    notes.deliver(objects, {"grades": [{**rows[0], "grade": 3}]}, name="b", at=LATER)
    manifest = make_snapshot(graded, objects, now=notes.NOW, minimum_cases=1)
    found = [row for part in PARTS for row in rows_of(objects, manifest, part)]
    assert len(found) == 120
    grades = {row["example_id"]: row["grade"] for row in found}
    assert {name for name, grade in grades.items() if grade == 3.0} == {"t0x"}


def test_every_column_of_a_contract_is_there_filled_or_not() -> None:
    sql = """
        SELECT items.item_id AS example_id, author_id AS group_id, created_ms AS time_ms, text, tags,
            (SELECT count(*) FROM events WHERE type = 'view' AND time_ms > 0 AND events.item_id = items.item_id)::BIGINT
                AS views,
            (SELECT max(updated_ms) FROM users WHERE user_id = author_id) AS known_ms
        FROM items
    """
    objects, manifest = snapshot(of=system(sql, tables=(), case=lambda rows: Case(
        case_id=rows[0]["group_id"], request={"texts": [rows[0]["text"]]}, truth={"aside": [0.0]}
    )))  # fmt: skip
    rows = rows_of(objects, manifest, "train")
    assert {(row["views"], row["known_ms"], tuple(row["tags"])) for row in rows} == {(0, None, ())}
    assert manifest.example_columns[-3:] == ("tags:list<string>", "views:int64", "known_ms:int64")


def test_cases_are_those_of_the_smallest_hashes(made: Any) -> None:
    objects, manifest = made
    counts: dict[str, int] = {}
    for row in rows_of(objects, manifest, "test"):
        counts[row["group_id"]] = counts.get(row["group_id"], 0) + 1
    several = sorted((author for author, count in counts.items() if count > 1), key=HASH.__getitem__)
    cases = cases_of(objects, manifest)
    assert [case.case_id for case in cases] == several[:40]
    assert [len(case.request["texts"]) for case in cases] == [counts[case.case_id] for case in cases]
    few = snapshot(of=system(most_cases=12))
    assert [case.case_id for case in cases_of(*few)] == several[:12]
    bench = open_bench(few[0], system(most_cases=12), load_models, f"snapshots/notes/{few[1].snapshot_id}/")
    assert [case.case_id for case in bench.cases] == several[:12]
    assert not bench.shown


def test_the_gate_refuses_cases_that_are_not_those_of_the_manifest(made: Any) -> None:
    objects, manifest = made
    key, copy = f"snapshots/notes/{manifest.snapshot_id}/", MemoryObjectStore()
    copy.write(f"{key}manifest.json", objects.read(f"{key}manifest.json").body)
    copy.write(f"{key}cases/test.jsonl.gz", gzip.compress(b"{}"))
    with pytest.raises(IntegrityError, match="is not the file of the manifest"):
        open_bench(copy, notes.SYSTEM, load_models, key)


def test_the_loop_goes_on_with_all_rungs(made: Any) -> None:
    answer = snapshot_answer(notes.SYSTEM, made[1], notes.SYSTEM.spec.rungs)
    assert [rung["name"] for rung in answer["rungs"]] == ["constant", "words"]
    json.dumps(answer)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT item_id AS example_id FROM items", "must return group_id as VARCHAR, not None"),
        (
            "SELECT item_id AS example_id, author_id AS group_id, 1.5 AS time_ms FROM items",
            "must return time_ms as BIGINT, not DECIMAL",
        ),
        ("SELECT 'a' AS example_id, author_id AS group_id, created_ms AS time_ms FROM items", "with only 1 example_id"),
        (
            "SELECT item_id AS example_id, NULL::VARCHAR AS group_id, created_ms AS time_ms FROM items",
            "rows without one of example_id, group_id, time_ms",
        ),
        (
            "SELECT item_id AS example_id, author_id AS group_id, created_ms AS time_ms, now() AS at FROM items",
            "cast what is timestamp",
        ),
        ("SELECT nothing FROM items", "does not run"),
        ("SELECT * FROM grades", "does not run"),
    ],
)
def test_a_query_that_returns_something_else_is_refused(sql: str, told: str) -> None:
    with pytest.raises(IntegrityError, match=told):
        snapshot(notes.world(30), system(sql))


@pytest.mark.parametrize("case", [lambda rows: {"case_id": "x"}, lambda rows: Case(case_id="x", request={}, truth={})])
def test_what_is_no_case_of_its_own_is_refused(case: Any) -> None:
    with pytest.raises(IntegrityError, match="is no case, or has another one's case_id"):
        snapshot(of=system(case=case))


@pytest.mark.parametrize(
    ("tables", "of", "told"),
    [
        ({}, notes.SYSTEM, "nothing that notes can learn from: its examples are made of items, users, events, labels"),
        (notes.world(20), notes.SYSTEM, "groups of examples can be judged, at least 10 are needed"),
        (
            notes.world(60),
            system("SELECT CAST(text AS BIGINT)::VARCHAR AS example_id, '' AS group_id, 0 AS time_ms FROM items"),
            "values that its examples cannot be made of",
        ),
    ],
)
def test_a_lake_that_does_not_suffice_is_refused_with_what_to_do(tables: Any, of: Any, told: str) -> None:
    objects = MemoryObjectStore()
    notes.deliver(objects, tables)
    with pytest.raises(BadInputError, match=told):
        make_snapshot(of, objects, now=notes.NOW)


def test_where_all_groups_are_judged_nothing_is_left_to_train_on() -> None:
    tested = [author for author, digest in HASH.items() if int(digest, 16) / 16**64 < 0.2]
    world = notes.world(500)
    world["items"] = [item for item in world["items"] if item["author_id"] in tested]
    with pytest.raises(BadInputError, match="no example is left to train on"):
        snapshot(world)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"examples": None}, "split by group, and only examples have groups"),
        ({"spec": notes.SYSTEM.spec.model_copy(update={"split": Split()})}, "is by_group or global"),
        ({"outcomes": Outcomes("true", {}, 1)}, "not from both"),
        ({"examples": replace(notes.EXAMPLES, tables=("judgments",))}, "no row contract of the table 'judgments'"),
    ],
)
def test_a_system_that_contradicts_itself_is_no_system(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(notes.SYSTEM, **changes)


@pytest.mark.parametrize("changes", [{"tables": ("items",)}, {"tables": ("a", "a")}, {"most_cases": 0}])
def test_examples_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"once|at least one"):
        Examples(**({"sql": "", "case": notes.case} | changes))
