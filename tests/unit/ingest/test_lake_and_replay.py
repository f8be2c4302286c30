"""What the lake says of itself; replays and compaction."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from twinloop.errors import BadInputError, UnavailableError
from twinloop.ingest.compact import compact
from twinloop.ingest.deliveries import Deliveries, object_keys
from twinloop.ingest.lake import describe
from twinloop.ingest.limits import Limits
from twinloop.ingest.replay import pending, replay
from twinloop.ingest.upload import plan

NOW = datetime(2025, 6, 2, tzinfo=UTC)


def redeliver(world, keys):
    for key in keys:
        world.deliver(key.removeprefix("raw/video/"), world.objects.read(key).body, etag="r")


def test_describe_tells_rows_dates_files_and_faults(world, event):
    world.deliver("events/a.jsonl", "\n".join([event(1), event(2, time="2025-04-01"), event(3, type="stare")]))
    world.deliver("items/b.txt", "x")
    report = describe(world.objects, "video")
    assert report["events"].rows == {"2025-03-01": 1, "2025-04-01": 1}
    assert report["events"].files == {"2025-03-01": 1, "2025-04-01": 1}
    assert report["events"].quarantined == {"type: literal error": 1}
    assert list(report["items"].refused) == ["raw/video/items/b.txt"]
    assert describe(world.objects, "ads") == {}


def test_mended_rows_come_through_once(world, event):
    world.deliver("events/a.jsonl", "\n".join([event(1), event(2, type="clik"), event(3, type="lik")]))
    entries = list(pending(world.objects, "video"))
    assert [entry["line"] for entry in entries] == [2, 3]
    entries[0]["row"] = entries[0]["row"].replace("clik", "click")
    mended = [json.dumps(entries[0]).encode()]
    first = replay(world.objects, "video", mended)
    assert (first.rows, first.known) == (1, 0)
    redeliver(world, first.objects)
    assert sorted(world.ids()) == ["e1", "e2"]
    again = replay(world.objects, "video", mended)
    assert (again.objects, again.known) == ((), 1)
    report = describe(world.objects, "video")["events"]
    assert (report.quarantined, report.replayed) == ({"type: literal error": 1}, 1)
    assert [entry["line"] for entry in pending(world.objects, "video")] == [3]


def test_rows_that_fail_again_wait_again(world, event):
    world.deliver("events/a.jsonl", "\n".join([event(1), event(2, type="stare")]))
    redeliver(world, replay(world.objects, "video").objects)
    (entry,) = pending(world.objects, "video")
    assert entry["file"].startswith("raw/video/events/replay/")
    assert json.loads(entry["row"])["event_id"] == "e2"


def test_a_replay_that_died_before_its_record_sends_the_same(world, event):
    world.deliver("events/a.jsonl", event(2, type="stare"))
    first = replay(world.objects, "video")
    for key in list(world.objects.keys("quarantine/video/_replayed/")):
        world.objects.delete(key)
    assert replay(world.objects, "video") == first


def test_what_holds_no_whole_row_is_left_to_the_user(world, event):
    world.deliver("events/a.txt", "x")
    world.deliver("events/b.jsonl", event(1, note="x" * 1000), limits=Limits(line_bytes=500))
    result = replay(world.objects, "video")
    assert (result.rows, result.by_hand) == (0, 2)


def test_rejected_csv_rows_come_back_as_objects(world):
    world.deliver("items/a.csv", "item_id,title\nv1,One\n,Two\n")
    (entry,) = pending(world.objects, "video")
    entry["row"] = {**json.loads(entry["row"]), "item_id": "v2"}
    redeliver(world, replay(world.objects, "video", [json.dumps(entry).encode()]).objects)
    assert sorted(world.ids("items", "item_id")) == ["v1", "v2"]


@pytest.mark.parametrize("line", [b"x", b"[]", b'{"row":"x"}', b'{"file":"raw/ads/events/a","line":1,"row":"x"}'])
def test_a_mended_file_of_something_else_is_refused(world, line):
    with pytest.raises(BadInputError, match=r"line 1 is no entry of video's quarantine.*nothing was sent"):
        replay(world.objects, "video", [line])


def test_compaction_loses_nothing_and_doubles_nothing(world, event):
    for n in range(6):
        world.deliver(f"events/{n}.jsonl", "\n".join([event(f"{n}-{i}") for i in range(5)] + [event("shared")]))
    before = set(world.ids())
    counts = compact(world.system, world.objects, now=NOW)
    assert counts == {"system": "video", "merged": 6, "written": 1, "deleted": 0}
    assert set(world.ids()) == before
    assert compact(world.system, world.objects, now=NOW)["merged"] == 0
    assert compact(world.system, world.objects, now=NOW + timedelta(days=1))["deleted"] == 6
    assert sorted(world.ids()) == sorted(before)
    assert describe(world.objects, "video")["events"].files == {"2025-03-01": 1}


def test_compaction_keeps_the_latest_of_entities(world):
    for n in range(5):
        at = datetime(2025, 6, 1, 12, n, tzinfo=UTC)
        world.deliver(f"items/{n}.csv", f"item_id,title\nv,Title {n}\n", modified=at)
    compact(world.system, world.objects, now=NOW)
    compact(world.system, world.objects, now=NOW + timedelta(days=1))
    assert [row["title"] for row in world.rows("items")] == ["Title 4"]
    world.deliver("items/late.csv", "item_id,title\nv,Later\n", modified=datetime(2025, 6, 1, 13, tzinfo=UTC))
    assert [row["title"] for row in world.rows("items")] == ["Title 4", "Later"]


@pytest.mark.parametrize("writes", [1])
def test_compaction_that_dies_is_taken_up_by_the_next(world, event, writes):
    for n in range(5):
        world.deliver(f"events/{n}.jsonl", event(n))
    write, left = world.objects.write, [writes]

    def dying(key, body, **options):
        if not left[0]:
            raise UnavailableError("gone")
        left[0] -= 1
        return write(key, body, **options)

    world.objects.write = dying
    with pytest.raises(UnavailableError):
        compact(world.system, world.objects, now=NOW)
    world.objects.write = write
    for days in range(3):
        compact(world.system, world.objects, now=NOW + timedelta(days=days))
        assert set(world.ids()) == {f"e{n}" for n in range(5)}
    assert len(world.ids()) == 5


def test_full_files_are_left_alone(world, event):
    limits = Limits(part_rows=5)
    for n in range(5):
        world.deliver(f"events/{n}.jsonl", "\n".join(event(f"{n}-{i}") for i in range(7)), limits=limits)
    before = set(world.ids())
    for days in range(4):
        compact(world.system, world.objects, now=NOW + timedelta(days=days), limits=limits)
        assert set(world.ids()) == before


# ---------------------------------------------------------------- notifications


def notification(key, name="ObjectCreated:Put"):
    return json.dumps({"Records": [{"eventName": name, "s3": {"object": {"key": key}}}]})


def test_keys_of_notifications():
    assert object_keys(notification("raw/video/events/a+b%C3%A9.jsonl")) == ["raw/video/events/a bé.jsonl"]
    assert object_keys(json.dumps({"Event": "s3:TestEvent"})) == []
    assert object_keys(notification("raw/x", "ObjectRemoved:Delete")) == []
    for body in ("", "[]", "{}", '{"Records":[{}]}', "null"):
        with pytest.raises(BadInputError):
            object_keys(body)


class Recorder:
    def __init__(self):
        self.lines, self.dates = [], []

    def info(self, msg, *, extra):
        self.lines.append((msg, extra))

    error = info

    def register(self, system, table, dates):
        self.dates.append((system, table.name, dates))


def test_only_what_failed_on_the_way_is_delivered_again(world, event):
    import io

    from twinloop import systems
    from twinloop.errors import NotFoundError
    from twinloop.ingest.source import RawObject

    class Breaking(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise UnavailableError("connection reset")
            return super().read(100)

    def open_raw(key):
        if "gone" in key:
            raise NotFoundError(key)
        body = event(1).encode() * 10
        return RawObject(key, "e", NOW, 1, Breaking(body) if "breaks" in key else io.BytesIO(event(1).encode()))

    log = Recorder()
    deliveries = Deliveries(open_raw, systems.load, world.objects, log, log)
    keys = ["video/events/a.jsonl", "video/events/gone.jsonl", "video/events/breaks.jsonl", "nosuch/events/a.jsonl"]
    messages = {key: notification(f"raw/{key}") for key in [*keys, "loose.txt"]}
    assert deliveries.take({**messages, "junk": "junk", "folder": notification("raw/video/")}) == [
        "video/events/breaks.jsonl",
        "junk",
    ]
    assert log.dates == [("video", "events", {"2025-03-01"})]
    assert world.ids() == ["e1"]
    assert {entry["file"] for entry in world.quarantine()} == {"raw/loose.txt", "raw/nosuch/events/a.jsonl"}


# ---------------------------------------------------------------- uploads


def test_plan_finds_tables_by_folder_and_name(world, tmp_path):
    for name in ("events/monday.jsonl", "items.csv", "events-2024.jsonl.gz", ".hidden/items.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    uploads = plan([tmp_path / "data"], world.system)
    assert sorted((upload.path.name, upload.table) for upload in uploads) == [
        ("events-2024.jsonl.gz", "events"),
        ("items.csv", "items"),
        ("monday.jsonl", "events"),
    ]
    assert [u.key for u in plan([tmp_path / "data"], world.system)] == [u.key for u in uploads]
    assert all(upload.key.startswith(f"raw/video/{upload.table}/load/") for upload in uploads)


def test_plan_names_every_file_without_a_place(world, tmp_path):
    for name in ("films.csv", "notes.txt", "events.jsonl"):
        (tmp_path / name).write_text("x" if name != "events.jsonl" else "")
    with pytest.raises(BadInputError) as caught:
        plan([tmp_path], world.system)
    message = str(caught.value)
    assert "films.csv: its name tells no table" in message
    assert "notes.txt: is none of the formats" in message
    assert "events.jsonl: is empty" in message
    with pytest.raises(BadInputError, match="there is no such file"):
        plan([tmp_path / "nowhere"], world.system)
