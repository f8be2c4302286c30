"""Of an item's or a user's rows the newest by its own word counts, in whatever order they came and where they lie."""

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pyarrow as pa
import pytest

from twinloop import systems
from twinloop.contracts.columns import UPDATED
from twinloop.features import lake
from twinloop.features.materialise import materialise
from twinloop.features.stores import MemoryFeatureStore
from twinloop.ingest.columns import table_of
from twinloop.ingest.compact import compact
from twinloop.ingest.limits import DEFAULTS, Limits
from twinloop.ingest.partition import first_of_each, parquet_bytes

SYSTEMS = ("video", "ads", "search", "suggestions", "moderation")
# A text of each system's items that says which row it is.
TEXTS = dict.fromkeys(SYSTEMS, "title") | {"ads": "campaign_id", "moderation": "text"}
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def item(system, says, updated=None, **more):
    told = {"item_id": "i", TEXTS[system]: says, "starts_at": "2030-01-01T00:00Z"}
    return told | ({UPDATED: updated.isoformat()} if updated else {}) | more


def known(world, tmp_path):
    """What both ways of reading the lake take for the item, and what `latest_rows` does."""
    name, model = world.name, world.system.tables["items"]
    folder, found = tmp_path / f"lake-{len(list(tmp_path.iterdir()))}", []
    lake.fetch(world.objects, name, "items", folder / "items")
    column = TEXTS[name]
    with lake.open_database(folder / "work", memory_mb=500, threads=1) as connection:
        connection.execute("CREATE TABLE events (user_id VARCHAR, item_id VARCHAR)")
        lake.load_entities(connection, "items", "item_id", folder / "items")
        found += connection.execute(f"SELECT {column} FROM items").fetchall()  # noqa: S608
        connection.execute("DROP TABLE items")
        lake.load_table(connection, "items", model, folder / "items")
        found += connection.execute(f"SELECT {column} FROM items").fetchall()  # noqa: S608
    [row] = lake.latest_rows(world.objects, world.system, "items", ("item_id", column), memory_mb=500)
    told = {says for (says,) in found} | {row[column]}
    assert len(found) == 2
    assert len(told) == 1, f"not every reader takes the same row: {told}"
    return told.pop()


@pytest.fixture(params=SYSTEMS)
def world(request, new_world):
    return new_world(system=systems.load(request.param), name=request.param)


def deliver(world, name, *rows, at=NOON):
    made = world.deliver(f"items/{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows), modified=at)
    assert not made.quarantined, made
    return made


def test_an_older_row_that_comes_later_replaces_nothing(world, tmp_path):
    deliver(world, "new", item(world.name, "new", NOON))
    deliver(world, "late", item(world.name, "old", NOON - HOUR), at=NOON + timedelta(days=2))
    assert known(world, tmp_path) == "new"
    deliver(world, "newest", item(world.name, "newest", NOON + timedelta(milliseconds=1)), at=NOON - HOUR)
    assert known(world, tmp_path) == "newest"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_three_files_of_one_second_in_any_order(world, tmp_path, order):
    for place in order:
        says = item(world.name, f"row {place}", NOON + timedelta(milliseconds=place))
        deliver(world, f"{place}-{order.index(place)}", says)
    assert known(world, tmp_path) == "row 2"


def test_rows_that_say_nothing_of_it_go_by_their_upload_and_after_those_that_do(world, tmp_path):
    deliver(world, "a", item(world.name, "first"))
    deliver(world, "b", item(world.name, "second"), at=NOON + HOUR)
    assert known(world, tmp_path) == "second"
    deliver(world, "c", item(world.name, "says so", NOON - 24 * HOUR), at=NOON - HOUR)
    assert known(world, tmp_path) == "says so"
    deliver(world, "d", item(world.name, "the same moment", NOON - 24 * HOUR), at=NOON + 2 * HOUR)
    assert known(world, tmp_path) == "the same moment"


def test_the_newest_row_within_a_file_is_kept(world, tmp_path):
    rows = [item(world.name, f"row {n}", NOON + n * HOUR) for n in (1, 3, 2)]
    assert deliver(world, "all", item(world.name, "row 0"), *rows).duplicates == 3
    assert [row[TEXTS[world.name]] for row in world.rows("items")] == ["row 3"]
    assert known(world, tmp_path) == "row 3"


def test_what_the_buffer_cuts_apart_is_still_the_newest(world, tmp_path):
    limits = Limits(**{**DEFAULTS.__dict__, "part_rows": 2, "buffer_bytes": 10})
    rows = [item(world.name, f"row {n}", NOON + n * HOUR) for n in (1, 5, 2, 3)]
    body = "".join(json.dumps(row) + "\n" for row in rows)
    world.deliver("items/all.jsonl", body, limits=limits)
    assert known(world, tmp_path) == "row 5"


def test_compaction_keeps_the_newest_row(world, tmp_path):
    updated = [NOON + HOUR * n for n in (4, 1, 3, 2)]
    for number, moment in enumerate(updated):
        deliver(world, str(number), item(world.name, f"row {number}", moment), at=NOON + timedelta(minutes=number))
    deliver(world, "none", item(world.name, "says nothing"), at=NOON + timedelta(minutes=30))
    assert known(world, tmp_path) == "row 0"
    now = NOON + timedelta(days=1)
    assert compact(world.system, world.objects, now=now)["merged"] == 5
    assert known(world, tmp_path) == "row 0"
    compact(world.system, world.objects, now=now + timedelta(days=1))
    assert [row[TEXTS[world.name]] for row in world.rows("items")] == ["row 0"]
    assert known(world, tmp_path) == "row 0"


def test_files_from_before_rows_could_say_so_are_read_beside_those_that_do(world, tmp_path):
    schema = pa.schema([field for field in _schema(world) if field.name != UPDATED])
    row = {"item_id": "i", TEXTS[world.name]: "of before"}
    _put(world, "dt=2025-06-02/20250602T000000Z-a-0000.parquet", pa.Table.from_pylist([row], schema))
    assert known(world, tmp_path) == "of before"
    deliver(world, "new", item(world.name, "new", NOON))
    assert known(world, tmp_path) == "new"


def test_users_do_the_same_when_they_are_compacted(new_world):
    world = new_world()
    for number, hour in enumerate((4, 1, 3, 2)):
        row = {"user_id": "u", UPDATED: (NOON + HOUR * hour).isoformat(), "country": str(number)}
        world.deliver(f"users/{number}.jsonl", json.dumps(row), modified=NOON + timedelta(minutes=number))
    compact(world.system, world.objects, now=NOON + timedelta(days=1))
    compact(world.system, world.objects, now=NOON + timedelta(days=2))
    assert [json.loads(row["extra"]) for row in world.rows("users")] == [{"country": "0"}]


@pytest.mark.parametrize(("last", "expected"), [(False, ["b", "d", "e"]), (True, ["c", "d", "f"])])
def test_of_equally_new_rows_the_first_or_the_last_is_kept(last, expected):
    told = {"id": ["x", "x", "x", "y", "z", "z", "y"], "at": [1, 3, 3, 5, None, None, None], "n": list("abcdefg")}
    assert first_of_each(pa.table(told), ("id",), last=last, newest_by="at")["n"].to_pylist() == expected
    without = first_of_each(pa.table(told), ("id",), last=last, newest_by="missing")["n"].to_pylist()
    assert without == (["c", "f", "g"] if last else ["a", "d", "e"])


def _schema(world):
    return table_of("items", world.system.tables["items"]).schema


def _put(world, name, rows):
    world.objects.write(f"lake/{world.name}/items/{name}", parquet_bytes(rows))


def test_the_online_store_has_what_the_newest_row_says(new_world):
    """An event was called off, was on again, and the word that it is off is delivered once more, late."""
    world, store = new_world(system=systems.load("suggestions"), name="suggestions"), MemoryFeatureStore()
    off = item("suggestions", "Concert", NOON, cancelled=True, topics=["jazz"])
    on = item("suggestions", "Concert", NOON + HOUR, cancelled=False, topics=["blues"])
    for number, row in enumerate((off, on, off)):
        deliver(world, str(number), row, at=NOON + number * 2 * HOUR)
        materialise(world.system, world.objects, store, features=store)
        told = store.recall("suggestions", "u", ["i"]).items["i"].attributes
        assert told == {"cancelled": 0 if number else 1, "topic": "blues" if number else "jazz"}
