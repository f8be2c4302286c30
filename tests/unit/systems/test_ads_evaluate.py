"""Labelled showings as pages with what was clicked, and who is asked about them."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from tiny_ads import HASHED, NOW_MS, ad, models, store

from twinloop.contracts.segments import segment_value
from twinloop.errors import BadInputError
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.systems.ads.evaluate import UNCAPPED, Remote, cases
from twinloop.systems.ads.features import COUNTING
from twinloop.systems.ads.serve import AdsPredictor
from twinloop.systems.ads.system import SYSTEM

MIXED = {"page": 7, "slot": 7.0, "device": True}
PHONE = json.dumps({"device": "phone", "colour": "red"})


def act(kind, item, at_s=0.0, user="u", **more):
    return {
        "type": kind,
        "user_id": user,
        "item_id": item,
        "time": datetime.fromtimestamp(NOW_MS / 1000 + at_s, UTC),
        "context": PHONE,
    } | more


def made(*rows):
    return list(cases(rows, lambda users: []))


def test_a_page_is_what_a_user_was_shown_at_once_with_what_was_clicked():
    (case,) = made(act("impression", "a"), act("impression", "b"), act("click", "b", 30), act("click", "c", 30))
    assert case.request == {"user_id": "u", "time_ms": NOW_MS, "context": {"device": "phone"}, "ads": ["a", "b"]}
    assert case.truth == {"click": [0.0, 1.0]}


def test_one_row_may_say_both():
    (case,) = made(act("impression", "a", clicked=1), act("impression", "b", clicked=0))
    assert case.truth == {"click": [1.0, 0.0]}


def test_another_moment_user_request_or_context_is_another_page():
    rows = [act("impression", "a"), act("impression", "a", 1), act("impression", "a", user="v")]
    rows += [act("impression", "b", request_id="r"), act("impression", "c", context=json.dumps({"device": "tv"}))]
    assert len(made(*rows)) == 5
    assert len({case.case_id for case in made(*rows)}) == 5


@pytest.mark.parametrize(
    ("click", "owed"),
    [
        (act("click", "a", 10), [0, 1]),  # the latest showing before it
        (act("click", "a", -1), [0, 0]),  # before any
        (act("click", "a", 3605), [0, 1]),  # the hour is not over until it is, as in a snapshot
        (act("click", "a", 3605.001), [0, 0]),  # too late for both
        (act("click", "a", 10, request_id="first"), [1, 0]),
        (act("click", "a", 10, request_id="other"), [0, 0]),
        (act("click", "a", 10, user="v"), [0, 0]),
    ],
)
def test_a_click_is_owed_to_the_latest_showing_within_the_hour(click, owed):
    rows = [act("impression", "a", request_id="first"), act("impression", "a", 5, request_id="second"), click]
    assert [int(case.truth["click"][0]) for case in sorted(made(*rows), key=lambda c: c.request["time_ms"])] == owed


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        ({"page": ["x"], "device": "phone"}, {"device": "phone"}),
        ({"page": {"a": 1}, "slot": None}, {}),
        ({"page": "y" * 600, "slot": " Top "}, {"page": segment_value("y" * 600), "slot": "top"}),
        ({"page": 7, "slot": 7.0, "device": True}, {n: segment_value(v) for n, v in MIXED.items()}),
        ({"page": "\ud800", "slot": "top"}, {"slot": "top"}),
    ],
)
def test_of_an_odd_context_the_api_is_asked_with_what_models_hear(told, heard):
    heard = {name: value for name, value in heard.items() if value is not None}
    (case,) = made(act("impression", "a", context=json.dumps(told)))
    assert case.request["context"] == heard
    asked = []

    def ask(body):
        asked.append(SYSTEM.endpoint.request.model_validate_json(json.dumps(body)))
        return {"ads": [{"ad": "a", "p_click": 0.25}]}

    SYSTEM.judge(Remote(ask, case), case)
    assert len(asked) == 1


@pytest.mark.parametrize("context", [None, "", "[", "7", "[" * 100_000])
def test_without_a_context_there_is_none(context):
    (case,) = made(act("impression", "a", context=context))
    assert case.request["context"] == {}


def test_a_release_is_judged_by_what_it_says_of_the_ads_of_a_page():
    ads = {"a": ad(40, clicks=4, key=1), "b": ad(10, key=2)}
    whole = store(ads, {})
    items = ItemCache(COUNTING, lambda ids: whole.known("ads", [("item", one) for one in ids]), now_ms=lambda: NOW_MS)
    predictor = AdsPredictor(models(weights=np.random.default_rng(5).normal(-1, 0.5, HASHED.buckets)))
    known = UserKnowledge(COUNTING, whole.known("ads", [("user", "u")])[0], items)
    (case,) = made(act("impression", "a"), act("impression", "b"), act("click", "b", 30))
    case = case.model_copy(update={"request": case.request | {"known": known}})
    p = [answer_of(predictor, item, known) for item in "ab"]
    expected = (np.log1p(-p[0]) + np.log(p[1])) / 2
    assert SYSTEM.judge(predictor, case)["log_gain"] == pytest.approx(expected, rel=1e-5)


def answer_of(predictor, item, known):
    from twinloop.systems.ads.serve import Moment

    return float(predictor.predict([item], Moment("u", {"device": "phone"}, NOW_MS), known)[0])


def test_the_api_is_asked_once_a_page_and_what_it_leaves_out_is_not_judged():
    asked = []

    def ask(body):
        asked.append(body)
        return {"ads": [{"ad": "b", "p_click": 0.25}]}

    (case,) = made(act("impression", "a"), act("impression", "b"), act("click", "b", 30))
    assert SYSTEM.judge(Remote(ask, case), case) == {"log_gain": pytest.approx(np.log(0.25))}
    [body] = asked
    assert SYSTEM.endpoint.request.model_validate_json(json.dumps(body))
    assert (body["preset"], body["explore"], body["time_ms"]) == (UNCAPPED, False, NOW_MS)
    with pytest.raises(BadInputError, match="ask in process"):
        SYSTEM.judge(Remote(lambda body: {"ads": []}, case), case)
