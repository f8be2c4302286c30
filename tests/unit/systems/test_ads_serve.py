"""A release of ads: what it says of ads, and what policy makes of it."""

import json
import math

import numpy as np
import pytest
from tiny_ads import HASHED, NAMES, NOW_MS, ad, broken, files, models, store

from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Question
from twinloop.errors import BadInputError, IntegrityError, NotFoundError
from twinloop.features.hashing import id_of
from twinloop.features.judged import KnownThen
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.serving.loading import load_assets
from twinloop.systems.ads.endpoint import AdsRequest
from twinloop.systems.ads.features import COUNTING
from twinloop.systems.ads.serve import AdsPredictor, Moment, judge, predict_one

WEIGHTS = np.random.default_rng(5).normal(-1.0, 0.5, HASHED.buckets)
ADS = {
    "a": ad(40, clicks=4, key=1, advertiser_id="x", campaign_id="c", category="cars"),
    "b": ad(10, key=2, advertiser_id="y", campaign_id="d", category="pets"),
    "c": ad(0, campaign_id="c"),
}
MOMENT = Moment("u", {"device": "Phone"}, NOW_MS)


def knowledge(seen=None, ads=None):
    ads = ads or ADS
    made = store(ads, seen or {}, country="DE")
    items = ItemCache(
        COUNTING, lambda ids: made.known("ads", [("item", item_id) for item_id in ids]), now_ms=lambda: NOW_MS
    )
    return UserKnowledge(COUNTING, made.known("ads", [("user", "u")])[0], items)


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def by_hand(item_id, rate, *, user="u", country="DE", device="phone", category=None):
    values = ([item_id], [user, country], [device, category])
    ids = [id_of(field, HASHED.buckets, of) for field, of in zip(HASHED.fields, values, strict=True)]
    return sigmoid(sum(WEIGHTS[ids]) + rate)


def rate(impressions, clicks):
    return (clicks + 0.02 * 200) / (impressions + 200)


RATES = {"a": rate(40, 4), "b": rate(10, 0), "c": 0.02}
CATEGORIES = {"a": "cars", "b": "pets", "c": None}


def test_a_probability_is_that_of_the_ids_and_of_the_counters():
    predictor = AdsPredictor(models(weights=WEIGHTS))
    said = predictor.predict(["a", "b", "c"], MOMENT, knowledge())
    expected = [by_hand(item, RATES[item], category=CATEGORIES[item]) for item in "abc"]
    np.testing.assert_allclose(said, expected, rtol=1e-5)


def test_a_release_that_takes_ids_alone_is_asked_with_ids_alone():
    said = AdsPredictor(models(weights=WEIGHTS, names=())).predict(["a"], MOMENT, knowledge())
    np.testing.assert_allclose(said, [by_hand("a", 0.0, category="cars")], rtol=1e-5)


def ask(predictor=None, known=None, seed="", preset=None, **request):
    request = {"user_id": "u", "ads": [{"ad": "a"}, {"ad": "b"}, {"ad": "c"}], "context": {"device": "phone"}} | request
    question = Question(AdsRequest.model_validate_json(json.dumps(request)), (), known, NOW_MS, preset, seed)
    return (predictor or AdsPredictor(models(weights=WEIGHTS))).answer(question)


def test_without_bids_the_likeliest_is_first():
    shown = ask(known=knowledge())
    chances = {one.ad: one.p_click for one in shown.ads}
    assert [one.ad for one in shown.ads] == sorted(chances, key=lambda item: -chances[item])
    assert all(one.bid is one.expected_value is one.propensity is None for one in shown.ads)
    assert [one.worth for one in shown.ads] == [one.p_click for one in shown.ads]
    assert not shown.degraded


def test_with_bids_what_is_worth_most_is_first():
    bids = {"a": 1.0, "b": 100.0, "c": 10.0}
    shown = ask(known=knowledge(), ads=[{"ad": item, "bid": bid} for item, bid in bids.items()], limit=2)
    assert [one.ad for one in shown.ads] == ["b", "c"]
    for one in shown.ads:
        assert one.expected_value == one.worth == pytest.approx(bids[one.ad] * one.p_click)


def test_what_the_user_has_seen_often_enough_is_left_out_by_ad_and_by_campaign():
    shown = ask(known=knowledge({"a": 5, "b": 4}))
    assert ({one.ad for one in shown.ads}, shown.capped, shown.paced) == ({"b", "c"}, 1, 0)
    both = ask(known=knowledge({"a": 15}))  # `c` is of the same campaign, and was never shown
    assert ({one.ad for one in both.ads}, both.capped) == ({"b"}, 2)
    assert ask(known=knowledge({"a": 15}), preset="no_cap").capped == 0


def test_an_ad_whose_budget_is_spent_is_left_out_and_one_that_nearly_is_sometimes():
    spent = {"a": ad(20, clicks=4, key=1, daily_budget=2.0), "b": ad(20, clicks=4, key=2, daily_budget=2.2), "c": ad()}
    known = knowledge(ads=spent)
    shown = [ask(known=known, user_id=f"u{n}") for n in range(400)]  # with no seed, too: nothing is tried out
    assert all("a" not in {one.ad for one in answer.ads} for answer in shown)
    assert shown == [ask(known=known, user_id=f"u{n}") for n in range(400)]
    there = ["b" in {one.ad for one in answer.ads} for answer in shown]
    assert all(answer.paced == 2 - found for answer, found in zip(shown, there, strict=True))
    left = (1 - 2.0 / 2.2) / 0.2
    assert np.mean(there) == pytest.approx(left, abs=4 * math.sqrt(left * (1 - left) / 400))


def test_an_ad_that_is_capped_and_spent_counts_once():
    spent = {"a": ad(20, clicks=4, key=1, daily_budget=2.0), "b": ad(), "c": ad()}
    shown = ask(known=knowledge({"a": 5}, spent))
    assert (shown.capped, shown.paced) == (1, 0)


def test_exploring_is_drawn_by_the_seed_and_told():
    answers = [ask(known=knowledge(), preset="explore", seed=f"s{n}") for n in range(300)]
    assert all(one.propensity is not None for shown in answers for one in shown.ads)
    orders = [tuple(one.ad for one in shown.ads) for shown in answers]
    usual = tuple(one.ad for one in ask(known=knowledge()).ads)
    assert 0.9 < orders.count(usual) / 300 < 1
    again = ask(known=knowledge(), preset="explore", seed="s7")
    assert again == answers[7]
    assert all(one.propensity is None for one in ask(known=knowledge(), preset="explore").ads)


def test_a_store_that_is_away_degrades_the_answer_and_no_more():
    shown = ask()
    assert shown.degraded
    assert len(shown.ads) == 3


def test_the_baseline_says_the_base_rate_and_runs_no_model():
    whole = AdsPredictor(load_assets({"click": files()["click"]}))
    request = AdsRequest.model_validate_json(
        '{"user_id": "u", "ads": [{"ad": "a", "bid": 1}, {"ad": "b"}, {"ad": "c", "bid": 3}], "limit": 2}'
    )
    shown = whole.base(Question(request, (), None, NOW_MS, None, "seed"))
    assert [(one.ad, one.p_click, one.expected_value) for one in shown.ads] == [("c", 0.02, 0.06), ("a", 0.02, 0.02)]
    with pytest.raises(IntegrityError, match="without its model"):
        ask(whole, knowledge())


def fall_back(known, preset=None, **more):
    request = {"user_id": "u", "ads": [{"ad": item, "bid": 1} for item in "abc"]} | more
    whole = AdsPredictor(load_assets({"click": files()["click"]}))
    return whole.base(Question(AdsRequest.model_validate_json(json.dumps(request)), (), known, NOW_MS, preset, ""))


def test_the_baseline_keeps_caps_and_budgets_where_counters_can_be_read():
    capped = fall_back(knowledge({"a": 5, "b": 4}))
    assert ([one.ad for one in capped.ads], capped.capped, capped.degraded) == (["b", "c"], 1, False)
    assert fall_back(knowledge({"a": 5}), "no_cap").capped == 0
    spent = {"a": ad(20, clicks=4, key=1, daily_budget=2.0), "b": ad(20, clicks=4, key=2, daily_budget=2.2), "c": ad()}
    known = knowledge(ads=spent)
    for user in ("u1", "u2", "u3", "u4"):  # what is left out is left out by whatever answers
        paced, usual = fall_back(known, user_id=user), ask(known=known, user_id=user)
        assert {one.ad for one in paced.ads} == {one.ad for one in usual.ads}
        assert (paced.capped, paced.paced) == (usual.capped, usual.paced)


def test_the_baseline_shows_all_where_no_counter_can_be_read():
    for known in (None, UserKnowledge(COUNTING, None, None)):
        shown = fall_back(known)
        assert ([one.ad for one in shown.ads], shown.capped, shown.paced, shown.degraded) == (
            ["a", "b", "c"],
            0,
            0,
            True,
        )


@pytest.mark.parametrize("body", [b"{}", b"nonsense", b'{"click": 1.5}', b'{"click": null}', b'{"click": NaN}'])
def test_a_base_rate_that_is_none_is_refused(body):
    parts = {"click": files()["click"] | {"prior.json": body}}
    with pytest.raises(IntegrityError, match="base rate"):
        _ = AdsPredictor(load_assets(parts)).base_rate
    del parts["click"]["prior.json"]
    with pytest.raises(NotFoundError):
        _ = AdsPredictor(load_assets(parts)).base_rate


@pytest.mark.parametrize("said", [[0.5], [0.1, 0.2, 1.1], [0.1, float("nan"), 0.2], [[0.1], [0.2], [0.3]]])
def test_what_is_no_probability_of_each_ad_is_refused(said):
    with pytest.raises(IntegrityError, match="no probabilities"):
        ask(AdsPredictor(broken(said)), knowledge())


def test_a_release_of_other_parts_is_refused():
    with pytest.raises(IntegrityError, match="needs the component 'click'"):
        AdsPredictor({})
    with pytest.raises(IntegrityError, match="takes pixels"):
        AdsPredictor(broken([0.1], inputs=("pixels",)))
    with pytest.raises(IntegrityError, match="does not define, or vice versa"):
        AdsPredictor(broken([0.1], hashed=None))


def test_a_preset_that_is_not_known_is_refused():
    with pytest.raises(BadInputError, match="there is no preset 'loud'"):
        ask(known=knowledge(), preset="loud")


# ---------------------------------------------------------------- what the gate asks


def impression(item="a", user="u", device="phone", **known):
    texts = {"items.category": CATEGORIES[item], "users.country": "DE"}
    values = {"item_click_rate_30d": RATES[item], "user_item_impressions_1d": 0.0} | known
    then = KnownThen(values, known_texts=texts)
    return {"user_id": user, "item_id": item, "time_ms": NOW_MS, "context": {"device": device}, "known": then}


def bundle(*shown, clicked):
    return Case(case_id="1", request={"shown": list(shown)}, truth={"click": list(clicked)})


def test_the_gate_hears_what_serving_would_have_said():
    predictor = AdsPredictor(models(weights=WEIGHTS))
    served = predictor.predict(["a", "b"], MOMENT, knowledge())
    for item, expected in zip("ab", served, strict=True):
        case = Case(case_id="1", request=impression(item), truth={"click": 1.0})
        assert predict_one(predictor, case) == {"click": pytest.approx(float(expected), rel=1e-6)}


def test_a_bundle_is_judged_by_its_mean_log_likelihood():
    predictor = AdsPredictor(models(weights=WEIGHTS))
    shown = [impression("a"), impression("b", user="v", device="tv"), impression("c")]
    p = [
        by_hand("a", RATES["a"], category="cars"),
        by_hand("b", RATES["b"], user="v", device="tv", category="pets"),
        by_hand("c", RATES["c"]),
    ]
    found = judge(predictor, bundle(*shown, clicked=(1.0, 0.0, 0.0)))
    gain = (math.log(p[0]) + math.log(1 - p[1]) + math.log(1 - p[2])) / 3
    assert found == {"log_gain": pytest.approx(gain, rel=1e-5)}


@pytest.mark.parametrize(
    "case",
    [
        Case(case_id="1", request={"history": []}, truth={"relevant": []}),
        Case(case_id="1", request={"shown": [impression()]}, truth={}),
        bundle({"user_id": "u"}, clicked=(0.0,)),
        bundle(impression(), impression(), clicked=(0.0,)),
        bundle(impression(), clicked=("often",)),
    ],
)
def test_a_case_of_another_system_is_refused(case):
    with pytest.raises(BadInputError, match=r"case '1' is no|as many|length|shape"):
        judge(AdsPredictor(models()), case)


def test_what_no_impression_has_is_refused():
    case = Case(case_id="1", request=impression() | {"known": KnownThen({})}, truth={"click": 0.0})
    with pytest.raises(IntegrityError, match=NAMES[0]):
        predict_one(AdsPredictor(models()), case)
