"""A release of suggestions: what it may suggest, to whom, and why."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_suggestions import BERLIN, HOUR_MS, NOW_MS, TAVEUNI, Nearest, World, event, files, predictor, question

from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Origin
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features.knowledge import FRESH_S, ItemCache
from twinloop.features.stores import Known
from twinloop.serving.loading import load_assets, load_models
from twinloop.systems.suggestions.columns import FACTS, FEATURES
from twinloop.systems.suggestions.endpoint import RECOMMENDATIONS
from twinloop.systems.suggestions.features import COUNTING
from twinloop.systems.suggestions.serve import CANDIDATES, SuggestionsPredictor, judge
from twinloop.training.grouped import ranking_graph


def ids(found):
    return [one.item_id for one in found.events]


def near(km):
    """A place so many km north of Berlin."""
    return (BERLIN[0] + km / 111.2, BERLIN[1])


def test_the_best_is_first_and_told_by_the_clocks_where_it_is():
    items = [event("far", place=near(20)), event("here"), event("mid", place=near(5))]
    found = predictor(items).answer(question(World(items).knowledge()))
    assert ids(found) == ["here", "mid", "far"]
    assert [one.distance_km for one in found.events] == pytest.approx([0, 5, 20], abs=0.1)
    assert found.events[0].local_start == "2026-06-03T13:00+02:00"
    assert (found.placed, found.degraded) == (True, False)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(-72, 72), st.integers(0, 4), st.one_of(st.none(), st.integers(0, 3)), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_what_is_past_full_or_off_is_never_suggested(events, model):
    rows = [event(f"e{n}", in_h=h, capacity=c) for n, (h, _, c, _) in enumerate(events)]
    world = World(rows)
    for n, (_, going, _, off) in enumerate(events):
        for who in range(going):
            world.happens("rsvp", f"p{who}", f"e{n}")
        if off:
            world.happens("cancel", "o", f"e{n}")
    release, asked = predictor(rows), question(world.knowledge())
    found = release.answer(asked) if model else release.base(asked)
    may = {
        f"e{n}"
        for n, (h, g, c, off) in enumerate(events)
        if not off and (c is None or g < c) and round(h * HOUR_MS) > 0
    }
    assert set(ids(found)) <= may
    assert {one for one in may if events[int(one[1:])][0] > 1} <= set(ids(found))


def test_people_are_counted_and_not_how_often_they_say_it():
    rows = [event("e", capacity=2)]
    world = World(rows)
    for n in range(3):
        world.happens("rsvp", "p", "e", NOW_MS - 100 + n)
    assert ids(predictor(rows).answer(question(world.knowledge()))) == ["e"]
    world.happens("rsvp", "q", "e", NOW_MS - 90)
    for n in range(3):
        world.happens("withdraw", "stranger", "e", NOW_MS - 80 + n)
    assert predictor(rows).answer(question(world.knowledge())).full == 1
    world.happens("withdraw", "p", "e", NOW_MS - 50)
    world.happens("withdraw", "p", "e", NOW_MS - 49)
    world.happens("rsvp", "r", "e", NOW_MS - 40)
    assert predictor(rows).answer(question(world.knowledge())).full == 1


def test_a_place_that_becomes_free_is_suggested_again():
    rows = [event("e", capacity=1)]
    world = World(rows)
    world.happens("rsvp", "p", "e")
    full = predictor(rows).answer(question(world.knowledge()))
    assert (ids(full), full.full) == ([], 1)
    world.happens("withdraw", "p", "e", NOW_MS - 1)
    assert ids(predictor(rows).answer(question(world.knowledge()))) == ["e"]


def test_a_cancelled_event_is_gone_and_comes_back_when_it_is_on_again():
    rows = [event("e"), event("f")]
    world, release = World(rows), predictor(rows)
    assert ids(release.answer(question(world.knowledge()))) == ["e", "f"]
    world.happens("cancel", "o", "e", NOW_MS - 5)
    found = release.answer(question(world.knowledge()))
    assert (ids(found), found.off) == (["f"], 1)
    world.happens("restore", "o", "e", NOW_MS - 2)
    assert ids(release.answer(question(world.knowledge()))) == ["e", "f"]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["cancel", "restore"]), max_size=6), st.booleans(), st.randoms())
def test_the_last_word_says_whether_an_event_is_on(words, row, random):
    told = event("e", cancelled=row)
    world, moments = World([told]), list(enumerate(words))
    random.shuffle(moments)  # in whatever order they arrive
    for n, kind in moments:
        world.happens(kind, "o", "e", NOW_MS - HOUR_MS * (len(words) - n))
    off = row or (bool(words) and words[-1] == "cancel")
    assert ids(predictor([event("e")]).answer(question(world.knowledge()))) == ([] if off else ["e"])


def test_the_last_of_many_words_counts():
    words = ["cancel", "restore"] * 30 + ["restore", "cancel"]  # more than an item remembers one by one
    world = World([event("e")])
    for n, kind in enumerate(words):
        world.happens(kind, "o", "e", NOW_MS - HOUR_MS + n)
    assert ids(predictor([event("e")]).answer(question(world.knowledge()))) == []
    world.happens("restore", "o", "e", NOW_MS - 1)
    assert ids(predictor([event("e")]).answer(question(world.knowledge()))) == ["e"]


def test_what_is_not_published_yet_is_not_suggested():
    rows = [
        event("later", published_ms=NOW_MS + 1),
        event("now", published_ms=NOW_MS),
        event("undated", published_ms=None),
    ]
    release, known = predictor(rows), World(rows).knowledge()
    assert set(ids(release.answer(question(known)))) == {"now", "undated"}
    assert set(ids(release.base(question(known)))) == {"now", "undated"}
    later = NOW_MS + 1
    assert set(ids(release.answer(question(known, at_ms=later)))) == {"later", "now", "undated"}


def test_a_cancellation_counts_after_half_a_minute_at_the_latest_in_a_process_that_remembers():
    rows, clock = [event("e")], [0.0]
    world, release = World(rows), predictor(rows)
    items = ItemCache(
        COUNTING,
        lambda ids: world.store.known("suggestions", [("item", item_id) for item_id in ids]),
        clock=lambda: clock[0],
        now_ms=lambda: NOW_MS,
    )
    known = replace(world.knowledge(), items=items)
    assert ids(release.answer(question(known))) == ["e"]
    world.happens("cancel", "o", "e", NOW_MS - 5)
    assert FRESH_S <= 30  # with the queue before it, that is well within a minute
    clock[0] = FRESH_S + 0.1
    assert ids(release.answer(question(known))) == []


def test_what_the_row_calls_off_is_off():
    rows = [event("e"), event("f")]
    release = predictor(rows)
    assert ids(release.answer(question(World([rows[0] | {"cancelled": True}, rows[1]]).knowledge()))) == ["f"]
    assert ids(predictor([rows[0] | {"cancelled": True}, rows[1]]).answer(question(World(rows).knowledge()))) == ["f"]


def test_where_the_store_does_not_answer_what_may_be_full_is_left_out():
    rows = [event("limited", capacity=1000), event("open", place=near(3))]
    found = predictor(rows).answer(question(World(rows).knowledge(answers=False)))
    assert (ids(found), found.degraded, found.full) == (["open"], True, 1)
    alone = predictor(rows).base(question(None))
    assert (ids(alone), alone.degraded) == (["open"], True)


def test_a_damaged_record_costs_what_it_is_of():
    rows = [event("limited", capacity=1000), event("open")]
    world = World(rows)
    world.store._known["suggestions", "item", "limited"] = Known(b"\x00")
    found = predictor(rows).answer(question(world.knowledge()))
    assert (ids(found), found.degraded) == (["open"], True)


def test_what_one_would_come_too_late_for_is_left_out():
    rows = [event("soon", in_h=0.5, place=near(60)), event("near", in_h=0.5), event("later", in_h=5, place=near(60))]
    found = predictor(rows).answer(question(World(rows).knowledge()))
    assert (ids(found), found.past) == (["near", "later"], 1)


def test_the_date_line_and_the_pole_are_no_borders():
    across = event("across", place=(-16.79, -179.99))
    rows = [across, event("berlin"), event("pole", place=(89.99, 0.0))]
    here = {"lat": TAVEUNI[0], "lon": TAVEUNI[1]}
    found = predictor(rows).answer(question(World(rows).knowledge(), **here))
    assert ids(found) == ["across"]
    assert found.events[0].distance_km < 5
    assert found.events[0].local_start.endswith("-12:00")  # nobody told the zone, so the sun does
    assert ids(predictor(rows).answer(question(World(rows).knowledge(), lat=89.99, lon=180.0))) == ["pole"]


def test_without_a_place_it_is_home_that_counts_and_without_that_nothing_is_far():
    rows = [event("a", place=near(3)), event("b", place=(40.7, -74.0)), event("c", place=None)]
    home = World(rows, {"u": {"lat": BERLIN[0], "lon": BERLIN[1]}}).knowledge()
    nowhere = {"lat": None, "lon": None}
    found = predictor(rows).answer(question(home, **nowhere))
    assert (set(ids(found)), found.placed, found.degraded) == ({"a", "c"}, True, False)
    found = predictor(rows).answer(question(World(rows).knowledge(), **nowhere))
    assert (set(ids(found)), found.placed, found.degraded) == ({"a", "b", "c"}, False, False)
    assert all(one.distance_km is None for one in found.events)


def test_an_event_of_no_place_is_told_by_the_clocks_of_who_asks():
    rows = [event("c", place=None)]
    release, known = predictor(rows), World(rows).knowledge()
    starts = [
        release.answer(question(known, **of)).events[0].local_start
        for of in ({}, {"time_zone": "Asia/Kathmandu"}, {"utc_offset_min": -210})
    ]
    assert starts == [None, "2026-06-03T16:45+05:45", "2026-06-03T07:30-03:30"]


def test_what_the_user_answered_or_does_not_want_is_not_suggested():
    rows = [event("a"), event("b"), event("c"), event("d")]
    history = (HistoryEntry("a", NOW_MS - 5, 1.0), HistoryEntry("b", NOW_MS - 4, 0.0))
    found = predictor(rows).answer(question(World(rows).knowledge(), history=history, exclude=["c"]))
    assert ids(found) == ["d"]


def test_radius_days_and_limit_are_heard():
    rows = [event("a"), event("b", place=near(30)), event("c", in_h=24 * 40), event("d", in_h=24 * 90)]
    release, known = predictor(rows), World(rows).knowledge()
    assert set(ids(release.answer(question(known)))) == {"a", "b", "c"}
    assert set(ids(release.answer(question(known, radius_km=10, days=365)))) == {"a", "c", "d"}
    assert len(ids(release.answer(question(known, limit=1)))) == 1
    assert set(ids(release.answer(question(known, preset="soon")))) == {"a", "b"}
    assert set(ids(release.answer(question(known, preset="nearby")))) == {"a", "c"}


def test_friends_are_counted_as_of_what_they_said_last_and_never_named():
    rows = [event("e"), event("f")]
    world = World(rows, {"u": {"friends": ["anna", "bert", "carl", "dora"]}})
    world.happens("rsvp", "anna", "e")
    world.happens("rsvp", "bert", "e", NOW_MS - 90)
    world.happens("withdraw", "bert", "e", NOW_MS - 50)
    world.happens("rsvp", "carl", "e", NOW_MS - 50)
    world.happens("rsvp", "stranger", "e")
    world.happens("rsvp", "dora", "f", NOW_MS + HOUR_MS)  # not yet
    found = predictor(rows).answer(question(world.knowledge(), include=["reasons"]))
    why = {one.item_id: {reason.code: reason.text for reason in one.reasons} for one in found.events}
    assert why["e"]["friends"] == "at least 2 people you know come"
    assert "friends" not in why["f"]
    told = RECOMMENDATIONS.log(question(), found, _answer(found)) | {"reasons": str(why)}
    assert not any(name in json.dumps(told) for name in ("anna", "bert", "carl", "dora"))


def test_who_knows_few_people_is_not_told_that_one_of_them_comes():
    rows = [event("e")]
    world = World(rows, {"u": {"friends": ["anna", "bert"]}})
    world.happens("rsvp", "anna", "e")
    (one,) = predictor(rows).answer(question(world.knowledge(), include=["reasons"])).events
    assert "friends" not in {reason.code for reason in one.reasons}


@pytest.mark.parametrize(("going", "said"), [(1, "somebody"), (2, "at least 2 people"), (3, "at least 2 people")])
def test_that_everybody_one_knows_comes_is_told_as_if_one_did_not(going, said):
    rows, friends = [event("e")], ["anna", "bert", "carl"]
    world = World(rows, {"u": {"friends": friends}})
    for name in friends[:going]:
        world.happens("rsvp", name, "e")
    (one,) = predictor(rows).answer(question(world.knowledge(), include=["reasons"])).events
    (reason,) = (reason for reason in one.reasons if reason.code == "friends")
    assert (reason.text.partition(" you know")[0], reason.weight) == (said, min(going, 2))


def test_of_a_chosen_moment_nothing_is_told_of_friends():
    rows = [event("e")]
    world = World(rows, {"u": {"friends": ["anna", "bert", "carl"]}})
    world.happens("rsvp", "anna", "e")
    (one,) = predictor(rows).answer(question(world.knowledge(), include=["reasons"], time_ms=NOW_MS)).events
    assert "friends" not in {reason.code for reason in one.reasons}


class Sociable(Nearest):
    """Scores: how many friends come."""

    def scores(self, features):
        return features[:, list(FEATURES).index("friends_going")].astype(np.float32)

    def add(self, g):
        return str(g.op("Gather", "features", g.constant(list(FEATURES).index("friends_going")), axis=1))


@pytest.mark.parametrize(
    ("friends", "chosen", "score"),
    [("abc", {}, 1.0), ("abc", {"time_ms": NOW_MS}, 0.0), ("ab", {}, 0.0), ("ab", {"time_ms": NOW_MS}, 0.0)],
)
def test_scores_and_order_tell_of_friends_no_more_than_reasons_do(friends, chosen, score):
    rows = [event("far", place=(52.6, 13.4)), event("near")]
    world = World(rows, {"u": {"friends": list(friends)}})
    world.happens("rsvp", "a", "far")
    parts = files(rows)
    parts["ranking"]["model.onnx"] = ranking_graph(Sociable(), len(FEATURES))
    release = SuggestionsPredictor(load_models(parts))
    found = release.answer(question(world.knowledge(), **chosen))
    assert {one.item_id: one.score for one in found.events} == {"far": score, "near": 0.0}
    # Only they said something, so without them the store says the same.
    assert [one.item_id for one in found.events] == (["far", "near"] if score else ["near", "far"])


class Looked(tuple):
    """A column that counts how often one of its rows is looked at."""

    times = 0

    def __getitem__(self, place):
        Looked.times += 1
        return super().__getitem__(place)


def test_of_a_large_catalogue_only_candidates_are_looked_at_one_by_one():
    rows = [
        event(f"e{n}", in_h=1 + n / 100, topics=["jazz", "hiking"][: n % 3], organizer_id=f"o{n}") for n in range(3000)
    ]
    release = predictor(rows)
    expected = release.answer(question(World(rows[:5]).knowledge(), topics=["jazz"], include=["reasons"]))
    whole = release.catalogue
    release.__dict__["catalogue"] = replace(whole, ids=Looked(whole.ids), topics=Looked(whole.topics))
    history = [HistoryEntry(f"e{n}", NOW_MS - HOUR_MS, 1.0) for n in range(2900, 3000)]
    asked = question(World(rows[:5]).knowledge(), topics=["jazz"], include=["reasons"], history=history)
    assert release.answer(asked) == expected
    assert 0 < Looked.times <= 2 * CANDIDATES + 3 * len(expected.events)


def test_why_is_what_is_true_of_the_event():
    rows = [
        event("e", in_h=3, capacity=3, organizer_id="o", topics=["jazz", "outdoors"]),
        event("old", organizer_id="o"),
    ]
    world = World(rows, {"u": {"topics": ["jazz"]}})
    world.happens("rsvp", "u", "old")
    world.happens("rsvp", "p", "e")
    history = (HistoryEntry("old", NOW_MS - HOUR_MS, 1.0),)
    (one,) = predictor(rows).answer(question(world.knowledge(), include=["reasons"], history=history)).events
    assert {reason.code: reason.text for reason in one.reasons} == {
        "organizer": "1 time you said yes to its organiser",
        "topics": "about jazz, which you like",
        "near": "less than 1 km away",
        "soon": "starts in 3 h",
        "few_places": "2 places left",
    }


def test_what_somebody_likes_is_heard_from_the_request_first():
    rows = [event("jazz"), event("hike", topics=["hiking"])]
    known = World(rows, {"u": {"topics": ["jazz"]}}).knowledge()
    release = predictor(rows)
    assert ids(release.answer(question(known))) == ["jazz", "hike"]
    assert ids(release.answer(question(known, topics=["hiking"]))) == ["hike", "jazz"]


def test_organisers_take_turns():
    rows = [event(f"o{n}", place=near(n / 10), organizer_id="o") for n in range(5)] + [event("p", place=near(9))]
    found = predictor(rows).answer(question(World(rows).knowledge()))
    assert ids(found) == ["o0", "o1", "o2", "p", "o3", "o4"]


def test_exploring_is_drawn_by_the_seed_and_told():
    rows = [event(f"e{n}", place=near(n)) for n in range(4)]
    release, known = predictor(rows), World(rows).knowledge()
    seen = {tuple(ids(release.answer(question(known, preset="explore", seed=f"s{n}")))) for n in range(200)}
    assert len(seen) > 3
    found = release.answer(question(known, preset="explore", seed="s1"))
    assert ids(found) == ids(release.answer(question(known, preset="explore", seed="s1")))
    assert found.events[0].propensity == pytest.approx(0.95 + 0.05 / 4)
    assert release.answer(question(known, preset="explore")).events[0].propensity is None


def test_many_events_that_are_full_do_not_hide_those_that_are_not():
    rows = [event(f"full{n:03}", place=near(n / 100), capacity=0) for n in range(650)] + [event("open", place=near(40))]
    found = predictor(rows).answer(question(World(rows).knowledge()))
    assert (ids(found), found.full) == (["open"], 650)


def test_nothing_comes_up_where_nothing_is():
    found = predictor([]).answer(question(World([]).knowledge()))
    assert (found.events, found.placed) == ((), True)


def case(**changes):
    facts = dict.fromkeys(FACTS, 0.0) | {"place_lat": BERLIN[0], "place_lon": BERLIN[1], "lon": BERLIN[1]}
    rows = [facts | {"item_id": name, "lat": near(km)[0], "about": []} for name, km in (("a", 9), ("b", 1), ("c", 3))]
    request = {"user_id": "u", "time_ms": NOW_MS, "liked": [], "events": rows}
    return Case(case_id="r", request=request | changes, truth={"came": ["c"]})


def test_a_list_is_judged_by_where_its_yes_stands():
    assert judge(predictor([]), case()) == {"ndcg_at_10": pytest.approx(1 / np.log2(3)), "mrr": 0.5}


@pytest.mark.parametrize("changes", [{"events": None}, {"events": [{"item_id": "a"}]}, {"liked": None}])
def test_what_is_no_list_cannot_be_judged(changes):
    with pytest.raises(BadInputError, match="no list"):
        judge(predictor([]), case(**changes))


def test_a_release_of_other_columns_or_without_a_ranking_is_refused():
    with pytest.raises(IntegrityError, match="other columns"):
        SuggestionsPredictor(load_assets(files([], feature_names=("a", "b"))))
    with pytest.raises(IntegrityError, match="needs the component"):
        SuggestionsPredictor({})


@pytest.mark.parametrize("name", ["catalogue.json.gz", "tastes.json.gz"])
def test_a_damaged_asset_is_said_to_be_damaged(name):
    broken = files([event("e")])
    broken["ranking"][name] = b"\x1f\x8bnonsense"
    with pytest.raises(IntegrityError, match="cannot be read"):
        SuggestionsPredictor(load_models(broken)).answer(question(World([event("e")]).knowledge()))


def _answer(found):
    origin = Origin(None, "v", "champion", "p", False, "balanced", False)
    return RECOMMENDATIONS.tell(question(include=["reasons"]), found, origin)
