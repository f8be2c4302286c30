"""Clicks that come late: what a snapshot holds of a showing before its click is delivered, and the next one after."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from twinloop import systems
from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.features.snapshot import make_snapshot
from twinloop.features.splits import PARTS
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.systems.ads.features import OUTCOMES
from twinloop.training.clicks import open_clicks
from twinloop.training.ftrl import Ftrl, Rates
from twinloop.training.going_on import gone_on
from twinloop.training.impressions import FILE

START = datetime(2026, 1, 5, tzinfo=UTC)
FIRST, SECOND = START + timedelta(days=3, hours=6), START + timedelta(days=4)
WINDOW = timedelta(milliseconds=OUTCOMES.window_ms)
Row = dict[str, Any]


def event(kind: str, at: datetime, user: str, ad: str = "ad0") -> Row:
    row = {"event_id": f"{kind}-{at:%d%H%M%S}-{user}-{ad}", "type": kind, "time": at.isoformat()}
    return row | {"user_id": user, "item_id": ad}


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return START + timedelta(days=day, hours=hour, minutes=minute)


def background(begin: datetime, end: datetime) -> list[Row]:
    """A showing every ten minutes, of which every fifth is clicked a minute later."""
    rows = []
    for n in range(int((end - begin) / timedelta(minutes=10))):
        moment = begin + n * timedelta(minutes=10)
        rows.append(event("impression", moment, f"u{n % 7}", f"ad{n % 5}"))
        if n % 5 == 0:
            rows.append(event("click", moment + timedelta(minutes=1), f"u{n % 7}", f"ad{n % 5}"))
    return rows


# Whom: when the ad was shown, and when it was clicked.
SLOW, LATER, LAST = "delivered late", "clicked too late", "not waited for"
SHOWN = {SLOW: at(1, 12), LATER: at(1, 12), LAST: at(3, 5, 30)}
CLICKED = {SLOW: at(1, 12, 50), LATER: at(1, 13, 1), LAST: at(3, 5, 40)}
ON_TIME = [
    *background(START, FIRST),
    *(event("impression", moment, user) for user, moment in SHOWN.items()),
    *(event("impression", SHOWN[SLOW] + timedelta(minutes=after), SLOW, "ad1") for after in (40, 80)),
    event("click", CLICKED[LATER], LATER),
    event("click", CLICKED[LAST], LAST),
    event("impression", FIRST, "the latest"),
]
TOO_LATE = [event("click", CLICKED[SLOW], SLOW)]


def deliver(objects: MemoryObjectStore, rows: list[Row], when: datetime, name: str) -> None:
    body = "\n".join(map(json.dumps, rows)).encode()
    raw = RawObject(f"raw/ads/events/{name}.jsonl", hashlib.sha256(body).hexdigest(), when, len(body), io.BytesIO(body))
    receipt = ingest(raw, systems.load("ads"), objects)
    assert sum(receipt.quarantined.values()) == 0


class Snapshot:
    """One taken of the lake: its files, and its showings by who was shown what."""

    def __init__(self, objects: MemoryObjectStore, now: datetime, folder) -> None:
        self.manifest: SnapshotManifest = make_snapshot(systems.load("ads"), objects, now=now, minimum_cases=1)
        prefix = f"snapshots/ads/{self.manifest.snapshot_id}/"
        for key in objects.keys(prefix):
            path = folder / key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(objects.read(key).body)
        self.folder = folder
        self.rows = {
            (row["user_id"], row["item_id"], row["time_ms"]): row | {"part": part}
            for part in PARTS
            for row in pq.read_table(folder / part / FILE).to_pylist()
        }

    def of(self, user: str, ad: str = "ad0") -> list[Row]:
        return [row for (who, what, _), row in sorted(self.rows.items()) if (who, what) == (user, ad)]

    def learnt(self) -> tuple[int, int]:
        """How many showings jobs read, and how many clicks, but for those of test."""
        opened = open_clicks(self.folder)
        parts = [opened.read("train"), opened.read("validation")]
        return sum(map(len, parts)), int(sum(part.clicked.sum() for part in parts))


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """A snapshot before the late click was delivered, one after it, and the keys that the delivery added."""
    objects, work = MemoryObjectStore(), tmp_path_factory.mktemp("late")
    deliver(objects, ON_TIME, FIRST, "on-time")
    first = Snapshot(objects, FIRST, work / "first")
    before = set(objects.keys("lake/ads/events/"))
    deliver(objects, TOO_LATE, SECOND, "late")
    deliver(objects, TOO_LATE + background(FIRST + timedelta(minutes=10), SECOND), SECOND, "again")
    added = set(objects.keys("lake/ads/events/")) - before
    return first, Snapshot(objects, SECOND, work / "second"), added


def test_a_late_click_mends_the_day_of_the_lake_it_belongs_to(taken):
    *_, added = taken
    assert sum(f"dt={CLICKED[SLOW]:%Y-%m-%d}/" in key for key in added) == 2  # it was delivered twice


def test_a_showing_is_without_a_click_until_its_click_is_delivered(taken):
    first, second, _ = taken
    (before,), (after,) = first.of(SLOW), second.of(SLOW)
    assert before["part"] == after["part"] == "train"
    assert (before["label_click"], after["label_click"]) == (0, 1)


def test_a_click_after_the_window_is_never_a_label_whoever_delivers_it_when(taken):
    assert CLICKED[LATER] - SHOWN[LATER] > WINDOW
    assert [row["label_click"] for snapshot in taken[:2] for row in snapshot.of(LATER)] == [0, 0]


def test_a_showing_whose_window_is_not_over_waits_even_with_its_click(taken):
    first, second, _ = taken
    assert CLICKED[LAST] < FIRST < SHOWN[LAST] + WINDOW
    assert first.of(LAST) == []
    assert [row["label_click"] for row in second.of(LAST)] == [1]
    for snapshot, now in ((first, FIRST), (second, SECOND)):
        latest = max(moment for *_, moment in snapshot.rows)
        ends = snapshot.manifest.last_event.replace(tzinfo=UTC)
        assert ends <= now
        assert latest <= (ends - WINDOW).timestamp() * 1000
        assert latest > (ends - WINDOW - timedelta(minutes=11)).timestamp() * 1000


def test_what_is_learnt_differs_by_the_late_click_alone(taken):
    """Of what the first snapshot gave to learn from; more has been waited for since."""
    first, second, _ = taken
    learnt = {key: row for key, row in first.rows.items() if row["part"] == "train"}
    assert len(learnt) > 300
    differ = [key for key, row in learnt.items() if row["label_click"] != second.rows[key]["label_click"]]
    assert [user for user, *_ in differ] == [SLOW]
    shown, clicked = second.learnt()
    parted = [row for row in second.rows.values() if row["part"] != "test"]
    assert (shown, clicked) == (len(parted), sum(row["label_click"] for row in parted))


def test_what_goes_on_learns_the_late_click_of_a_showing_that_it_knows(taken):
    """From the first snapshot's showings, by the second's: that one is mended, and nothing is learnt twice."""
    first, second, _ = taken
    before, now = (open_clicks(snapshot.folder) for snapshot in (first, second))
    rows = before.train()
    state = Ftrl.solved(Rates(), before.hashed, before.names, rows, ridge=10.0)
    read = now.read("train", after=state.until_ms, and_clicked=True)
    late = state.late(read)
    (slow,) = second.of(SLOW)
    assert late.times.tolist() == [slow["time_ms"]]
    went = gone_on(state, 0.05, read)
    assert went.log_odds(late) > state.log_odds(late)
    assert went.rows == len(rows) + len(read.later(state.until_ms))
    assert len(went.late(read)) == 0
    assert len(state.late(before.read("train", and_clicked=True))) == 0


def test_what_was_known_of_a_showing_counts_no_click_that_had_not_happened(taken):
    """The next ad comes before the click, the one after that later; of nobody else anything changes."""
    first, *_ = taken
    counted = [[row["user_clicks_30d"] for row in snapshot.of(SLOW, "ad1")] for snapshot in taken[:2]]
    assert counted == [[0, 0], [0, 1]]
    days = [[row["user_days_since_click"] for row in snapshot.of(SLOW, "ad1")] for snapshot in taken[:2]]
    assert days[0] == [365, 365]
    assert days[1] == [365, pytest.approx(30 / 60 / 24, rel=1e-5)]
    happened = CLICKED[SLOW].timestamp() * 1000
    names = [feature.name for feature in first.manifest.known_features]
    values = [{key: [row[name] for name in names] for key, row in snapshot.rows.items()} for snapshot in taken[:2]]
    both = values[0].keys() & values[1].keys()  # between parts some are left out
    changed = [key for key in both if not np.array_equal(values[0][key], values[1][key], equal_nan=True)]
    assert changed
    # The ad has one click more, and so has whoever looks at it next: all of them after the click.
    assert min(moment for *_, moment in changed) > happened
