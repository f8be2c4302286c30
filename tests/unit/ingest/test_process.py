"""What good rows become: types, dates, names, and the same result however they are delivered."""

import gzip
import io
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.events import VIDEO_TABLES
from twinloop.ingest.batches import rows_table
from twinloop.ingest.columns import table_of
from twinloop.ingest.jsonl import JsonLines
from twinloop.ingest.limits import DEFAULTS, Limits
from twinloop.ingest.lines import Block, blocks
from twinloop.ingest.receipts import receipt
from twinloop.ingest.rows import Fault, parse_line

SAMPLES = Path(__file__).parents[3] / "events" / "video"
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
EVENTS = table_of("events", VIDEO_TABLES["events"])


def sample(name):
    return (SAMPLES / name).read_bytes()


def test_rows_are_typed_and_go_to_their_dates(world):
    made = world.deliver("events/valid.jsonl", sample("events/valid.jsonl"))
    assert made.rows == {"2025-03-01": 3, "2025-03-02": 1}
    last = world.rows()[-1]
    assert last["time"] == datetime(2025, 3, 2, 8, 30, tzinfo=UTC)
    assert (last["user_id"], last["rating"], last["extra"]) == ("2", 4.5, '{"campaign":"spring"}')
    assert json.loads(world.rows()[0]["context"]) == {"device": "tv"}


def test_late_rows_land_in_their_own_date(world):
    assert world.deliver("events/late.jsonl", sample("events/late.jsonl")).rows == {"2025-01-15": 1, "2025-03-02": 1}


def test_poison_is_quarantined_line_by_line(world):
    made = world.deliver("events/poison.jsonl", sample("events/poison.jsonl"))
    assert world.ids() == ["e-2001", "e-2010"]
    assert [entry["line"] for entry in world.quarantine()] == list(range(2, 11))
    assert sum(made.quarantined.values()) == 9


def test_entities_go_to_the_date_of_upload_in_its_order(world):
    made = world.deliver("items/valid.csv", sample("items/valid.csv"))
    assert made.rows == {"2025-06-01": 3}
    first = world.rows("items")[0]
    assert (first["title"], first["tags"], first["extra"]) == (
        "Bread, slowly",
        ["cooking", "slow"],
        '{"studio":"North"}',
    )
    assert first["published_at"] == datetime(2025, 1, 10, tzinfo=UTC)
    world.deliver("items/newer.csv", "item_id,title\nv-10,Bread\n", modified=NOON + timedelta(seconds=1))
    assert [row["title"] for row in world.rows("items") if row["item_id"] == "v-10"] == ["Bread, slowly", "Bread"]


def test_the_same_entities_uploaded_again_count_as_the_latest(world):
    old, new = "item_id,title\nv,Old\n", "item_id,title\nv,New\n"
    for hour, body in enumerate((old, new, old)):
        world.deliver("items/a.csv", body, modified=NOON + timedelta(hours=hour))
    assert [row["title"] for row in world.rows("items")] == ["New", "Old"]


def test_delivered_twice_out_of_order_and_at_once_is_delivered_once(new_world, event):
    files = {f"events/{n}.jsonl": "\n".join(event(f"{n}-{i}") for i in range(50)) for n in range(4)}
    once, often = new_world(), new_world()
    for key, body in files.items():
        once.deliver(key, body, etag="v")
    start = threading.Barrier(12)

    def deliver(number):
        start.wait()
        key = list(files)[number % 4]
        often.deliver(key, files[key], etag="v")

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert often.state() == once.state()


def test_a_receipt_answers_whether_an_upload_is_processed(world, event):
    assert receipt(world.objects, "video", "raw/video/events/a.jsonl", '"v"') is None
    made = world.deliver("events/a.jsonl", event(1), etag="v")
    assert receipt(world.objects, "video", "raw/video/events/a.jsonl", '"v"') == made


def test_formats_give_the_same_rows(new_world, event):
    rows = [json.loads(event(n, rating=n / 2, position=n)) for n in range(40)]
    header = list(rows[0])
    text = "\n".join([",".join(header), *(",".join(str(row[name]) for name in header) for row in rows)])
    quoted = "\r\n".join([",".join(header), *(",".join(f'"{row[name]}"' for name in header) for row in rows)])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    lines = "\n".join(map(json.dumps, rows)).encode()
    bodies = {
        "a.jsonl": lines,
        "b.jsonl.gz": gzip.compress(lines, mtime=0),
        "c.csv": text.encode(),
        "d.csv.gz": gzip.compress(text.encode(), mtime=0),
        "e.csv": b"\xef\xbb\xbf" + quoted.encode(),
        "f.parquet": buffer.getvalue(),
    }
    found = []
    for name, body in bodies.items():
        world = new_world()
        world.deliver(f"events/{name}", body)
        found.append(world.rows())
    assert found[0]
    assert all(rows == found[0] for rows in found)


def test_objects_with_texts_in_several_row_groups(world, event):
    rows = [json.loads(event(n, context={"device": "tv" if n < 5 else "phone"})) for n in range(12)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=5)
    world.deliver("events/a.parquet", buffer.getvalue())
    assert world.quarantine() == []
    assert [json.loads(row["context"])["device"] for row in world.rows()] == ["tv"] * 5 + ["phone"] * 7


def test_cells_with_line_ends_and_stray_quotes(world):
    body = 'item_id,title\nv1,"a\nb"\nv2,5" pipe\nv3,"x, ""y"""\n'
    world.deliver("items/a.csv", body)
    assert [row["title"] for row in world.rows("items")] == ["a\nb", '5" pipe', 'x, "y"']
    assert world.quarantine() == []


@pytest.mark.parametrize("buffer", [20_000, 10**9])
def test_rows_past_the_buffer_are_kept_in_order_by_date(world, event, buffer):
    lines = [event(n, time=f"2025-03-{n % 28 + 1:02d}T00:00:00Z") for n in range(3000)]
    limits = Limits(buffer_bytes=buffer, block_bytes=10_000, part_rows=40)
    made = world.deliver("events/a.jsonl", "\n".join(lines), limits=limits)
    assert len(made.files) == 28 * 3
    assert world.ids() == [f"e{n}" for day in range(28) for n in range(3000) if n % 28 == day]


# ---------------------------------------------------------------- whole columns and single rows agree

ids = st.one_of(st.text(max_size=3), st.integers(-5, 5), st.none(), st.booleans(), st.just("x" * 257))
times = st.one_of(
    st.sampled_from(["2025-01-01", "2025-01-01T10:00:00", "2025-01-01T10:00:00.123456Z", "2025-01-01 10:00:00+05:00"]),
    st.sampled_from(["1700000000000", "1969-01-01T00:00:00Z", "2970-01-01T00:00:00Z", "now", ""]),
    st.integers(600_000_000_000, 1_800_000_000_000),
    st.none(),
    st.floats(allow_nan=False),
)
numbers = st.one_of(st.none(), st.integers(-2, 2**70), st.floats(), st.sampled_from(["1", "1.5", "x", " 2 "]))
rows = st.fixed_dictionaries(
    {"event_id": ids, "type": st.sampled_from(["click", "like", "stare"]), "time": times, "user_id": ids},
    optional={
        "item_id": ids,
        "rating": numbers,
        "position": numbers,
        "context": st.one_of(st.none(), st.dictionaries(st.text(max_size=2), numbers, max_size=2), st.just("x")),
        "other": st.one_of(st.none(), numbers, st.lists(st.integers(), max_size=2)),
        "extra": st.one_of(st.none(), st.sampled_from(['{"a":1}', "text"]), st.integers()),
    },
)


def meant(table):
    """Rows with their JSON texts read: 1 and 1.0 are the same number."""
    texts = ("context", "extra")
    return [{k: json.loads(v) if k in texts and v else v for k, v in row.items()} for row in table.to_pylist()]


def good_row(number):
    return {"event_id": f"e{number}", "type": "click", "time": "2025-01-01T00:00:00Z", "user_id": "u", "item_id": "i"}


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(["2025-01-01", "2025-01-01T00:00:00Z", "12:00:00", '"', "\\", "a\nb", "é"]),
)
objects = st.dictionaries(
    st.sampled_from(["a", "b", 'q"', "é", ""]),
    st.one_of(values, st.dictionaries(st.text(max_size=1), values, max_size=2)),
)


@given(st.lists(st.tuples(objects, objects), min_size=1, max_size=8), st.booleans())
def test_contexts_and_unknown_columns_keep_their_meaning(pairs, alike):
    pairs = [pairs[0]] * 3 if alike else pairs
    lines = [
        json.dumps({**{f"x_{k}": v for k, v in unknown.items()}, **good_row(n), "context": context}).encode()
        for n, (context, unknown) in enumerate(pairs)
    ]
    expected = rows_table([parse_line(EVENTS.model, line) for line in lines], EVENTS)
    found = pa.concat_tables(batch.table for batch in JsonLines(EVENTS, DEFAULTS).read([Block(1, b"\n".join(lines))]))
    assert meant(found) == meant(expected)


@given(st.lists(st.one_of(rows, st.integers(0, 99).map(good_row)), min_size=1, max_size=60))
def test_blocks_give_what_lines_give(batch):
    lines = [json.dumps(row).encode() for row in batch]
    one_by_one = [parse_line(EVENTS.model, line) for line in lines]
    expected = rows_table([row for row in one_by_one if not isinstance(row, Fault)], EVENTS)
    batches = list(JsonLines(EVENTS, DEFAULTS).read([Block(1, b"\n".join(lines))]))
    found = pa.concat_tables([batch.table for batch in batches])
    assert meant(found) == meant(expected)
    rejected = [reject.line for batch in batches for reject in batch.rejects]
    assert rejected == [number for number, row in enumerate(one_by_one, 1) if isinstance(row, Fault)]


@given(st.binary(max_size=300), st.integers(1, 20), st.booleans())
def test_blocks_lose_no_byte(data, size, quoted):
    data = data.removeprefix(b"\xef\xbb\xbf")
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    if chunks and chunks[0].startswith(b"\xef\xbb\xbf"):
        return
    cut = list(blocks(chunks, Limits(block_bytes=50, line_bytes=10_000), quoted=quoted))
    assert b"".join(block.data for block in cut) == data
    assert all(block.line == 1 + data[: data.find(block.data)].count(b"\n") for block in cut[:1])
