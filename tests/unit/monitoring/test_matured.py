"""The log of predictions meets what came of them: only what is over, everything once, whatever is damaged."""

import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinloop import systems
from twinloop.contracts.live import LiveCalibration, LiveSettings, live_key
from twinloop.errors import BadInputError
from twinloop.monitoring.live import calibrate
from twinloop.monitoring.matured import matured
from twinloop.ports import MemoryObjectStore

NOW = datetime(2026, 1, 31, 1, 0, tzinfo=UTC)  # shortly after midnight: yesterday counts as well
LIVE = LiveSettings(label="click", logged="p_model", facts=("page",), window_hours=6)
ADS = systems.load("ads")


class Bucket(MemoryObjectStore):
    """A lake and a log, put together by hand."""

    def __init__(self):
        super().__init__()
        self.events, self.files, self.reads = [], 0, []

    def read(self, key):
        self.reads.append(key)
        return super().read(key)

    def shown(self, prediction, ad, ago, *, clicked=None, event=None, **more):
        """An impression `ago` minutes ago, and a click so many minutes after it."""
        moment = NOW - timedelta(minutes=ago)
        row = {"user_id": "u", "item_id": ad, "request_id": prediction, "clicked": None} | more
        self.events.append(row | {"event_id": event or f"{prediction}-{ad}", "type": "impression", "time": moment})
        if clicked is not None:
            late = moment + timedelta(minutes=clicked)
            self.events.append(row | {"event_id": f"{prediction}-{ad}-click", "type": "click", "time": late})

    def lake(self):
        """Write the rows by date; the latest event says how far the lake is."""
        days = {row["time"].date() for row in self.events}
        for day in days:
            body = io.BytesIO()
            pq.write_table(pa.Table.from_pylist([row for row in self.events if row["time"].date() == day]), body)
            self.files += 1
            self.write(f"lake/ads/events/dt={day}/{self.files}.parquet", body.getvalue())
        self.events = []

    def log(self, *lines, name="a", day="2026/01/30"):
        body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        self.write(f"predictions/ads/{day}/{name}", body + b"\n")


def answer(prediction="p1", *, items=("a", "b"), said=(0.2, 0.4), version="v1", **more):
    return {
        "prediction_id": prediction,
        "model_version": version,
        "degraded": False,
        "context": {"page": " Home "},
        "items": [[item, 1.0] for item in items],
        "p_click": [0.9] * len(items),
        "p_model": list(said),
    } | more


@pytest.fixture
def bucket():
    made = Bucket()
    made.shown("latest", "x", 0)
    return made


def found(bucket, tmp_path, live=LIVE, **more):
    bucket.lake()
    return matured(ADS, bucket, live, now=NOW, work=tmp_path, **more)


def test_what_was_said_meets_what_came_of_it(bucket, tmp_path):
    bucket.shown("p1", "a", 120, clicked=5)
    bucket.shown("p1", "b", 119)
    bucket.shown("p2", "a", 100, clicked=59)
    bucket.log(answer(), answer("p2", version="v2", context={}))
    showings, read = found(bucket, tmp_path)
    assert set(showings) == {"v1", "v2"}
    one = showings["v1"]
    assert (one.said.tolist(), one.came.tolist(), one.facts) == ([0.4, 0.2], [0.0, 1.0], {"page": ["home", "home"]})
    assert (showings["v2"].came.tolist(), showings["v2"].facts) == ([1.0], {"page": [None]})
    assert (read.lines, read.left_out, read.damaged, read.objects, read.whole) == (2, 0, 0, 1, True)


def test_a_row_that_says_itself_whether_it_was_clicked_is_both(bucket, tmp_path):
    bucket.shown("p1", "a", 120, clicked=None)
    bucket.events[-1]["clicked"] = 1
    bucket.shown("p1", "b", 120)
    bucket.events[-1]["clicked"] = 0
    bucket.log(answer())
    assert found(bucket, tmp_path)[0]["v1"].came.tolist() == [1.0, 0.0]


def test_a_showing_whose_hour_is_not_over_waits_and_an_old_one_is_past(bucket, tmp_path):
    for prediction, ago in (("new", 59), ("just", 60), ("old", 419), ("past", 420)):
        bucket.shown(prediction, "a", ago)
        bucket.log(answer(prediction), name=prediction)
    times = found(bucket, tmp_path)[0]["v1"].times_ms
    ago = [(NOW.timestamp() * 1000 - time) / 60_000 for time in times.tolist()]
    assert ago == [60, 419]


def test_it_is_waited_for_what_the_lake_does_not_have_yet(tmp_path):
    """The latest event is half an hour old: so clicks of the last half hour may be on their way."""
    bucket = Bucket()
    bucket.shown("latest", "x", 30)
    bucket.shown("soon", "a", 80)
    bucket.shown("over", "a", 95)
    bucket.log(answer("soon"), answer("over"))
    showings, _ = found(bucket, tmp_path)
    assert len(showings["v1"].came) == 1


def test_a_clock_that_is_ahead_does_not_end_the_waiting(bucket, tmp_path):
    bucket.shown("ahead", "x", -600)
    bucket.shown("p1", "a", 50)
    bucket.log(answer())
    assert found(bucket, tmp_path)[0] == {}


def test_a_clock_that_is_ahead_does_not_say_how_far_the_lake_is(tmp_path):
    bucket = Bucket()
    bucket.shown("latest", "x", 30)
    bucket.shown("ahead", "x", -600)
    bucket.shown("soon", "a", 80)
    bucket.shown("over", "a", 95)
    bucket.log(answer("soon"), answer("over"))
    assert len(found(bucket, tmp_path)[0]["v1"].came) == 1


def test_what_comes_twice_counts_once(bucket, tmp_path):
    bucket.shown("p1", "a", 120, clicked=1)
    bucket.lake()
    bucket.shown("p1", "a", 120, clicked=1)  # delivered again, in another file
    bucket.shown("p1", "a", 110, event="seen again")  # and shown again, on scrolling back
    bucket.log(answer(), answer())
    bucket.log(answer(), name="again")
    showings, read = found(bucket, tmp_path)
    assert showings["v1"].came.tolist() == [1.0]
    assert read.lines == 3


def test_only_items_of_the_answer_and_showings_that_name_it_count(bucket, tmp_path):
    bucket.shown("p1", "other", 120, clicked=1)
    bucket.shown(None, "a", 120, clicked=1)
    bucket.shown("unknown", "a", 120)
    bucket.log(answer())
    assert found(bucket, tmp_path)[0] == {}


@pytest.mark.parametrize(
    "line",
    [
        b'{"prediction_id": "p1", ',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"7",
        answer(prediction_id=7),
        answer(prediction_id="x" * 300),
        answer(version="v" * 101),
        answer(said=(0.2,)),
        answer(said=(0.2, 1.2)),
        answer(said=(0.2, None)),
        answer(said=(0.2, float("nan"))),
        answer(items=("a", "")),
        answer(items=("a", "\ud800")),
        answer(context=[1]),
        answer(context={"page": "\ud800"}),
        answer(said=(0.2, 10**400)),
        answer(said=(0.2, "1e999")),
        {"prediction_id": "p1"},
        answer(extra="x" * 1_000_001),
    ],
)
def test_a_damaged_line_is_counted_and_the_others_are_read(bucket, tmp_path, line):
    bucket.shown("p1", "a", 120)
    bucket.shown("p2", "a", 120)
    bucket.log(line, answer("p2"), b"")
    showings, read = found(bucket, tmp_path)
    assert len(showings["v1"].came) == 1
    assert (read.lines, read.damaged, read.left_out) == (1, 1, 0)


def test_answers_of_fallbacks_and_from_before_models_were_logged_are_left_out(bucket, tmp_path):
    older = answer("p2")
    del older["p_model"]
    for prediction in ("p1", "p2"):
        bucket.shown(prediction, "a", 120)
    bucket.log(answer(degraded=True), older)
    showings, read = found(bucket, tmp_path)
    assert (showings, read.left_out, read.damaged) == ({}, 2, 0)


def named(moment):
    return f"twinloop-ads-predictions-1-{moment:%Y-%m-%d-%H-%M-%S}-0a1b2c3d.jsonl"


def test_the_log_is_read_from_the_latest_that_can_be_of_use_and_no_further_than_its_bound(bucket, tmp_path):
    """What was just delivered was hardly shown an hour ago, so it comes last; what is too old is not read at all."""
    for hours in range(10):
        moment = NOW - timedelta(hours=hours)
        bucket.shown(f"p{hours}", "a", 60 * hours + 5)
        bucket.log(answer(f"p{hours}"), name=named(moment), day=f"{moment:%Y/%m/%d}")
    showings, read = found(bucket, tmp_path / "1")
    order = [int(key.split("-")[-4]) for key in bucket.reads if key.startswith("predictions/")]
    # Four are read at once.
    assert [set(order[n : n + 4]) for n in (0, 4, 8)] == [{0, 23, 22, 21}, {20, 19, 18, 17}, {1}]
    assert len(showings["v1"].came) == 6
    assert read.whole
    bucket.reads.clear()
    size = len(json.dumps(answer("p0"))) + 1
    showings, read = found(bucket, tmp_path / "2", most_bytes=2 * size)
    assert (read.objects, read.size, read.whole) == (2, 2 * size, False)
    assert len(showings["v1"].came) == 2


def test_of_too_many_showings_the_latest_are_taken(bucket, tmp_path):
    for n in range(5):
        bucket.shown(f"p{n}", "a", 100 + n)
        bucket.log(answer(f"p{n}"), name=str(n))
    live = LiveSettings(label="click", logged="p_model", window_hours=6, most=2)
    times = found(bucket, tmp_path, live)[0]["v1"].times_ms
    assert [(NOW.timestamp() * 1000 - time) / 60_000 for time in times.tolist()] == [100, 101]


def test_without_a_lake_or_a_log_there_is_nothing_and_it_is_written_down():
    objects = Bucket()
    made = calibrate(ADS, objects, now=NOW)
    assert (made.calibration.versions, made.log.lines) == ({}, 0)
    assert LiveCalibration.model_validate_json(objects.read(live_key("ads")).body) == made.calibration
    objects.shown("p1", "a", 120)
    objects.lake()
    assert calibrate(ADS, objects, now=NOW).calibration.versions == {}


def test_offsets_are_written_by_release(bucket):
    for n in range(300):
        bucket.shown(f"p{n}", "a", 120 + n % 60, clicked=1 if n % 2 else None)
    bucket.log(*(answer(f"p{n}", items=("a",), said=(0.3,)) for n in range(300)))
    bucket.lake()
    made = calibrate(ADS, bucket, now=NOW)
    [(version, offsets)] = made.calibration.versions.items()
    assert (version, offsets.rows, offsets.positives, offsets.expected) == ("v1", 300, 150, 90.0)
    assert offsets.offset > 0.2
    assert offsets.by["page"]["home"] > 0.05
    assert offsets.until == NOW - timedelta(minutes=120)
    again = calibrate(ADS, bucket, now=NOW)
    assert again == made


def test_a_system_that_is_not_calibrated_live_is_told_so():
    with pytest.raises(BadInputError, match="video says of no prediction"):
        calibrate(systems.load("video"), MemoryObjectStore(), now=NOW)
