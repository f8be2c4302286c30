"""Impressions know what came of them and what was known just before, whatever the chunks, and nothing more."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from both_ways import ask, know_attributes, send
from hypothesis import given, settings
from hypothesis import strategies as st
from shown import (
    ITEMS,
    MINUTE,
    NOW,
    SECOND,
    START,
    START_MS,
    VIDEO,
    Row,
    background,
    busy,
    impressions,
    lake,
    row,
    taken,
)

from twinloop.features import outcomes, snapshot
from twinloop.features.snapshot import Resources, content_id, make_snapshot
from twinloop.features.splits import PARTS
from twinloop.features.stores import MemoryFeatureStore
from twinloop.systems.video.features import COUNTING, OUTCOMES

WINDOW_MS = 60 * MINUTE


# Of few impressions the last one alone is judged, and what is not over before it is left out: long after the others.
JUDGED = row("impression", 9 * WINDOW_MS, "somebody else")


def labels(rows: list[Row], **more: Any) -> list[tuple[float, float, float]]:
    found = [r for r in impressions(*taken(rows, **more)) if r["user_id"] != JUDGED["user_id"]]
    return [(r["label_click"], r["label_long_watch"], r["label_watch_s"]) for r in found]


def test_what_comes_within_the_window_is_what_became_of_it():
    shown = row("impression", 0)
    assert labels([shown]) == [(0, 0, 0)]
    assert labels([shown, row("click", SECOND)]) == [(1, 0, 0)]
    assert labels([shown, row("click", 0)]) == [(1, 0, 0)]  # at the same millisecond
    assert labels([shown, row("click", WINDOW_MS)]) == [(1, 0, 0)]
    assert labels([shown, row("click", WINDOW_MS + 1)]) == [(0, 0, 0)]
    assert labels([shown, row("click", -1)]) == [(0, 0, 0)]  # before anything was shown
    assert labels([shown, row("watch", MINUTE, watch_s=8.0, duration_s=10.0)]) == [(0, 1, 8)]
    twice = [row("watch", 2, watch_s=8.0, duration_s=90.0), row("watch", 3, watch_s=20.0, duration_s=90.0)]
    assert labels([shown, *twice]) == [(0, 0, 20)]
    assert labels([shown, row("click", 5, item="other"), row("click", 5, user="other")]) == [(0, 0, 0)]


def test_an_event_belongs_to_the_latest_impression_before_it():
    shown = [row("impression", 0), row("impression", 10 * MINUTE), JUDGED]
    assert labels([*shown, row("click", 5 * MINUTE)]) == [(1, 0, 0), (0, 0, 0)]
    assert labels([*shown, row("click", 11 * MINUTE)]) == [(0, 0, 0), (1, 0, 0)]


def test_where_both_name_a_request_it_must_be_the_same():
    shown = [row("impression", 0, request_id="r0"), row("impression", MINUTE, request_id="r1"), JUDGED]
    assert labels([*shown, row("click", 2 * MINUTE, request_id="r0")]) == [(1, 0, 0), (0, 0, 0)]
    assert labels([*shown, row("click", 2 * MINUTE, request_id="other")]) == [(0, 0, 0), (0, 0, 0)]
    assert labels([*shown, row("click", 2 * MINUTE)]) == [(0, 0, 0), (1, 0, 0)]
    without = [*shown, row("impression", 90 * SECOND)]
    assert labels([*without, row("click", 2 * MINUTE, request_id="r1")])[1:] == [(0, 0, 0), (1, 0, 0)]


@pytest.mark.parametrize(
    ("context", "tab", "device"),
    [
        ('{"tab": 4, "device": "tv", "mood": "good"}', "4", '"tv"'),
        ('{"tab": null}', "null", None),
        ('{"tab": ["a"]}', '["a"]', None),
        ("[1]", None, None),
        ("no JSON", None, None),
        (None, None, None),
    ],
)
def test_facts_of_the_moment_are_kept_as_they_were_said(context, tab, device):
    [found] = impressions(*taken([row("impression", 0, context=context)]))
    assert (found["context_tab"], found["context_device"]) == (tab, device)
    assert "context_mood" not in found


def test_an_impression_whose_window_is_not_over_is_left_out():
    second = WINDOW_MS + 10 * MINUTE
    rows = [row("impression", 0), row("impression", second), row("click", second + 10 * MINUTE)]
    early = [r for r in background() if r["user_id"] != "late"]
    assert taken(rows[:1], extra=[*early, row("hide", WINDOW_MS - 1, "late")])[1].outcomes is None
    assert labels(rows[:1], extra=[*early, row("hide", WINDOW_MS, "late")]) == [(0, 0, 0)]
    assert labels(rows, extra=[*early, row("hide", second + WINDOW_MS - 1, "late")]) == [(0, 0, 0)]
    assert labels(rows, extra=[*early, row("hide", second + WINDOW_MS, "late")]) == [(0, 0, 0), (1, 0, 0)]


def test_a_clock_that_is_ahead_does_not_end_the_wait():
    """What it says happened tomorrow is no sign that today's showings have been waited for."""
    ahead = row("hide", 9 * WINDOW_MS + 2 * WINDOW_MS, "ahead")

    def shown(now_at: float, lake_until: float) -> set[str]:
        """Who was shown something; minutes after `JUDGED`, of the wall clock and of the lake's latest true event."""
        latest = row("hide", 9 * WINDOW_MS + round(lake_until * MINUTE), "latest")
        store = lake([row("impression", 0), JUDGED, latest, ahead, *background()])
        now = START + timedelta(milliseconds=9 * WINDOW_MS + now_at * MINUTE)
        return {r["user_id"] for r in impressions(store, make_snapshot(VIDEO, store, now=now, minimum_cases=1))}

    assert JUDGED["user_id"] not in shown(59.9, 59.9)
    assert JUDGED["user_id"] not in shown(90, 59.9)  # clicks of the last minutes are still to come
    assert JUDGED["user_id"] in shown(60, 60)


def test_doubled_events_and_impressions_of_one_moment_are_one():
    shown = row("impression", 0, event_id="e", position=3)
    assert labels(
        [shown, shown, row("impression", 0, event_id="f", request_id="r"), row("click", 1, request_id="r")]
    ) == [(1, 0, 0)]
    (one,) = impressions(*taken([shown, shown]))
    assert one["position"] == 3
    assert impressions(*taken([row("impression", 0)]))[0]["position"] == -1


@pytest.mark.parametrize("swapped", [False, True])
def test_what_is_told_of_a_moment_comes_from_one_event(swapped):
    """The greatest of each fact by itself would be a television on page b in place 9, which nobody had."""
    some = [
        row("impression", 0, event_id="e1", position=3, context='{"page": "a", "device": "tv"}'),
        row("impression", 0, event_id="e2", position=1, context='{"page": "b", "device": "phone"}'),
        row("impression", 0, event_id="e3", position=9),  # tells less
    ]
    [found] = impressions(*taken([*(some[::-1] if swapped else some), JUDGED]))[:1]
    assert (found["position"], found["context_page"], found["context_device"]) == (3, '"a"', '"tv"')


times = st.one_of(st.integers(0, 6).map(lambda n: n * 20 * MINUTE), st.integers(0, 3 * WINDOW_MS))
requests = st.sampled_from([None, None, "r0", "r1"])
who = st.tuples(st.sampled_from(["u", "v"]), st.sampled_from(["a", "b"]))
events = st.lists(
    st.tuples(
        st.sampled_from(["impression", "impression", "click", "watch"]),
        times,
        who,
        requests,
        st.sampled_from([1.0, 30.0, 70.0]),
    ),
    max_size=14,
)


# Whoever clicks as often as those of the background like is parted, and what spans that is left out; and so is what
# spans the moment since which everybody's predictions are judged, which is to be the last showing's.
FEW = VIDEO.spec.split.model_copy(update={"minimum_events": 9, "test": 0.01})
NOT_PARTED = dataclasses.replace(VIDEO, spec=VIDEO.spec.model_copy(update={"split": FEW}))


def became(rows: list[Row]) -> dict[tuple[str, str, int], list[float]]:
    """The definition, by the letter."""
    at = lambda r: round((r["time"] - START).total_seconds() * 1000)  # noqa: E731
    shown = [r for r in rows if r["type"] == "impression"]
    found = {(r["user_id"], r["item_id"], at(r)): [0.0, 0.0, 0.0] for r in shown}
    for event in rows:
        fitting = [
            at(r)
            for r in shown
            if (r["user_id"], r["item_id"]) == (event["user_id"], event["item_id"])
            and at(r) <= at(event)
            and (None in (r["request_id"], event["request_id"]) or r["request_id"] == event["request_id"])
        ]
        if event["type"] == "impression" or not fitting or at(event) - max(fitting) > WINDOW_MS:
            continue
        label = found[event["user_id"], event["item_id"], max(fitting)]
        if event["type"] == "click":
            label[0] = 1.0
        else:
            label[1:] = [max(label[1], float(event["watch_s"] >= 30)), max(label[2], event["watch_s"])]
    return found


@settings(max_examples=30)
@given(events, st.randoms(use_true_random=False))
def test_labels_are_the_definition_in_whatever_order_events_came(drawn, draw):
    rows = [
        row(kind, at, user, item, request_id=request, event_id=f"e{n}", **({"watch_s": s} if kind == "watch" else {}))
        for n, (kind, at, (user, item), request, s) in enumerate(drawn)
    ]
    expected = became(rows)
    delivered = rows * 2 + [JUDGED] * bool(expected)
    draw.shuffle(delivered)
    store, manifest = taken(delivered, system=NOT_PARTED)
    if not expected:
        assert manifest.outcomes is None
        return
    found = {
        (r["user_id"], r["item_id"], r["time_ms"] - START_MS): [r[f"label_{name}"] for name in OUTCOMES.labels]
        for r in impressions(store, manifest)
        if r["user_id"] != JUDGED["user_id"]
    }
    assert found == expected


def test_values_are_what_the_online_store_would_have_said_at_the_moment():
    rows = busy()
    found = impressions(*taken(rows, items=ITEMS))
    known = [i | {"published_ms": round(i["published_at"].timestamp() * 1000)} for i in ITEMS]
    store, sent = MemoryFeatureStore(), 0
    know_attributes(store, COUNTING, known, [])
    raw = sorted(
        (
            {"watch_s": None, "duration_s": None, "rating": None} | r | {"time_ms": round(r["time"].timestamp() * 1000)}
            for r in [*rows, *background()]
        ),
        key=lambda r: r["time_ms"],
    )
    asked = sorted(found, key=lambda r: r["time_ms"])
    for label in asked:
        while raw[sent]["time_ms"] < label["time_ms"]:
            send(store, COUNTING, [raw[sent]])
            sent += 1
        answer = ask(store, COUNTING, label)
        assert {name: label[name] for name in answer} == pytest.approx(answer, rel=1e-6, abs=1e-6)
    assert {r["duration_s"] for r in found} == {40.0, 41.0, 42.0, 43.0, 44.0}
    places = [[(r["user_id"], r["time_ms"]) for r in found if r["part"] == part] for part in PARTS]
    assert places == [sorted(part) for part in places]


def test_the_same_lake_gives_the_same_bytes_in_chunks_of_any_size(monkeypatch):
    store, whole = taken(busy(), items=ITEMS)
    monkeypatch.setattr(outcomes, "_ROWS_A_MB", 0)  # a chunk for every user and item
    _, parted = taken(busy(), items=ITEMS)
    assert parted.snapshot_id == whole.snapshot_id == content_id(whole)
    assert parted.files == whole.files
    assert {entry.path for entry in whole.files} >= {"train/impressions.parquet", "items/known.npz"}
    # The last twentieth of 240 is judged; of those before it one, 37 minutes earlier, has a window that reaches it.
    assert sum(whole.rows[f"{part}/impressions"] for part in PARTS) == len(impressions(store, whole)) == 240 - 1
    assert whole.outcomes == OUTCOMES.told()
    assert [f.name for f in whole.known_features] == [f.name for f in COUNTING.features if f.source != "history"]


def test_of_too_many_impressions_the_same_ones_are_taken_every_time():
    few = dataclasses.replace(VIDEO, outcomes=dataclasses.replace(OUTCOMES, most=50))
    first, second = (impressions(*taken(busy(), system=few)) for _ in range(2))
    every = impressions(*taken(busy()))
    assert len(first) == 50
    assert first == second
    assert all(found in every for found in first)


def test_parts_are_those_of_interactions():
    rows = [row("impression", n * MINUTE, "b00", f"i{n}") for n in range(3)]  # after all that b00 liked
    _, manifest = taken([*rows, JUDGED])
    assert manifest.rows["test/impressions"] == 3 + 1
    _, manifest = taken([row("impression", 0, "nobody"), JUDGED])
    assert (manifest.rows["train/impressions"], manifest.rows["test/impressions"]) == (1, 1)


@pytest.mark.parametrize("counting", [True, False])
def test_where_nothing_was_shown_a_snapshot_has_nothing_of_it(counting, monkeypatch):
    touched = []
    monkeypatch.setattr(snapshot, "impressions", lambda *_, **__: touched.append(1))
    system = VIDEO if counting else dataclasses.replace(VIDEO, counting=None)
    _, manifest = taken([row("click", 0)] if counting else busy(), system=system)
    assert not [e.path for e in manifest.files if "impressions" in e.path or "known" in e.path]
    assert (manifest.outcomes, manifest.known_features, touched) == (None, (), [])


def test_it_fits_into_little_memory():
    store = lake([*busy(), *background()])
    manifest = make_snapshot(VIDEO, store, now=NOW, minimum_cases=1, resources=Resources(memory_mb=200, threads=1))
    assert manifest.rows["train/impressions"] > 0
