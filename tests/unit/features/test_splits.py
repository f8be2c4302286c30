"""A user's parts begin when the list was asked for that led to their first positive; what came of it is in one part."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shown import ITEMS, MINUTE, NOW, START_MS, VIDEO, Row, background, busy, impressions, lake, row, taken

from twinloop.contracts.artefacts import Case, SnapshotManifest
from twinloop.contracts.spec import Split
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import VideoSettings, WorldSettings
from twinloop.features.judged import ITEMS_FILE, SHOWN_FILE, USERS_FILE, ItemsAsOf, read_users
from twinloop.features.knowledge import UserKnowledge
from twinloop.features.snapshot import make_snapshot
from twinloop.ports import MemoryObjectStore
from twinloop.systems.video.features import COUNTING

WINDOW_MS = 60 * MINUTE
SEEN = "user_item_impressions_30d"


def split(strategy: str = "per_user", **more: float) -> Any:
    """Video, of whose ten positives the last one is tested and the one before validates."""
    shares = Split.model_validate({"strategy": strategy, "validation": 0.1, "test": 0.1, "minimum_events": 5} | more)
    return replace(VIDEO, spec=VIDEO.spec.model_copy(update={"split": shares}))


def liked(n: int, user: str = "u") -> list[Row]:
    """What a user liked a day before, one item a minute."""
    return [row("rating", (i - 24 * 60) * MINUTE, user, f"old{i}", rating=5.0) for i in range(n)]


def read(store: MemoryObjectStore, manifest: SnapshotManifest, name: str) -> bytes:
    return store.read(f"snapshots/video/{manifest.snapshot_id}/{name}").body


def cases(store: MemoryObjectStore, manifest: SnapshotManifest, part: str = "test") -> dict[str, Case]:
    lines = gzip.decompress(read(store, manifest, f"cases/{part}.jsonl.gz")).splitlines()
    return {case.case_id: case for case in map(Case.model_validate_json, lines)}


def held_out(store: MemoryObjectStore, manifest: SnapshotManifest) -> list[Case]:
    """The impressions that predictions are judged on."""
    return [Case.model_validate_json(line) for line in gzip.decompress(read(store, manifest, SHOWN_FILE)).splitlines()]


def asked(rows: list[Row], user: str = "u", part: str = "test", **more: Any) -> int:
    """When a user's case asks, since the start."""
    return int(cases(*taken(rows, system=split(**more)), part)[user].request["time_ms"]) - START_MS


def parts(rows: list[Row], **more: Any) -> dict[str, str]:
    """Item -> the part that its impression of `u` is in."""
    return {r["item_id"]: r["part"] for r in impressions(*taken(rows, system=split(**more))) if r["user_id"] == "u"}


def seen(store: MemoryObjectStore, manifest: SnapshotManifest, case: Case, item_ids: list[str]) -> list[float]:
    """How often the case's user was shown each item in 30 days, as the gate's case knows."""
    items = ItemsAsOf(COUNTING, read(store, manifest, ITEMS_FILE))
    user = read_users(read(store, manifest, USERS_FILE))[case.case_id]
    asked_ms = int(case.request["time_ms"])
    return UserKnowledge(COUNTING, user, items).tensor([SEEN], item_ids, asked_ms)[:, 0].tolist()


def a_list(at: float, *items: str, request: str | None = "r", apart: int = 0) -> list[Row]:
    return [row("impression", at + n * apart, item=item, request_id=request) for n, item in enumerate(items)]


CLICK = 5 * MINUTE


def test_the_test_begins_when_its_first_list_was_asked_for():
    rows = [*liked(9), *a_list(0, "a", "b", "c", apart=20), row("click", CLICK, item="b", request_id="r")]
    store, manifest = taken(rows, system=split())
    case = cases(store, manifest)["u"]
    assert case.request["time_ms"] == START_MS
    assert case.truth["relevant"] == ["b"]
    assert [item_id for item_id, *_ in case.request["history"]] == [f"old{i}" for i in range(9)]
    assert seen(store, manifest, case, ["a", "b", "c"]) == [0, 0, 0]
    assert {r["item_id"]: (r["part"], r["label_click"]) for r in impressions(store, manifest)} == {
        "a": ("test", 0), "b": ("test", 1), "c": ("test", 0)
    }  # fmt: skip


def test_what_was_shown_in_an_earlier_list_is_known():
    rows = [*liked(9), *a_list(-90 * MINUTE, "a", request="q"), *a_list(0, "a", "b")]
    store, manifest = taken([*rows, row("click", CLICK, item="b", request_id="r")], system=split())
    assert seen(store, manifest, cases(store, manifest)["u"], ["a", "b"]) == [1, 0]


def test_an_impression_whose_window_reaches_the_list_is_in_no_part():
    rows = [*liked(9), *a_list(0, "a", "b"), row("click", CLICK, item="b", request_id="r")]
    before = [*a_list(-WINDOW_MS - 1, "early", request="p"), *a_list(-WINDOW_MS, "late", request="q")]
    assert parts([*rows, *before]) == {"early": "validation", "a": "test", "b": "test"}


def test_who_is_shown_nothing_begins_where_they_liked_something():
    others = [row("impression", 0, "v", "b", request_id="r"), row("impression", 0, item="other", request_id="r")]
    rows = [*liked(9), row("click", CLICK, item="b", request_id="r")]
    assert asked(rows) == asked([*rows, *others]) == CLICK
    assert asked([*liked(9), row("click", CLICK, item="b")], part="validation") == -(24 * 60 - 8) * MINUTE


@pytest.mark.parametrize(
    ("request_id", "at"), [("r0", 0), ("r1", MINUTE), (None, MINUTE), ("unheard of", CLICK), ("r2", CLICK)]
)
def test_a_positive_with_a_request_was_led_to_by_that_request(request_id, at):
    shown = [*a_list(0, "a", "b", request="r0", apart=10), *a_list(MINUTE, "b", "c", request="r1", apart=10)]
    rows = [*liked(9), *shown, *a_list(2 * MINUTE, "d", request="r2")]
    assert asked([*rows, row("click", CLICK, item="b", request_id=request_id)]) == at


def test_showings_without_a_request_lead_by_themselves():
    rows = [*liked(9), *a_list(0, "a", "b", request=None, apart=MINUTE)]
    for request_id in (None, "r"):
        assert asked([*rows, row("click", CLICK, item="b", request_id=request_id)]) == MINUTE


def test_what_lies_outside_the_window_moves_nothing():
    click = row("click", WINDOW_MS, item="b", request_id="r")
    assert asked([*liked(9), *a_list(0, "b"), click]) == 0
    assert asked([*liked(9), *a_list(-1, "b"), click]) == WINDOW_MS
    assert asked([*liked(9), *a_list(WINDOW_MS + 1, "b"), click]) == WINDOW_MS  # nor what comes later
    # A request that shows on and on was asked for at most the window before what it showed last.
    assert asked([*liked(9), *a_list(-WINDOW_MS, "x"), *a_list(0, "b"), row("click", 9, item="b")]) == -WINDOW_MS
    assert asked([*liked(9), *a_list(-WINDOW_MS - 1, "x"), *a_list(0, "b"), row("click", 9, item="b")]) == 0


def test_validation_begins_with_its_list_too():
    lists = [*a_list(0, "a", "b", request="r0"), *a_list(3 * WINDOW_MS, "c", "d", request="r1")]
    clicks = [row("click", CLICK, item="a"), row("click", 3 * WINDOW_MS + CLICK, item="d")]
    rows = [*liked(8), *lists, *clicks]
    assert (asked(rows, part="validation"), asked(rows)) == (0, 3 * WINDOW_MS)
    assert parts(rows) == {"a": "validation", "b": "validation", "c": "test", "d": "test"}


def test_one_list_that_led_to_both_is_wholly_test():
    rows = [*liked(8), *a_list(0, "a", "b"), row("click", CLICK, item="a"), row("click", 2 * CLICK, item="b")]
    store, manifest = taken(rows, system=split())
    assert cases(store, manifest)["u"].truth["relevant"] == ["a", "b"]
    assert "u" not in cases(store, manifest, "validation")
    assert parts(rows) == {"a": "test", "b": "test"}


def test_a_moment_for_everybody_moves_only_for_whom_a_list_spans_it():
    """Of 109 likes the 98th and 99th, of others, part everybody; `u` has looked at a list then, `v` has not."""
    fillers = [row("rating", CLICK + n, f"w{n}", "x", rating=5.0) for n in range(20)]
    mine = [*liked(5), *a_list(0, "a", "b"), row("click", 2 * CLICK, item="b", request_id="r")]
    late = row("impression", 2 * CLICK + 1, "v", "a", request_id="s")
    theirs = [*liked(5, "v"), late, row("click", 3 * CLICK, "v", "a", request_id="s")]
    store, manifest = taken([*fillers, *mine, *theirs], system=split("global"))
    found = cases(store, manifest)
    assert found["u"].request["time_ms"] == START_MS
    assert found["v"].request["time_ms"] == START_MS + 2 * CLICK + 1
    assert {r["item_id"]: r["part"] for r in impressions(store, manifest) if r["user_id"] == "u"} == {
        "a": "test", "b": "test"
    }  # fmt: skip


def test_since_one_moment_everything_is_test_whoever_saw_it():
    """Of eleven impressions the last three are judged, a quarter. `u` is tested already, `w` not yet, `v` never."""
    since, test = 100 * WINDOW_MS, 0.25
    likes = [row("rating", CLICK, "u", f"new{n}", rating=5.0) for n in range(2)]
    likes += [row("rating", since - 3 * WINDOW_MS, "w", "new", rating=5.0)]
    likes += [row("rating", since + 10 * WINDOW_MS, "w", f"new{n}", rating=5.0) for n in range(3)]
    shown = [
        *(row("impression", 0, "x", f"early{n}") for n in range(3)),
        row("impression", 0, "u", "own"),
        row("click", 1, "u", "own"),
        *(row("impression", since - WINDOW_MS - 1, user, "over") for user in ("v", "w")),
        *(row("impression", since - WINDOW_MS, user, "not over") for user in ("v", "w")),
        *(row("impression", since + n, user, "late") for n, user in enumerate(("u", "v", "w"))),
    ]
    store, manifest = taken([*liked(7), *liked(6, "w"), *likes, *shown], system=split(test=test))
    assert {(r["user_id"], r["item_id"]): r["part"] for r in impressions(store, manifest)} == {
        **{("x", f"early{n}"): "train" for n in range(3)},
        **{("u", "own"): "test", ("v", "over"): "train", ("w", "over"): "validation"},
        **{(user, "late"): "test" for user in ("u", "v", "w")},
    }
    judged = [(case.request["user_id"], case.request["item_id"]) for case in held_out(store, manifest)]
    assert judged == [(user, "late") for user in ("u", "v", "w")]


@pytest.mark.parametrize("most", [240, 50])
@pytest.mark.parametrize("strategy", ["per_user", "global"])
def test_the_share_of_the_test_is_judged_of_those_that_are_taken(strategy, most):
    system = split(strategy, test=0.15)
    system = replace(system, outcomes=replace(system.outcomes, most=most))
    rows = [*busy(), *(row("click", 240 * 37 * MINUTE + n, f"u{n}", "new", event_id=f"new{n}") for n in range(4))]
    store, manifest = taken(rows, system=system, items=ITEMS)
    check(store, manifest, rows)
    assert len(held_out(store, manifest)) == pytest.approx(0.15 * most, abs=1)


things = st.lists(
    st.tuples(
        st.sampled_from(["impression", "impression", "click"]),
        st.one_of(st.integers(0, 9).map(lambda n: n * 20 * MINUTE), st.integers(0, 4 * WINDOW_MS)),
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from([None, "r0", "r1", "r2"]),
    ),
    max_size=16,
)


@settings(max_examples=15)
@given(things)
def test_nothing_that_is_learnt_from_has_an_outcome_in_the_test(drawn):
    rows = [
        *liked(6),
        *(
            row(kind, at, item=i, request_id=request, event_id=f"e{n}")
            for n, (kind, at, i, request) in enumerate(drawn)
        ),
    ]
    system = split(test=0.25)
    store = lake([*rows, *background()])
    check(store, make_snapshot(system, store, now=NOW, minimum_cases=1), rows)


def check(store: MemoryObjectStore, manifest: SnapshotManifest, rows: list[Row]) -> None:
    """Hold a snapshot's cases and impressions against the events, by the letter."""
    happened = defaultdict(list)
    for event in rows:
        at = round(event["time"].timestamp() * 1000)
        happened[event["user_id"]].append((at, event["type"], event["item_id"]))
    shown = defaultdict(list)
    for found in impressions(store, manifest) if manifest.outcomes else ():
        shown[found["user_id"]].append(found)
    if manifest.outcomes:
        check_judged(store, manifest, [found for mine in shown.values() for found in mine])
    for part, later in (("test", ()), ("validation", ("test",))):
        for user, case in cases(store, manifest, part).items():
            asked_ms = case.request["time_ms"]
            assert all(at < asked_ms for _, at, _ in case.request["history"])
            for found in shown[user]:
                if found["part"] in (part, *later):
                    continue
                came = [at for at, kind, item in happened[user] if kind != "impression" and item == found["item_id"]]
                assert not [
                    at for at in came if found["time_ms"] <= at <= found["time_ms"] + WINDOW_MS and at >= asked_ms
                ]
            relevant = [e for e in happened[user] if e[2] in case.truth["relevant"] and e[1] != "impression"]
            assert all(at >= asked_ms for at, *_ in relevant)


def check_judged(store: MemoryObjectStore, manifest: SnapshotManifest, shown: list[Row]) -> None:
    """Predictions are judged on everything since one moment, which is test, and by which all else is over."""
    who = ("user_id", "item_id", "time_ms")
    judged = {tuple(case.request[name] for name in who) for case in held_out(store, manifest)}
    since = min(time_ms for *_, time_ms in judged)
    assert judged == {tuple(found[name] for name in who) for found in shown if found["time_ms"] >= since}
    for found in shown:
        assert found["part"] == "test" or found["time_ms"] + WINDOW_MS < since


def simulated(folder: Path, *, users: int, events: int) -> tuple[MemoryObjectStore, list[Row]]:
    """A lake of two simulated weeks, and what happened in it; the truth is beside it in the folder."""
    world = WorldSettings(users=users, items=150, days=14, seed=3)
    simulate(folder, world, VideoSettings(events=events), kind="parquet")
    rows = [
        event | {"context": json.dumps(event["context"]), "rating": None}
        for file in (folder / "raw" / "events").glob("*.parquet")
        for event in pq.read_table(file).to_pylist()
    ]
    (items,) = (folder / "raw" / "items").glob("*.parquet")
    return lake(rows, pq.read_table(items).to_pylist()), rows


def test_the_true_probabilities_of_what_is_judged_sum_to_its_clicks(tmp_path):
    """Many users of few events: most of the lists in a user's own test led to the like that it begins with."""
    store, _ = simulated(tmp_path / "made", users=1000, events=20_000)
    found = held_out(store, make_snapshot(VIDEO, store, now=NOW))
    columns = ("user_id", "item_id", "time", "p_click")
    truth = pq.read_table(tmp_path / "made" / "truth.parquet", columns=list(columns)).to_pylist()
    true = {(r["user_id"], r["item_id"], round(r["time"].timestamp() * 1000)): r["p_click"] for r in truth}
    p_click = np.array(
        [true[case.request["user_id"], case.request["item_id"], case.request["time_ms"]] for case in found]
    )
    clicks = sum(case.truth["click"] for case in found)
    assert len(found) > 500
    assert abs(clicks - p_click.sum()) < 4 * np.sqrt((p_click * (1 - p_click)).sum())


def test_simulated_users_are_asked_before_the_list_that_they_saw(tmp_path):
    store, rows = simulated(tmp_path / "made", users=120, events=12_000)
    manifest = make_snapshot(VIDEO, store, now=NOW)
    check(store, manifest, rows)

    happened = defaultdict(list)
    for event in rows:
        if event["type"] == "impression":
            at = round(event["time"].timestamp() * 1000)
            happened[event["user_id"]].append((at, event["item_id"], event["request_id"]))
    lists = 0
    for user, case in cases(store, manifest).items():
        mine, asked_ms = happened[user], case.request["time_ms"]
        requests = {request for at, _, request in mine if at == asked_ms}
        judged = {item for _, item, request in mine if request in requests}
        if not judged:
            continue
        lists += 1
        fresh = sorted(judged - {item for at, item, _ in mine if at < asked_ms})
        assert seen(store, manifest, case, fresh) == [0] * len(fresh)
    assert lists > 50
