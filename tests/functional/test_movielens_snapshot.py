"""The real MovieLens-100K through the snapshot: the protocol of the quality bars, counted another way."""

import hashlib
import io
import json
from collections import defaultdict
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.spec import Split
from twinloop.datasets.movielens import write_movielens_100k
from twinloop.errors import UnavailableError
from twinloop.features.online import compute
from twinloop.features.snapshot import make_snapshot
from twinloop.features.stores import MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.systems.video.spec import SPEC
from twinloop.systems.video.system import SYSTEM

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movielens")
    try:
        counts = write_movielens_100k(folder)
    except UnavailableError as error:
        pytest.skip(f"MovieLens-100K is not in the cache and cannot be fetched: {error}")
    assert counts == {"users": 943, "items": 1682, "events": 100_000}
    return {
        table: [json.loads(line) for line in (folder / f"{table}.jsonl").read_bytes().splitlines()] for table in counts
    }


@pytest.fixture(scope="module")
def lake(raw):
    store = MemoryObjectStore()
    for table, rows in raw.items():
        columns = pa.Table.from_pylist(rows)
        if table == "events":
            times = columns["time"].cast(pa.timestamp("ms", tz="UTC"))
            columns = columns.set_column(columns.schema.get_field_index("time"), "time", times)
        for n in range(3):
            body = io.BytesIO()
            pq.write_table(columns.slice(n * 40_000, 40_000), body)
            store.write(f"lake/video/{table}/dt=1998-01-0{n + 1}/part.parquet", body.getvalue())
    return store


def test_titles_are_decoded_right(raw):
    titles = {row["title"] for row in raw["items"]}
    assert {"Misérables, Les", "Á köldum klaka (Cold Fever)", "Truth About Cats & Dogs, The"} <= titles
    assert not any("Ã" in title for title in titles)


def test_the_first_int_of_four_fifths_of_the_positives_are_train(raw, lake):
    split = Split(strategy="per_user", validation=0, test=0.2, minimum_events=5)
    system = SYSTEM.__class__(**{**vars(SYSTEM), "spec": SPEC.model_copy(update={"split": split})})
    manifest = make_snapshot(system, lake, now=NOW)
    positives = defaultdict(list)
    for event in raw["events"]:
        if event["rating"] >= 4:
            tie = hashlib.md5(f"{event['user_id']}/{event['item_id']}".encode(), usedforsecurity=False).hexdigest()
            positives[event["user_id"]].append((event["time"], tie, event["item_id"]))
    expected = {"train": set(), "test": set()}
    for user, rows in positives.items():
        cut = int(len(rows) * 0.8) if len(rows) >= 5 else len(rows)
        for n, (_, _, item) in enumerate(sorted(rows)):
            expected["train" if n < cut else "test"].add((user, item))
    for part, pairs in expected.items():
        body = lake.read(f"snapshots/video/{manifest.snapshot_id}/{part}/interactions.parquet").body
        table = pq.read_table(io.BytesIO(body), columns=["user_id", "item_id", "strength"])
        liked = [row for row in table.to_pylist() if row["strength"] >= 0.5]
        assert len(liked) == len(pairs)
        assert {(row["user_id"], row["item_id"]) for row in liked} == pairs
    assert manifest.rows["train"] + manifest.rows["test"] == 100_000
    assert manifest.rows["validation"] == 0
    assert manifest.rows["cases/test"] == 938
    assert (manifest.rows["items"], manifest.rows["users"]) == (1682, 943)


def test_a_replay_of_real_events_sees_online_what_the_snapshot_holds(raw, lake):
    """Users' ratings arrive in batches of one moment; before each the stored history gives the snapshot's values."""
    manifest = make_snapshot(SYSTEM, lake, now=NOW)
    held = {}
    for part in ("train", "validation", "test"):
        body = lake.read(f"snapshots/video/{manifest.snapshot_id}/{part}/interactions.parquet").body
        for row in pq.read_table(io.BytesIO(body)).to_pylist():
            held[row["user_id"], row["item_id"]] = row
    arrivals = defaultdict(list)
    for event in raw["events"]:
        if int(event["user_id"]) % 20 == 0:
            arrivals[event["user_id"], event["time"]].append(event)
    store, compared = MemoryOnlineStore(), 0
    for (user, moment), events in sorted(arrivals.items(), key=lambda arrival: arrival[0][1]):
        values = compute(store.history("video", user), SYSTEM.features, moment, length=SPEC.history_length)
        for event in events:
            for name, value in values.items():
                expected = list(value.value) if isinstance(value.value, tuple) else value.value
                assert held[user, event["item_id"]][name] == expected, (name, event)
                compared += 1
        entries = [HistoryEntry(event["item_id"], moment, SYSTEM.strength(event)) for event in events]
        store.merge("video", user, entries, length=SPEC.history_length)
    assert compared > 11_000
