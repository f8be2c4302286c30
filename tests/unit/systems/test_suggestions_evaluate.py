"""Labelled events as lists with what came of them, and who is asked to rank them."""

import json
from datetime import UTC, datetime

import pytest
from tiny_suggestions import BERLIN, HOUR_MS, NOW_MS, World, event, predictor, question

from twinloop.contracts.history import HistoryEntry
from twinloop.errors import BadInputError
from twinloop.systems import load
from twinloop.systems.suggestions.evaluate import Remote, cases, judge_list
from twinloop.systems.suggestions.serve import judge

TOLD = json.dumps({"lat": BERLIN[0], "lon": BERLIN[1]})


def act(kind, item, at_h=0.0, user="u", **more):
    return {
        "type": kind,
        "user_id": user,
        "item_id": item,
        "time": datetime.fromtimestamp(NOW_MS / 1000 + at_h * 3600, UTC),
    } | more


def view(item, position=0, at_h=0.0, request="r", **more):
    return act("view", item, at_h, request_id=request, position=position, **more)


def made(*rows, history=()):
    return list(cases(rows, lambda users: [history for _ in users]))


def test_a_list_is_a_request_with_what_came_of_it():
    rows = [view("b", 1, context=TOLD), view("a", 0, context=TOLD), act("rsvp", "b", 1, request_id="r"), view("c", 2)]
    (case,) = made(*rows)
    assert (case.case_id, case.truth) == ("r", {"came": ["b"]})
    assert case.request == {
        "user_id": "u",
        "time_ms": NOW_MS,
        "items": ["a", "b", "c"],
        "lat": BERLIN[0],
        "lon": BERLIN[1],
    }


@pytest.mark.parametrize(
    "context", [None, "{}", '{"lat": 3}', '{"lat": 91, "lon": 0}', '{"lat": "x", "lon": 1}', "[", "7"]
)
def test_without_a_place_there_is_none(context):
    (case,) = made(view("a", context=context), view("b", 1), act("rsvp", "a", 1))
    assert set(case.request) == {"user_id", "time_ms", "items"}


def test_a_list_of_which_nothing_or_all_came_is_no_case():
    assert not made(view("a"), view("b", 1))
    assert not made(view("a"), act("rsvp", "a", 1))
    assert not made(act("view", "a"), act("rsvp", "a", 1))
    assert not made()


def test_a_yes_is_owed_to_the_list_it_names_or_the_latest():
    lists = [view("a"), view("b", 1), view("a", at_h=1, request="s"), view("b", 1, at_h=1, request="s")]
    assert [case.case_id for case in made(*lists, act("rsvp", "a", 2, request_id="r"))] == ["r"]
    assert [case.case_id for case in made(*lists, act("rsvp", "a", 2))] == ["s"]
    assert not made(*lists, act("rsvp", "a", 7.5))
    assert not made(*lists, act("rsvp", "a", 2, user="v"))


def test_what_had_been_answered_is_no_question():
    rows = [view("a"), view("b", 1), view("c", 2), act("rsvp", "a", 1), act("rsvp", "c", -1)]
    (case,) = made(*rows)
    assert case.request["items"] == ["a", "b"]
    assert not made(*rows, history=(HistoryEntry("b", NOW_MS - 1, 0.0),))


def test_long_lists_are_cut_and_mixed_ones_refused():
    (case,) = made(*(view(f"e{n:03}", n) for n in range(130)), act("rsvp", "e001", 1), act("rsvp", "e120", 1))
    assert (len(case.request["items"]), case.truth["came"]) == (100, ["e001"])
    with pytest.raises(BadInputError, match="several users"):
        made(view("a"), view("b", user="v"))


def case_of(items, came):
    (case,) = made(*(view(item, n, context=TOLD) for n, item in enumerate(items)), act("rsvp", came, 1))
    return case


def test_a_release_ranks_what_was_shown_and_nothing_else():
    near = [event(name, place=(BERLIN[0] + km / 111.2, BERLIN[1])) for name, km in (("a", 9), ("b", 4), ("z", 1))]
    case = case_of(["a", "b", "gone"], "a")
    assert predictor(near).order({**case.request, "limit": 5}) == ["b", "a"]
    assert judge(predictor(near), case) == {"ndcg_at_10": pytest.approx(0.6309, abs=1e-4), "mrr": 0.5}
    assert judge(predictor(near), case_of(["a", "b", "gone"], "gone"))["mrr"] == pytest.approx(1 / 3)


def test_a_release_is_asked_with_what_the_store_knows():
    rows = [event("a", capacity=1), event("b")]
    world = World(rows)
    world.happens("rsvp", "p", "a")
    case = case_of(["a", "b"], "a")
    known = case.model_copy(update={"request": {**case.request, "known": world.knowledge()}})
    assert judge(predictor(rows), known)["mrr"] == 0.5  # it is full
    with pytest.raises(BadInputError, match="no request"):
        predictor(rows).order({"items": []})


def test_the_api_answers_in_a_predictors_place():
    case, bodies = case_of(["a", "b"], "a"), []

    def ask(body):
        bodies.append(body)
        return {"events": [{"item_id": "b"}, {"item_id": "a"}]}

    system = load("suggestions")
    assert system.judge(system.evaluation.remote(ask, case), case)["mrr"] == 0.5
    assert bodies == [case.request | {"limit": 100, "explore": False}]
    assert judge_list(Remote(lambda body: {"events": []}, case), case)["mrr"] == 1  # by id, what is left out
    assert list(system.evaluation.cases([], lambda users: [])) == []


def test_only_what_is_named_is_ranked():
    rows = [event("a"), event("b"), event("past", in_h=-1), event("far", place=(0.0, 0.0))]
    known = World(rows).knowledge()
    asked = question(known, items=["b", "past", "far", "unheard"], at_ms=NOW_MS)
    assert [one.item_id for one in predictor(rows, since_ms=NOW_MS - 2 * HOUR_MS).answer(asked).events] == ["b"]
    assert predictor(rows).answer(question(known, items=["unheard"])).events == ()
