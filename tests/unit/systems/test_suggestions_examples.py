"""Examples of the lake know of a moment what the online store would have known, and what came of it."""

from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_suggestions import HOUR_MS, NOW_MS, World, event, predictor, question

from twinloop.contracts.tally import Happening, key_of
from twinloop.datasets.simulator import suggestions_tables
from twinloop.datasets.simulator.settings import SuggestionsSettings, WorldSettings
from twinloop.datasets.simulator.suggestions import SuggestionsApplication
from twinloop.features.counting import count
from twinloop.systems.suggestions.examples import EXAMPLES, FROM_SQL, case
from twinloop.systems.suggestions.features import COUNTING, amounts

ORGANIZER = ("organizer_held", "organizer_came", "organizer_dropped", "organizer_views", "organizer_yeses")
SCHEMAS = {
    "users": "user_id VARCHAR, lat DOUBLE, lon DOUBLE, topics VARCHAR[], friends VARCHAR[]",
    "items": "item_id VARCHAR, lat DOUBLE, lon DOUBLE, starts_ms BIGINT, topics VARCHAR[], organizer_id VARCHAR,"
    " price DOUBLE, capacity BIGINT, time_zone VARCHAR, published_ms BIGINT, cancelled BOOLEAN",
    "events": "event_id VARCHAR, type VARCHAR, time_ms BIGINT, user_id VARCHAR, item_id VARCHAR, request_id VARCHAR,"
    " position BIGINT, context VARCHAR",
}


def made(tables):
    """Run the query on rows; returns examples by id."""
    with duckdb.connect() as connection:
        for name, columns in SCHEMAS.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
            names = [column.split()[0] for column in columns.split(", ")]
            rows = [[row.get(column) for column in names] for row in tables.get(name, ())]
            if rows:
                places = ", ".join("?" * len(names))
                connection.executemany(f"INSERT INTO {name} VALUES ({places})", rows)  # noqa: S608 - our own names
        found = connection.sql(EXAMPLES.sql).to_arrow_table().to_pylist()
    return {row["example_id"]: row for row in found}


def act(kind, user, item, at_h, **more):
    name = f"{kind}-{user}-{item}-{at_h}"
    row = {"event_id": name, "type": kind, "user_id": user, "item_id": item, "time_ms": int(NOW_MS + at_h * HOUR_MS)}
    return row | more


END = act("decline", "z", "x", 100)  # so that everything before is over
ITEMS = [event("e", in_h=50, organizer_id="o"), event("x", in_h=200)]


def examples(*events, users=(), items=ITEMS):
    return made({"users": users, "items": items, "events": [*events, END]})


def view(user="u", item="e", at_h=0.0, request="r", **more):
    return act("view", user, item, at_h, request_id=request, **more)


def test_a_yes_is_owed_to_the_list_that_it_names():
    rows = examples(view(request="r1"), view(at_h=1, request="r2"), act("rsvp", "u", "e", 2, request_id="r1"))
    assert {row["group_id"]: row["rsvp"] for row in rows.values()} == {"r1": 1, "r2": 0}


def test_a_yes_that_names_none_is_owed_to_the_latest_list():
    rows = examples(view(request="r1"), view(at_h=1, request="r2"), act("rsvp", "u", "e", 2))
    assert {row["group_id"]: row["rsvp"] for row in rows.values()} == {"r1": 0, "r2": 1}


def test_a_yes_that_comes_late_or_of_somebody_else_is_no_yes():
    rows = examples(view(), view(item="x"), act("rsvp", "u", "e", 7), act("rsvp", "v", "x", 1))
    assert [row["rsvp"] for row in rows.values()] == [0, 0]


def test_what_is_no_question_is_no_example():
    assert not examples(
        act("rsvp", "u", "e", -1), view(),  # had said yes
        view("v", at_h=51),  # had begun
        view("w", at_h=99),  # may be answered still
        view("y", "unheard"),
        act("view", "t", "e", 0),  # of no list
    )  # fmt: skip


def test_nothing_of_the_moment_or_after_it_is_known():
    events = [view(), act("rsvp", "a", "e", -1), act("rsvp", "b", "e", 0), act("rsvp", "c", "e", 1)]
    (row,) = examples(*events, act("withdraw", "a", "e", -0.5)).values()
    assert (row["rsvps"], row["withdrawals"], row["user_rsvps"]) == (1, 1, 0)


def test_who_says_it_twice_is_counted_once():
    events = [act("rsvp", "a", "e", -5), act("rsvp", "a", "e", -4), act("withdraw", "b", "e", -3)]
    (row,) = examples(view(), *events, act("withdraw", "a", "e", -2), act("rsvp", "a", "e", -1)).values()
    assert (row["rsvps"], row["withdrawals"], row["organizer_yeses"]) == (2, 1, 2)


WORDS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["rsvp", "withdraw", "decline"])), max_size=12)


@settings(max_examples=30)
@given(WORDS)
def test_the_lake_counts_the_words_that_the_store_counts(words):
    rows = [act(kind, user, "e", -20 + n) for n, (user, kind) in enumerate(words)]
    world = World(ITEMS)
    for row in rows:
        happening = Happening(row["time_ms"], key_of(row["event_id"]), amounts(row))
        assert not count("suggestions", COUNTING, world.store, [(row["user_id"], "e", happening)])
    names = ["item_rsvps", "item_withdrawals"]
    (told,) = world.knowledge().tensor(names, ["e"], NOW_MS).tolist()
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE once ({SCHEMAS['events']})")
        for row in rows:
            of = [row[name] for name in ("event_id", "type", "time_ms", "user_id", "item_id")]
            connection.execute("INSERT INTO once BY POSITION VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)", of)
        sums = ", ".join(f"coalesce(sum(a{n}), 0)::INT" for n in range(2))
        columns = ", ".join(f"{sql} AS a{n}" for n, sql in enumerate(COUNTING.amounts_sql))
        found = connection.execute(f"SELECT {sums} FROM (SELECT {columns} FROM once)").fetchone()  # noqa: S608 - our own
    last = {user: kind for user, kind in words if kind != "decline"}
    assert told == list(found)
    assert told[0] - told[1] == sum(kind == "rsvp" for kind in last.values())


def test_an_organisers_record_is_of_what_is_over():
    items = [*ITEMS, *(event(f"p{n}", in_h=-10 + n, organizer_id="o") for n in range(2)), event("q", organizer_id="o")]
    events = [view(), act("rsvp", "a", "p0", -20), act("rsvp", "b", "p0", -20), act("rsvp", "a", "q", -20)]
    events += [act("cancel", "o", "p1", -15), act("rsvp", "b", "p1", -20)]
    (row,) = examples(*events, items=items).values()
    assert [row[name] for name in ORGANIZER] == [2, 2, 1, 0, 4]


@pytest.mark.parametrize(
    ("words", "held", "came", "dropped"),
    [
        ([], 1, 1, 0),
        ([("cancel", -15)], 1, 0, 1),
        ([("cancel", -15), ("restore", -14)], 1, 1, 0),
        ([("cancel", -15), ("cancel", -14), ("restore", -13)], 1, 1, 0),
        ([("cancel", -15), ("restore", -14), ("cancel", -13)], 1, 0, 1),
        ([("restore", -15), ("cancel", -14), ("cancel", -13)], 1, 0, 1),
        ([("cancel", -15), ("restore", -5)], 1, 0, 1),  # when it should have begun it was off
        ([("cancel", -5)], 1, 1, 0),  # it had begun
    ],
)
def test_an_organiser_dropped_what_was_off_when_it_should_have_begun(words, held, came, dropped):
    items = [*ITEMS, event("p", in_h=-10, organizer_id="o")]
    events = [view(), act("rsvp", "a", "p", -20), *(act(kind, "o", "p", at_h) for kind, at_h in words)]
    (row,) = examples(*events, items=items).values()
    assert [row[name] for name in ORGANIZER[:3]] == [held, came, dropped]


def test_an_event_that_is_off_is_told_as_of_each_moment():
    items = [*ITEMS, event("p", in_h=9, organizer_id="o")]
    words = [act("cancel", "o", "p", 1), act("restore", "o", "p", 3), act("cancel", "o", "p", 5)]
    rows = examples(*(view(at_h=h, request=f"r{h}") for h in (0, 2, 4, 6, 10)), *words, items=items)
    assert {row["group_id"]: (row["organizer_held"], row["organizer_dropped"]) for row in rows.values()} == {
        "r0": (0, 0), "r2": (1, 1), "r4": (0, 0), "r6": (1, 1), "r10": (1, 1),
    }  # fmt: skip


def test_what_a_row_says_is_off_did_not_take_place():
    items = [*ITEMS, event("p", in_h=-10, organizer_id="o", cancelled=True), event("q", organizer_id="o")]
    events = [view(), view(at_h=-12, request="before"), act("rsvp", "a", "p", -20), act("cancel", "o", "q", -1)]
    rows = {row["group_id"]: row for row in examples(*events, items=items).values()}
    assert [rows["r"][name] for name in ORGANIZER[:3]] == [2, 0, 2]
    assert [rows["before"][name] for name in ORGANIZER[:3]] == [0, 0, 0]


def test_friends_are_counted_by_their_latest_word():
    users = [{"user_id": "u", "friends": ["a", "b", "c", "a"]}]
    events = [act("rsvp", "a", "e", -3), act("rsvp", "b", "e", -3), act("withdraw", "b", "e", -2)]
    (row,) = examples(view(), *events, act("rsvp", "c", "e", 1), act("rsvp", "d", "e", -1), users=users).values()
    assert (row["friends"], row["friends_going"]) == (3, 1)


@pytest.mark.parametrize(
    ("friends", "going"), [([], 0), (["a"], 0), (["a", "b"], 0), (["a", "b", "b"], 0), (["a", "b", "c"], 2)]
)
def test_a_model_learns_of_friends_plans_what_it_will_be_told(friends, going):
    """An answer would show whose plan it is where few people are known, so neither side counts it."""
    words = [act("rsvp", "a", "e", -3), act("rsvp", "b", "e", -2)]
    (row,) = examples(view(), *words, users=[{"user_id": "u", "friends": friends}]).values()
    world = World(ITEMS, {"u": {"friends": friends}})
    for word in words:
        world.happens("rsvp", word["user_id"], "e", word["time_ms"])
    known, release = world.knowledge(), predictor(ITEMS)
    facts, _, _ = release._facts(np.array([release.catalogue.place["e"]]), release_question(release, known, view()))
    for name in ("friends", "friends_going"):
        assert row[name] == facts[name][0]
    assert row["friends_going"] == going


@pytest.mark.parametrize(
    ("context", "place"),
    [
        ('{"lat": 10.5, "lon": -170}', (10.5, -170)),
        (None, (1.0, 2.0)),
        ('{"lat": 91, "lon": 0}', (1.0, 2.0)),
        ('{"lat": "here"}', (1.0, 2.0)),
    ],
)
def test_where_somebody_was_is_what_they_told_or_home(context, place):
    (row,) = examples(view(context=context), users=[{"user_id": "u", "lat": 1.0, "lon": 2.0}]).values()
    assert (row["place_lat"], row["place_lon"]) == place


def test_a_list_is_a_case_where_it_tells_something():
    rows = examples(view(), view(item="x"), act("rsvp", "u", "e", 1), users=[{"user_id": "u", "topics": ["jazz"]}])
    found = case(list(rows.values()))
    assert (found.case_id, found.truth) == ("r", {"came": ["e"]})
    assert found.slices == {"activity": "new", "place": "unknown"}
    assert found.request["liked"] == ["jazz"]
    assert {one["item_id"]: one["topics_shared"] for one in found.request["events"]} == {"e": 1, "x": 1}
    assert all(one["offset_min"] == 120 for one in found.request["events"])
    assert case([row | {"rsvp": 0} for row in rows.values()]) is None
    assert case([row | {"rsvp": 1} for row in rows.values()]) is None


@pytest.mark.slow
def test_the_lake_and_the_store_know_the_same_of_every_moment():
    application = SuggestionsApplication(WorldSettings(users=60, items=120, days=12), SuggestionsSettings(events=3_000))
    tables = {
        name: pa.concat_tables(pieces).to_pylist()
        for name, pieces in (
            ("users", list(suggestions_tables.users(application))),
            ("items", list(suggestions_tables.items(application))),
            ("events", [suggestions_tables.events(piece, application) for piece in application.pieces()]),
        )
    }
    for row in tables["items"]:
        row |= {"starts_ms": milliseconds(row["starts_at"]), "published_ms": milliseconds(row["published_at"])}
    for row in tables["events"]:
        row |= {"time_ms": milliseconds(row["time"]), "context": None}
    found = made(tables)
    users = {row["user_id"]: {n: row[n] for n in ("lat", "lon", "topics", "friends")} for row in tables["users"]}
    world, release = World(tables["items"], users), predictor(tables["items"], since_ms=0)
    place = release.catalogue.place
    checked = 0
    for row in sorted(tables["events"], key=lambda event: event["time_ms"]):
        example = found.get(row["event_id"])
        if example is not None:
            known = world.knowledge(row["user_id"], now_ms=row["time_ms"])
            asking = release_question(release, known, row)
            facts, _, knows = release._facts(np.array([place[row["item_id"]]]), asking)
            assert knows
            told = {name: example[name] for name in FROM_SQL if name not in ORGANIZER}
            mine = {name: float(facts[name][0]) for name in told}
            assert {n: v for n, v in mine.items() if v == v} == pytest.approx(  # noqa: PLR0124 - NaN
                {name: value for name, value in told.items() if value is not None}, abs=2e-5
            )
            checked += 1
        if row["type"] != "view":
            happening = Happening(row["time_ms"], key_of(row["event_id"]), amounts(row))
            assert not count("suggestions", COUNTING, world.store, [(row["user_id"], row["item_id"], happening)])
    assert checked > 1_000


def release_question(release, known, row):
    from twinloop.systems.suggestions.presets import PRESETS
    from twinloop.systems.suggestions.serve import Asking, _person

    asked = question(known, at_ms=row["time_ms"], lat=None, lon=None)
    return Asking(
        asked.request, _person(asked.request, known, row["time_ms"]), known, row["time_ms"], PRESETS["balanced"]
    )


def milliseconds(moment):
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
