"""A snapshot holds the right rows on the right side, and comes out the same from the same lake."""

import gzip
import hashlib
import io
import json
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinloop.contracts.artefacts import Case, SnapshotManifest
from twinloop.contracts.features import Feature
from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.model import Contract
from twinloop.contracts.spec import GatePolicy, Rung, Split, SystemSpec
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.evaluation.cases import read_cases
from twinloop.evaluation.messages import LeftOut, parse
from twinloop.features.materialise import materialise
from twinloop.features.rungs import chosen_rungs, going_on, snapshot_answer
from twinloop.features.schema import schema_hash
from twinloop.features.snapshot import Resources, content_id, make_snapshot
from twinloop.features.stores import MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.serving.recommendations import RECOMMENDATIONS
from twinloop.systems import load
from twinloop.systems.video.features import FEATURES, STRENGTH_SQL, strength

DEFINED = (
    Feature(name="history", entity="user", kind="last_n", description="", length=200, time_to_live_days=1000),
    *FEATURES,
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
START = datetime(2025, 1, 1, tzinfo=UTC)
START_MS = 1_735_689_600_000


class Row(Contract):
    event_id: str
    type: str
    time: datetime
    user_id: str
    item_id: str
    rating: float | None = None
    watch_s: float | None = None
    duration_s: float | None = None


def system(length: int = 200, **split: object) -> System:
    spec = SystemSpec(
        name="video",
        verb="recommendations",
        requirements="",
        framing="",
        data="",
        architecture="",
        evaluation="",
        deployment="",
        split=Split.model_validate(split),
        rungs=(Rung(name="popularity", framework="xgboost", complexity=0),),
        gate=GatePolicy(primary="ndcg@10"),
        history_length=length,
    )
    return System(
        spec=spec,
        tables={"events": Row},
        features=DEFINED,
        strength_sql=STRENGTH_SQL,
        predictor=lambda models: models,
        judge=lambda predictor, case: {},
        endpoint=RECOMMENDATIONS,
        strength=strength,
    )


def rating(user: str, item: str, minute: float, stars: float = 5.0, event_id: str = "") -> dict[str, object]:
    moment = START + timedelta(minutes=minute)
    event_id = event_id or f"{user}-{item}-{minute}"
    return {"event_id": event_id, "type": "rating", "time": moment, "user_id": user, "item_id": item, "rating": stars}


def put(store: MemoryObjectStore, key: str, rows: list[dict[str, object]]) -> None:
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), body)
    store.write(key, body.getvalue())


def lake(*files: list[dict[str, object]]) -> MemoryObjectStore:
    store = MemoryObjectStore()
    for n, rows in enumerate(files):
        put(store, f"lake/video/events/dt=2025-01-01/{n:04d}.parquet", rows)
    return store


def twelve_users(items: int = 10) -> list[dict[str, object]]:
    return [rating(f"u{u:02d}", f"i{i:02d}", minute=i * 10 + u) for u in range(12) for i in range(items)]


def table(store: MemoryObjectStore, manifest: SnapshotManifest, path: str) -> list[dict[str, object]]:
    body = store.read(f"snapshots/video/{manifest.snapshot_id}/{path}").body
    return pq.read_table(io.BytesIO(body)).to_pylist()


def cases(store: MemoryObjectStore, manifest: SnapshotManifest, part: str) -> list[Case]:
    body = store.read(f"snapshots/video/{manifest.snapshot_id}/cases/{part}.jsonl.gz").body
    return [Case.model_validate_json(line) for line in gzip.decompress(body).splitlines()]


def test_per_user_parts_follow_each_users_own_time():
    store = lake([*twelve_users(), rating("u00", "meh", 75, stars=1.0), rating("few", "i00", 5)])
    manifest = make_snapshot(system(validation=0.1, test=0.2), store, now=NOW)
    parts = {p: table(store, manifest, f"{p}/interactions.parquet") for p in ("train", "validation", "test")}
    mine = {p: [row["item_id"] for row in rows if row["user_id"] == "u00"] for p, rows in parts.items()}
    # Seven, one and two of ten positives; the disliked one at minute 75 lies between the validation's and the test's.
    assert mine == {
        "train": [f"i{n:02d}" for n in range(7)],
        "validation": ["i07", "meh"],
        "test": ["i08", "i09"],
    }
    assert [row["item_id"] for row in parts["train"] if row["user_id"] == "few"] == ["i00"]
    assert manifest.rows == {
        "cases/test": 12,
        "cases/validation": 12,
        "items": 11,
        "test": 24,
        "train": 85,
        "users": 13,
        "validation": 13,
    }
    assert manifest.rows["train"] == len(parts["train"])
    assert (manifest.first_event, manifest.last_event) == (START, START + timedelta(minutes=101))


def test_a_row_knows_only_what_came_before_it():
    store = lake(twelve_users())
    manifest = make_snapshot(system(validation=0.1, test=0.2), store, now=NOW)
    row = table(store, manifest, "test/interactions.parquet")[0]
    assert row["user_id"] == "u00"
    assert row["item_id"] == "i08"
    assert row["time_ms"] == START_MS + 80 * 60_000
    assert row["history"] == [f"i{n:02d}" for n in range(8)]
    assert row["user_positives_30d"] == 8
    assert row["user_days_idle"] == pytest.approx(10 / 1440)
    first = table(store, manifest, "train/interactions.parquet")[0]
    assert first["history"] == []
    assert first["user_days_idle"] == 365


def test_a_case_asks_what_serving_would_have_been_asked():
    store = lake([*twelve_users(), rating("u00", "i00", 200)])  # seen before: no news
    manifest = make_snapshot(system(length=5, validation=0.1, test=0.2), store, now=NOW)
    case = cases(store, manifest, "test")[0]
    assert case.case_id == "u00"
    assert case.request["time_ms"] == START_MS + 80 * 60_000
    assert case.request["history"] == [[f"i{n:02d}", START_MS + n * 600_000, 1.0] for n in range(3, 8)]
    assert case.truth == {"relevant": ["i08", "i09"]}
    assert case.slices["activity"] in {"light", "medium", "heavy"}
    assert case.slices["cold"] == "item"  # everybody comes to i08 and i09 last
    earlier = cases(store, manifest, "validation")[0]
    assert earlier.request["history"][-1][0] == "i06"
    assert earlier.truth == {"relevant": ["i07"]}


def test_a_case_tells_what_is_new_and_what_is_known_of_the_user():
    rows = [*twelve_users(), *(rating("early", f"i{item:02d}", 1) for item in (7, 8, 9))]
    rows.append(rating("u01", "brand new", 82))  # liked by one user, in their test part alone
    store = lake(rows)
    put(store, "lake/video/users/dt=2025-01-01/0000.parquet", [
        {"user_id": "u00", "country": " DE ", "extra": None},
        {"user_id": "u01", "country": None, "extra": '{"device": 7.0, "other": "x"}'},
        {"user_id": "u02", "country": "fr", "extra": "not json"},
    ])  # fmt: skip
    base = system(validation=0.1, test=0.2)
    told = replace(base, spec=base.spec.model_copy(update={"segments": ("country", "device", "nowhere")}))
    manifest = make_snapshot(told, store, now=NOW)
    found = {case.case_id: case for case in cases(store, manifest, "test")}
    assert manifest.segments == ("country", "device", "nowhere")
    assert found["u00"].request["context"] == {"country": "de"}
    assert found["u01"].request["context"] == {"device": "7"}
    assert found["u02"].request["context"] == {"country": "fr"}
    assert "context" not in found["u03"].request
    assert "brand new" in found["u01"].truth["relevant"]
    assert found["u01"].slices["cold"] == "item"
    assert found["u02"].slices["cold"] == "warm"


def test_of_many_users_the_gate_still_picks_the_same(monkeypatch):
    read, ids = [], []
    without_a_case = [rating(f"again{n}", "i00", minute) for n in range(6) for minute in range(10)]
    for most in (20_000, 12, 5):
        monkeypatch.setattr("twinloop.features.snapshot.MOST_CASES", most)
        store = lake([*twelve_users(), *without_a_case])
        manifest = make_snapshot(system(validation=0.1, test=0.2), store, now=NOW, minimum_cases=1)
        assert manifest.most_cases == most
        assert manifest.rows["cases/test"] == manifest.rows["cases/validation"] == min(most, 12)
        assert manifest.rows["users"] == 18
        ids.append([case.case_id for case in cases(store, manifest, "test")])
        body = store.read(f"snapshots/video/{manifest.snapshot_id}/cases/test.jsonl.gz").body
        read.append(read_cases(body, most=4))
    everybody = [f"u{n:02d}" for n in range(12)]
    smallest = sorted(everybody, key=lambda user: hashlib.sha256(user.encode()).digest())[:5]
    assert ids == [everybody, everybody, sorted(smallest)]
    assert read[0] == read[1] == read[2]


def test_a_global_split_is_one_moment_for_all():
    store = lake([*twelve_users(), *[rating("newcomer", f"i{i:02d}", 98 + i * 0.1) for i in range(6)]])
    manifest = make_snapshot(system(strategy="global", validation=0.1, test=0.2), store, now=NOW)
    parts = {p: table(store, manifest, f"{p}/interactions.parquet") for p in ("train", "validation", "test")}
    latest = {p: max(row["time_ms"] for row in rows) for p, rows in parts.items()}
    first = {p: min(row["time_ms"] for row in rows) for p, rows in parts.items()}
    assert latest["train"] < first["validation"] <= latest["validation"] < first["test"]
    newcomer = next(case for case in cases(store, manifest, "test") if case.case_id == "newcomer")
    assert newcomer.request["history"] == []
    assert newcomer.slices == {"activity": "new", "cold": "user"}


def test_without_validation_nothing_is_in_it():
    store = lake(twelve_users())
    manifest = make_snapshot(system(validation=0, test=0.2), store, now=NOW)
    assert (manifest.rows["train"], manifest.rows["validation"], manifest.rows["test"]) == (96, 0, 24)
    assert cases(store, manifest, "validation") == []


def test_an_event_counts_once_and_the_first_file_wins():
    events = twelve_users()
    changed = [event | {"rating": 1.0} for event in events]
    store, twice = lake(events), lake(events, changed, events)
    one = make_snapshot(system(), store, now=NOW)
    other = make_snapshot(system(), twice, now=NOW)
    assert one.files == other.files
    assert one.snapshot_id != other.snapshot_id  # the lake's files are part of what a snapshot says of itself


def test_the_same_lake_gives_the_same_bytes_and_a_second_run_writes_nothing():
    events = twelve_users()
    store = lake(events[:50], events[50:])
    first = make_snapshot(system(), store, now=NOW, resources=Resources(threads=1))
    before = {key: store.read(key).etag for key in store.keys("")}
    again = make_snapshot(system(), store, now=NOW + timedelta(days=1), resources=Resources(memory_mb=512, threads=2))
    assert again == first
    assert {key: store.read(key).etag for key in store.keys("")} == before
    elsewhere = lake(events[:50], events[50:])
    assert make_snapshot(system(), elsewhere, now=NOW).files == first.files
    assert first.snapshot_id == content_id(first)
    assert first.schema_hash == schema_hash(DEFINED)
    assert (first.features, first.history_length) == (DEFINED, 200)


def test_row_order_in_the_lake_does_not_matter():
    events = twelve_users()
    one = make_snapshot(system(), lake(events), now=NOW)
    other = make_snapshot(system(), lake(events[::-1]), now=NOW)
    assert one.files == other.files


def test_items_and_users_are_the_latest_and_complete():
    store = lake(twelve_users())
    old = {"item_id": "i00", "title": "Old", "tags": ["a"], "published_at": START, "extra": None, "duration_s": 1.0}
    put(store, "lake/video/items/dt=2025-01-01/a.parquet", [old, old | {"item_id": "i99", "title": "Ninety-nine"}])
    put(store, "lake/video/items/dt=2025-01-02/a.parquet", [old | {"title": "Amélie"}])
    put(store, "lake/video/users/dt=2025-01-01/a.parquet", [{"user_id": "u00", "extra": '{"age": 3}'}])
    manifest = make_snapshot(system(), store, now=NOW)
    items = {row["item_id"]: row for row in table(store, manifest, "items/items.parquet")}
    assert items["i00"] == {
        "item_id": "i00",
        "duration_s": 1.0,
        "extra": None,
        "published_ms": START_MS,
        "tags": ["a"],
        "title": "Amélie",
    }
    assert items["i99"]["title"] == "Ninety-nine"
    assert items["i05"]["title"] is None  # only events name it
    users = table(store, manifest, "users/users.parquet")
    assert [row["user_id"] for row in users] == [f"u{n:02d}" for n in range(12)]
    assert users[0]["extra"] == '{"age": 3}'
    assert {entry.path.split("/")[2] for entry in manifest.lake_files} == {"events", "items", "users"}


def test_a_row_that_says_when_it_was_updated_is_believed():
    store = lake(twelve_users())
    newer = {"user_id": "u00", "updated_at": START + timedelta(days=2), "extra": "newer"}
    put(store, "lake/video/users/dt=2025-01-03/a.parquet", [newer])
    put(store, "lake/video/users/dt=2025-01-04/a.parquet", [newer | {"updated_at": START, "extra": "older"}])
    manifest = make_snapshot(system(), store, now=NOW)
    assert table(store, manifest, "users/users.parquet")[0] == {
        "user_id": "u00",
        "extra": "newer",
        "updated_ms": START_MS + 2 * 86_400_000,
    }


def test_times_may_be_epoch_milliseconds():
    events = [event | {"time": int(event["time"].timestamp() * 1000)} for event in twelve_users()]
    assert (
        make_snapshot(system(), lake(events), now=NOW).files
        == make_snapshot(system(), lake(twelve_users()), now=NOW).files
    )


def test_the_answer_carries_the_rungs():
    store = lake(twelve_users())
    manifest = make_snapshot(system(), store, now=NOW)
    answer = json.loads(json.dumps(snapshot_answer(system(), manifest, chosen_rungs(system(), None))))
    assert answer["snapshot_key"] == f"snapshots/video/{answer['snapshot_id']}/"
    assert [rung["name"] for rung in answer["rungs"]] == ["popularity"]
    assert answer["left_out"] == []


def test_learning_goes_on_from_the_champion_with_its_own_rung_and_the_baseline():
    manifest = make_snapshot(system(), lake(twelve_users()), now=NOW)
    manifest = manifest.model_copy(update={"rows": {"train/impressions": 5}})
    ads = load("ads")
    champion = going_on(ads.spec.rungs, "logistic", "registry/ads/click/versions/v/")
    answer = snapshot_answer(ads, manifest, ads.spec.rungs, champion=champion)
    assert answer["champion_key"] == "registry/ads/click/versions/v/"
    assert [rung["name"] for rung in answer["rungs"]] == ["base_rate", "logistic"]
    reason = "not trained, as learning went on from the champion, which is logistic"
    assert answer["left_out"] == [{"rung": name, "reason": reason} for name in ("click_trees", "cross_network")]
    assert snapshot_answer(ads, manifest, ads.spec.rungs)["champion_key"] == ""
    for rungs, rung in ((ads.spec.rungs, "click_trees"), (load("video").spec.rungs, "ease"), ((), "logistic")):
        with pytest.raises(BadInputError, match=f"the champion is {rung}, and .* can go on, each from its own"):
            going_on(rungs, rung, "key")


@pytest.mark.parametrize("rows", [None, 0, 7])
def test_a_rung_for_which_the_snapshot_lacks_something_is_left_out_by_name(rows):
    manifest = make_snapshot(system(), lake(twelve_users()), now=NOW)
    more = {} if rows is None else {"train/impressions": rows, "test/impressions": 5}
    manifest = manifest.model_copy(update={"rows": {**manifest.rows, **more}})
    video = load("video")
    needing = [rung.name for rung in video.spec.rungs if rung.needs]
    assert needing == ["multitask_ranker"]
    answer = json.loads(json.dumps(snapshot_answer(video, manifest, chosen_rungs(video, None))))
    started = [rung["name"] for rung in answer["rungs"]]
    assert started == [rung.name for rung in video.spec.rungs if rows or rung.name not in needing]
    lacking = {"rung": "multitask_ranker", "reason": "not trained, as the snapshot has no impressions"}
    assert answer["left_out"] == ([] if rows else [lacking])
    assert parse({**answer, "results": []}).left_out == tuple(LeftOut(**entry) for entry in answer["left_out"])
    named = ["multitask_ranker"]
    if rows:
        assert snapshot_answer(video, manifest, chosen_rungs(video, named), named=named)["left_out"] == []
        return
    with pytest.raises(BadInputError, match=r"^multitask_ranker cannot be trained: the snapshot has no impressions"):
        snapshot_answer(video, manifest, chosen_rungs(video, named), named=named)
    others = ["ease"]
    assert snapshot_answer(video, manifest, chosen_rungs(video, others), named=others)["left_out"] == []


def test_rungs_are_chosen_by_name_and_the_baseline_comes_with_them():
    video = load("video")
    assert chosen_rungs(video, None) == video.spec.rungs
    assert [rung.name for rung in chosen_rungs(video, ["two_tower", "ease"])] == ["popularity", "ease", "two_tower"]
    for wrong in (["ease", "quantum"], "ease"):
        with pytest.raises(BadInputError, match=r"rungs of video are .*ease, .*popularity"):
            chosen_rungs(video, wrong)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no events.*load data first"),
        ([[rating("u", "i", 1) | {"type": "impression"}]], "only impressions.*load more data"),
        ([[rating("u", f"i{n}", n) for n in range(20)]], "only 1 users can be judged.*load more data"),
        ([[rating(f"u{u}", f"i{i}", i) for u in range(20) for i in range(4)]], "only 0 users.*5 or more positive"),
        ([[{"event_id": "1", "user_id": "u"}]], "no column item_id, time, type"),
    ],
)
def test_a_lake_that_is_not_enough_says_what_is_missing(files, message):
    with pytest.raises(BadInputError, match=message):
        make_snapshot(system(), lake(*files), now=NOW)


def test_a_global_split_without_positives_says_so():
    store = lake([rating("u", f"i{n}", n, stars=1.0) for n in range(9)])
    with pytest.raises(BadInputError, match="no positive events; load more data"):
        make_snapshot(system(strategy="global"), store, now=NOW)


def test_materialised_histories_meet_live_ones():
    store = lake(twelve_users(items=8))
    online = MemoryOnlineStore()
    live = HistoryEntry("live", START_MS + 10**9, 1.0)
    online.merge("video", "u00", [live])
    for _ in range(2):
        assert materialise(system(length=4), store, online) == {"system": "video", "users": 12}
    assert [entry.item_id for entry in online.history("video", "u00")] == ["i05", "i06", "i07", "live"]
    assert [entry.item_id for entry in online.history("video", "u11")] == ["i04", "i05", "i06", "i07"]
    assert materialise(system(), lake(), MemoryOnlineStore()) == {"system": "video", "users": 0}


events_of_few = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "w"]), st.sampled_from("abcdefghij"), st.integers(0, 12), st.sampled_from([1.0, 5.0])
    ),
    min_size=12,
    max_size=60,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])
@given(events_of_few, st.sampled_from([(0.0, 0.2), (0.1, 0.2), (0.1, 0.1), (0.25, 0.4)]))
def test_every_event_is_in_one_part_and_the_parts_have_their_sizes(rows, shares):
    validation, test = shares
    store = lake([rating(u, i, m, stars, event_id=str(n)) for n, (u, i, m, stars) in enumerate(rows)])
    try:
        manifest = make_snapshot(system(validation=validation, test=test), store, now=NOW, minimum_cases=0)
    except BadInputError:
        return  # nothing left to train on
    best: dict[tuple[str, str, int], float] = {}
    for u, i, m, stars in rows:
        best[u, i, m] = max(best.get((u, i, m), 0.0), float(stars >= 4))
    found: dict[tuple[str, str, int], str] = {}
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(("train", "validation", "test"), 0))
    times: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for part in ("train", "validation", "test"):
        for row in table(store, manifest, f"{part}/interactions.parquet"):
            key = (row["user_id"], row["item_id"], (row["time_ms"] - START_MS) // 60_000)
            assert key not in found
            found[key] = part
            assert row["strength"] == best[key]
            sizes[row["user_id"]][part] += row["strength"] >= 0.5
            times[row["user_id"]][part].append(row["time_ms"])
    assert found.keys() == best.keys()
    for user, counts in sizes.items():
        n = sum(counts.values())
        both, train = int(n * round(1 - test, 9)), int(n * round(1 - test - validation, 9))
        expected = {"train": train, "validation": both - train, "test": n - both}
        assert counts == (expected if n >= 5 else {"train": n, "validation": 0, "test": 0})
        seen = times[user]
        assert max(seen["train"], default=0) <= min(seen["validation"] + seen["test"], default=2**62)
