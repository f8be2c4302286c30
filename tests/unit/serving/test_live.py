"""The live calibration in a serving process: taken up, aged out, and never the cause of a missing answer."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from twinloop.contracts.live import FARTHEST, LiveCalibration, LiveOffsets, live_key
from twinloop.errors import UnavailableError
from twinloop.ports import MemoryObjectStore
from twinloop.serving.live import LiveReader

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def calibration(made_at=NOW, **offsets):
    facts = {"since": NOW, "until": NOW, "rows": 100, "positives": 10, "expected": 8.0}
    made = {version: LiveOffsets(**facts, offset=offset) for version, offset in offsets.items()}
    return LiveCalibration(system="ads", label="click", made_at=made_at, versions=made)


class Store(MemoryObjectStore):
    down = False

    def read(self, key):
        if self.down:
            raise UnavailableError("no answer")
        return super().read(key)

    def put(self, made):
        self.write(live_key("ads"), made if isinstance(made, bytes) else made.model_dump_json().encode())


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def world():
    store, clock = Store(), Clock()
    return store, clock, LiveReader(store, "ads", "click", now=clock)


def test_what_is_there_is_read_and_what_is_not_is_none(world, caplog):
    store, _, read = world
    assert read() is None
    store.put(calibration(v1=0.1))
    assert read() == calibration(v1=0.1)
    store.put(calibration(v1=0.2))
    assert read() == calibration(v1=0.2)
    store.delete(live_key("ads"))
    assert read() is None
    assert not caplog.records


def test_it_is_of_the_release_that_it_was_made_for_and_of_a_few_hours():
    made = calibration(v1=0.1)
    assert made.offsets("v1", NOW + timedelta(hours=5.9)).offset == 0.1
    assert made.offsets("v2", NOW) is None
    assert made.offsets("v1", NOW + timedelta(hours=6.1)) is None
    assert made.offsets("v1", NOW - timedelta(hours=6.1)) is None, "a clock is wrong"


def test_one_that_is_too_old_is_not_used_and_warned_of_once(world, caplog):
    store, clock, read = world
    store.put(calibration(v1=0.1))
    clock.now = NOW + timedelta(hours=7)
    assert read() is None
    assert read() is None
    [warning] = caplog.records
    assert "too old" in warning.message
    store.put(calibration(clock.now, v1=0.3))
    assert read().versions["v1"].offset == 0.3


def test_while_the_store_is_away_the_last_one_serves_until_it_is_too_old(world, caplog):
    store, clock, read = world
    store.put(calibration(v1=0.1))
    held = read()
    store.down = True
    assert read() == held
    clock.now = NOW + timedelta(hours=7)
    assert held.offsets("v1", clock.now) is None
    assert "not read" in caplog.text


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 1_000_001,
        calibration(v1=0.1).model_copy(update={"system": "video"}),
        calibration(v1=0.1).model_copy(update={"label": "like"}),
        json.dumps({**json.loads(calibration().model_dump_json()), "extra": 1}).encode(),
        calibration(v1=0.1).model_dump_json().replace("0.1", "1.6").encode(),
        calibration(v1=0.1).model_dump_json().replace("0.1", "NaN").encode(),
    ],
)
def test_a_damaged_one_is_ignored_and_warned_of_once(world, caplog, damaged):
    store, _, read = world
    store.put(calibration(v1=0.2))
    assert read() is not None
    store.put(damaged)
    assert read() is None
    assert read() is None
    [warning] = caplog.records
    assert "refused" in warning.message
    store.put(calibration(v1=0.2))
    assert read() is not None


def test_offsets_add_up_by_the_facts_of_the_moment_and_never_too_much():
    facts = {"since": NOW, "until": NOW, "rows": 100, "positives": 10, "expected": 8.0}
    made = LiveOffsets(**facts, offset=0.5, by={"page": {"home": -0.2, "7": 2.0}, "slot": {"top": 0.1}})
    assert made.of({}) == 0.5
    assert made.of({"page": " Home ", "slot": "top", "device": "phone"}) == pytest.approx(0.4)
    assert made.of({"page": 7}) == FARTHEST
    assert made.of({"page": None, "slot": 0.5}) == 0.5
