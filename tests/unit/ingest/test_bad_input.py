"""For each way in which data is bad: what the user is told, and that the good rows are in the lake."""

import gzip
import io
import itertools
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinloop.ingest.limits import Limits

MANY = 500  # good lines around a bad one, so that it is found within a block


@pytest.mark.parametrize(
    ("changes", "told", "kind"),
    [
        ({"user_id": ...}, "user_id: Field required", "user_id: missing"),
        ({"user_id": None}, "user_id: Input should be a valid string", "user_id: string type"),
        ({"user_id": ""}, "at least 1 character", "user_id: too short"),
        ({"user_id": "x" * 257}, "at most 256 characters", "user_id: too long"),
        ({"user_id": ["u1"]}, "user_id: Input should be a valid string (got ['u1'])", "user_id: string type"),
        ({"user_id": True}, "user_id: Input should be a valid string (got True)", "user_id: string type"),
        ({"type": "stare"}, "'impression', 'click'", "type: literal error"),
        ({"rating": "five"}, "rating: Input should be a valid number", "rating: float parsing"),
        ({"rating": {"stars": 5}}, "rating: Input should be a valid number", "rating: float type"),
        ({"rating": 1e300}, "less than or equal to 1000", "rating: less than equal"),
        ({"watch_s": -1}, "greater than or equal to 0", "watch_s: greater than equal"),
        ({"position": 1.5}, "position: Input should be a valid integer", "position: int from float"),
        ({"position": -1}, "greater than or equal to 0", "position: greater than equal"),
        ({"context": "tv"}, "context: Input should be a valid dictionary", "context: dict type"),
        ({"time": "1870-05-01T00:00:00Z"}, "1870-05-01 is not between 1990 and tomorrow", None),
        ({"time": "2970-05-01T00:00:00Z"}, "2970-05-01 is not between 1990 and tomorrow", None),
        ({"time": 1740852060}, "epoch times are in milliseconds", "time: not between 1990 and tomorrow"),
        ({"time": 10**18}, "no time in epoch milliseconds", "time: value error"),
        ({"time": "yesterday"}, "time: Input should be a valid datetime", "time: datetime from date parsing"),
    ],
)
@pytest.mark.parametrize("around", [0, MANY])
def test_a_bad_value_costs_its_line(world, event, changes, told, kind, around):  # noqa: PLR0917
    good = [event(f"good{n}") for n in range(around + 1)]
    lines = [*good[:-1], event("bad", **changes), good[-1]]
    receipt = world.deliver("events/a.jsonl", "\n".join(lines))
    (entry,) = world.quarantine()
    assert told in entry["reason"]
    assert (entry["file"], entry["line"]) == ("raw/video/events/a.jsonl", around + 1)
    assert json.loads(entry["row"])["event_id"] == "ebad"
    assert world.ids() == [json.loads(line)["event_id"] for line in good]
    assert receipt.quarantined == {kind or "time: not between 1990 and tomorrow": 1}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"event_id": "cut', "the line is not JSON"),
        (b"[1, 2]", "the line is not a JSON object"),
        (b"null", "the line is not a JSON object"),
        (b'{"event_id": "\\ud800", "unknown": 1}', "half of a surrogate pair"),
        (b'{"a":1}{"b":2}', "the line is not JSON: Extra data"),
        (b"\xff\xfe{}", "the line is not UTF-8 (byte 0)"),
        (b'{"event_id":"caf\xe9"}', "the line is not UTF-8 (byte 16)"),
        (b"[" * 100_000, "the line is not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "the line is not JSON"),
    ],
)
def test_a_line_that_is_no_object_costs_itself(world, event, line, told):
    good = [event(n).encode() for n in range(MANY)]
    receipt = world.deliver("events/a.jsonl", b"\n".join([*good[:9], line, *good[9:]]))
    (entry,) = world.quarantine()
    assert told in entry["reason"]
    assert entry["line"] == 10
    assert sum(receipt.rows.values()) == MANY


def test_nan_is_rejected(world, event):
    lines = [event(1), event(2, rating=float("nan")), event(3, rating=float("inf")), event(4)]
    world.deliver("events/a.jsonl", "\n".join(lines))
    assert [entry["reason"] for entry in world.quarantine()] == [
        "the line is not JSON: NaN is no JSON number",
        "the line is not JSON: Infinity is no JSON number",
    ]
    assert world.ids() == ["e1", "e4"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz", "a.csv.gz"])
def test_an_empty_file_is_told_to_be_empty(world, name):
    receipt = world.deliver(f"events/{name}", b"")
    assert "empty" in receipt.refused
    assert world.quarantine()[0]["reason"] == receipt.refused


def test_a_file_of_blank_lines_is_empty(world):
    assert "empty" in world.deliver("events/a.jsonl", b"\n \r\n\n").refused


def test_a_csv_of_a_header_alone_is_empty(world):
    assert "empty" in world.deliver("items/a.csv", b"item_id,title\n").refused


@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_broken_gzip_keeps_the_rows_before_the_break(world, event, damage):
    lines = [event(f"{n}-{n * 7919 % 10007}") for n in range(5000)]
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    broken = packed[: len(packed) // 2]
    broken = broken if damage == "cut" else broken + b"\xff" * 1000
    receipt = world.deliver("events/a.jsonl.gz", broken)
    assert receipt.refused.startswith("the gzip data ")
    entries = world.quarantine()
    assert entries[-1]["line"] is None
    assert "deliver the rest again" in entries[-1]["reason"]
    found = world.ids()
    assert 1000 < len(found) < 5000
    assert found == [json.loads(line)["event_id"] for line in lines[: len(found)]]


def test_gzip_is_told_by_its_bytes_and_may_have_several_members(world, event):
    body = gzip.compress(event(1).encode() + b"\n", mtime=0) + gzip.compress(event(2).encode(), mtime=0) + b"\0" * 100
    assert world.deliver("events/a.jsonl", body).refused is None
    world.deliver("events/b.jsonl.gz", event(3))
    assert sorted(world.ids()) == ["e1", "e2", "e3"]


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            Limits(ratio=100, ratio_from_bytes=1_500_000),
            "the file decompresses to more than 100 times its size, as a zip",
        ),
        (Limits(decompressed_bytes=1_500_000), "decompressed, the file is over 1500000 bytes; split it"),
    ],
)
def test_a_zip_bomb_costs_what_comes_after_the_rows_in_proportion(world, event, limits, told):
    body = gzip.compress(f"{event(1)}\n{event(2)}\n".encode() + b" " * 20_000_000 + event(3).encode(), mtime=0)
    receipt = world.deliver("events/a.jsonl.gz", body, limits=limits)
    assert receipt.refused.startswith(told)
    assert sorted(world.ids()) == ["e1", "e2"]
    assert [entry["kind"] for entry in world.quarantine()] == ["file breaks off"]


class Endless:
    """A stream of a given beginning, a long line of nothing, and an end, made as it is read."""

    def __init__(self, before, size, after):
        pieces = [iter([before]), itertools.repeat(b"x" * 1_000_000, size // 1_000_000), iter([b"\n" + after])]
        self._pieces = itertools.chain(*pieces)

    def read(self, size):
        del size
        return next(self._pieces, b"")


@pytest.mark.parametrize("table", ["events", "items"])
def test_a_line_of_two_gigabytes_is_skipped_in_little_memory(world, event, table):
    if table == "events":
        key, before, after = "events/a.jsonl", f"{event(1)}\n".encode(), event(2).encode()
    else:
        key, before, after = "items/a.csv", b"item_id,title\nv1,One\n", b"v2,Two\n"
    tracemalloc.start()
    receipt = world.deliver_stream(key, Endless(before, 2_000_000_000, after))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (entry,) = world.quarantine()
    assert entry["reason"] == "the line has 2000000000 bytes, over the limit of 1000000; its beginning is kept"
    assert entry["line"] == (2 if table == "events" else 3)
    assert sum(receipt.rows.values()) == 2
    assert peak < 40_000_000


def test_a_line_over_the_limit_within_a_block_costs_itself(world, event):
    lines = [event(1), event(2, note="x" * 1_500_000), event(3)]
    world.deliver("events/a.jsonl", "\n".join(lines))
    assert [entry["kind"] for entry in world.quarantine()] == ["line too long"]
    assert world.ids() == ["e1", "e3"]


def parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_a_parquet_of_other_columns_is_told_which(world):
    receipt = world.deliver("events/a.parquet", parquet(id=["a"], when=[1]))
    assert receipt.refused == ("the Parquet has no column event_id, type, time, user_id, item_id; it has: id, when")


def test_a_parquet_that_is_none_is_told_so(world):
    assert "not readable as Parquet" in world.deliver("events/a.parquet", b"PAR1 and then nothing").refused


def test_a_quarantined_csv_row_holds_its_objects_as_objects(world):
    header = "event_id,type,time,user_id,item_id,context"
    cell = '"{""device"": ""tv""}"'
    world.deliver("events/a.csv", f"{header}\ne1,click,never,u1,v1,{cell}\n")
    (entry,) = world.quarantine()
    mended = {**json.loads(entry["row"]), "time": "2024-01-01T00:00:00Z"}
    world.deliver("events/b.jsonl", json.dumps(mended))
    assert [row["context"] for row in world.rows()] == ['{"device":"tv"}']


@pytest.mark.parametrize(
    "text", ["2024-01-01T07", "2024-01-01 07", "2024-01-01T07Z", "2024-01-01T09+02", "2024-01-01T07:00"]
)
@pytest.mark.parametrize("rows", [1, 100])
def test_a_time_to_the_hour_is_one_however_many_rows_come_with_it(world, event, text, rows):
    lines = [event(number, time=text) for number in range(rows)]
    world.deliver("events/a.jsonl", "\n".join([*lines, event(rows, time="broken")]))
    assert {row["time"].isoformat() for row in world.rows()} == {"2024-01-01T07:00:00+00:00"}
    assert len(world.rows()) == rows


def test_a_parquet_that_is_a_bomb_is_refused_whole(world):
    rows = 3_000
    body = parquet(item_id=[str(n) for n in range(rows)], title=["x" * 100_000] * rows)
    assert len(body) < 1_000_000
    assert "as in a zip bomb" in world.deliver("items/a.parquet", body).refused
    assert world.rows("items") == []


@pytest.mark.parametrize("where", ["text", "list", "object", "object in a list"])
def test_a_text_of_a_parquet_that_is_repeated_is_never_unfolded(world, where):
    rows, long = 3_000, pa.array(["x" * 1_000_000])
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), long)
    ends = pa.array(range(rows + 1), pa.int32())
    column = {
        "text": text,
        "list": pa.ListArray.from_arrays(ends, text),
        "object": pa.StructArray.from_arrays([text], ["a"]),
        "object in a list": pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays([text], ["a"])),
    }[where]
    table = pa.table({"item_id": [str(n) for n in range(rows)], "title": ["t"] * rows, "unknown": column})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, store_schema=False, dictionary_pagesize_limit=2**30, compression="zstd")
    before = pa.default_memory_pool().max_memory()
    assert "as in a zip bomb" in world.deliver("items/a.parquet", buffer.getvalue()).refused
    assert pa.default_memory_pool().max_memory() <= max(before, 200_000_000)


def test_a_parquet_of_endless_lists_is_refused_unread(world):
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 40_000_000], pa.int32()), pa.nulls(40_000_000, pa.int8()))
    body = parquet(item_id=["v1", "v2"], title=["a", "b"], unknown=lists)
    assert len(body) < 100_000
    assert "40000000 values in 2 rows" in world.deliver("items/a.parquet", body).refused


def test_nested_columns_of_a_parquet_are_kept(world):
    deep = pa.array([[{"k": "v", "l": ["x", None]}], None])
    pairs = pa.array([[("a", "b")], None], pa.map_(pa.string(), pa.string()))
    fixed = pa.array([["p", "q"], ["r", "s"]], pa.list_(pa.string(), 2))
    body = parquet(item_id=["v1", "v2"], title=["a", "b"], tags=[["t"], None], deep=deep, pairs=pairs, fixed=fixed)
    world.deliver("items/a.parquet", body)
    first, second = world.rows("items")
    assert json.loads(first["extra"]) == {
        "deep": [{"k": "v", "l": ["x", None]}],
        "fixed": ["p", "q"],
        "pairs": [["a", "b"]],
    }
    assert (first["tags"], second["tags"], second["extra"]) == (["t"], [], '{"fixed":["r","s"]}')


def test_a_csv_of_other_columns_is_told_which(world):
    receipt = world.deliver("items/a.csv", "id,title\n1,x\n")
    assert receipt.refused == "the header has no column item_id; it has: id, title"


def test_a_parquet_row_that_fails_costs_itself(world):
    body = parquet(item_id=["v1", None, "v3"], title=["a", "b", None], duration_s=[1.5, 2.0, 3.0])
    world.deliver("items/a.parquet", body)
    assert world.ids("items", "item_id") == ["v1"]
    assert [(entry["line"], entry["kind"]) for entry in world.quarantine()] == [
        (2, "item_id: missing"),
        (3, "title: missing"),
    ]


def test_duplicate_ids_within_a_file_are_kept_once_and_counted(world, event):
    receipt = world.deliver("events/a.jsonl", "\n".join([event(1, item_id="first"), event(2), event(1, item_id="x")]))
    assert receipt.duplicates == 1
    assert [(row["event_id"], row["item_id"]) for row in world.rows()] == [("e1", "first"), ("e2", "v1")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"PK\x03\x04....", "holds a zip archive"),
        (b"PAR1....", "holds Parquet"),
        ("{}".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(world, body, told):
    assert told in world.deliver("events/a.jsonl", body).refused


def test_a_name_of_no_format_and_a_table_that_is_none(world):
    assert ".jsonl, .jsonl.gz, .csv, .csv.gz or .parquet" in world.deliver("events/notes.txt", b"x").refused
    assert world.deliver("films/a.csv", b"x").refused == "video has no table 'films'; it has events, items, users"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("v2,Two,extra", "the line has 3 cells where the header has 2"),
        ('v2,"Two', "a quote is opened and never closed"),
        ("v2,", "title: Field required"),
        (",Two", "item_id: Field required"),
    ],
)
def test_a_bad_csv_line_costs_itself(world, line, told):
    before = "".join(f"w{n},Some\n" for n in range(MANY))
    world.deliver("items/a.csv", f"item_id,title\n{before}{line}\nv3,Three\n")
    (entry,) = world.quarantine()
    assert told in entry["reason"]
    assert entry["line"] == MANY + 2
    assert len(world.ids("items", "item_id")) == MANY + 1


def test_latin_1_in_a_csv_costs_its_line_and_keeps_its_bytes(world):
    world.deliver("items/a.csv", b"item_id,title\nv1,One\nv2,Caf\xe9\nv3,Three\n")
    (entry,) = world.quarantine()
    assert "not UTF-8" in entry["reason"]
    assert "row_base64" in entry
    assert world.ids("items", "item_id") == ["v1", "v3"]


def test_a_file_of_bad_rows_only(world, event):
    receipt = world.deliver("events/a.jsonl", "\n".join(event(n, type="stare") for n in range(2000)))
    assert receipt.quarantined == {"type: literal error": 2000}
    assert receipt.rows == {}
    assert [entry["line"] for entry in world.quarantine()] == list(range(1, 2001))


def test_a_deep_line_among_blank_ones_is_found(world, event):
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    world.deliver("events/a.jsonl", b"\n" * 200_000 + deep + b"\n" + event(1).encode())
    assert world.ids() == ["e1"]
