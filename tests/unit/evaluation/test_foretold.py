"""What releases say of impressions is held against what came of them; whose promises are off does not serve."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from twinloop.contracts.artefacts import Case, SnapshotManifest
from twinloop.contracts.spec import GatePolicy, Rung
from twinloop.contracts.system import Predictions
from twinloop.errors import BadInputError
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.foretold import LEGEND, Foretold, foretell, reliability, slice_metrics, summary
from twinloop.evaluation.gate import judge
from twinloop.evaluation.guards import prediction_vetoes
from twinloop.evaluation.record import release_metrics, verdict_record
from twinloop.evaluation.report import Occasion, render
from twinloop.evaluation.verdict import Candidate, Champion

ASKED = Predictions(
    ask=lambda predictor, case: predictor(case), chances=("click",), amounts=("watch_s",), guarded=("click",)
)
POLICY = GatePolicy(primary="ndcg", resamples=200, minimum_slice_cases=1)


def shown(clicks, watched=None, users=None):
    watched = watched or [10.0 * click for click in clicks]
    users = users or [f"u{n}" for n in range(len(clicks))]
    return [
        Case(case_id=str(n), request={"user_id": user, "place": n}, truth={"click": click, "watch_s": amount})
        for n, (user, click, amount) in enumerate(zip(users, clicks, watched, strict=True))
    ]


def saying(clicks, watched=None):
    watched = watched or [10.0 * click for click in clicks]
    return lambda case: {"click": clicks[case.request["place"]], "watch_s": watched[case.request["place"]]}


def observed(clicks, said, users=None):
    """One label, as numbers."""
    came, of = np.asarray(clicks, np.float64), np.arange(len(clicks)) if users is None else np.asarray(users)
    return Foretold(
        of.astype(np.int64), {"click": came}, {"click": np.asarray(said, float)}, ("click",), (), ("click",)
    )


def test_metrics_are_those_computed_by_hand():
    found = summary(foretell(saying([0.8, 0.6, 0.2, 0.4], [8, 1, 3, 0]), shown([1, 0, 0, 1], [9, 0, 0, 4]), ASKED), 0.9)
    # Of the four pairs of a click and none, .8 beats both and .4 beats .2.
    assert found["click_auc"].mean == pytest.approx(3 / 4)
    assert found["click_calibration"].mean == pytest.approx(2.0 / 2)
    losses = -np.log([0.8, 0.4, 0.8, 0.4])
    assert found["click_ne"].mean == pytest.approx(losses.mean() / np.log(2))
    assert found["watch_s_mae"].mean == pytest.approx((1 + 1 + 3 + 4) / 4)
    # Five pairs have different amounts; 9 beats all three, 4 beats neither 0.
    assert found["watch_s_xauc"].mean == pytest.approx(3 / 5)
    assert found["click_logloss"].mean == pytest.approx(losses.mean())
    assert found["click_ece"].mean == pytest.approx((0.2 + 0.6 + 0.2 + 0.6) / 4)  # each in a bin of its own
    of_click = ["click_logloss", "click_ne", "click_auc", "click_calibration", "click_ece"]
    assert list(found) == [*of_click, "watch_s_mae", "watch_s_xauc"]
    assert {name.rpartition("_")[2] for name in found} == set(LEGEND)
    assert {interval.confidence for interval in found.values()} == {0.9}


def random_clicks(many=2000, users=200, seed=3):
    random = np.random.default_rng(seed)
    chances = random.uniform(0.02, 0.4, many)
    return (random.random(many) < chances).astype(float), chances, random.integers(0, users, many)


def test_intervals_hold_their_mean_and_narrow_with_evidence():
    clicks, chances, users = random_clicks()
    much, little = (summary(observed(clicks[:n], chances[:n], users[:n]), 0.95) for n in (2000, 200))
    for name, interval in much.items():
        assert interval.low < interval.mean < interval.high
        assert interval.high - interval.low < little[name].high - little[name].low
    assert much["click_calibration"].low < 1 < much["click_calibration"].high
    assert much == summary(observed(clicks, chances, users), 0.95)


def test_a_users_impressions_are_one_piece_of_evidence():
    """Twenty users who always or never click: as impressions they would be ten times as much."""
    clicks, chances = np.repeat(np.arange(20) % 2, 100).astype(float), np.full(2000, 0.5)
    of_users = summary(observed(clicks, chances, np.repeat(np.arange(20), 100)), 0.95)["click_calibration"]
    alone = summary(observed(clicks, chances), 0.95)["click_calibration"]
    assert of_users.mean == alone.mean == 1
    assert of_users.high - of_users.low > 5 * (alone.high - alone.low)


def test_what_the_outcomes_do_not_allow_is_not_there():
    always = ["click_logloss", "click_ece"]
    assert sorted(summary(observed([0, 0], [0.1, 0.2]), 0.95)) == sorted(always)
    assert sorted(summary(observed([1, 1], [0.1, 0.2]), 0.95)) == sorted([*always, "click_calibration"])
    one = summary(observed([1, 0, 1], [0.1, 0.2, 0.3], [0, 0, 0]), 0.95)["click_auc"]
    assert one.low == one.mean == one.high


def test_who_predicts_nothing_foretells_nothing():
    assert foretell(lambda case: {}, shown([1, 0]), ASKED) is None
    assert foretell(saying([]), [], ASKED) is None


@pytest.mark.parametrize(
    ("click", "watched", "told"),
    [(1.1, 1, "no probability"), (-0.1, 1, "no probability"), (float("nan"), 1, "no probability"),
     (0.5, -1, "no amount"), (0.5, float("inf"), "no amount")],
)  # fmt: skip
def test_what_is_no_prediction_is_refused(click, watched, told):
    with pytest.raises(BadInputError, match=told):
        foretell(saying([0.5, click], [1, watched]), shown([1, 0]), ASKED)


def test_every_impression_is_predicted_in_full():
    for found in ({}, {"click": 0.5}, {"click": 0.5, "watch_s": 1.0, "more": 1.0}):
        with pytest.raises(BadInputError, match="of impression '1'"):
            foretell(
                lambda case, f=found: f if case.case_id == "1" else {"click": 1, "watch_s": 1}, shown([1, 0]), ASKED
            )


@pytest.mark.parametrize("truth", [{}, {"click": 1}, {"click": None, "watch_s": 1}, {"click": "yes", "watch_s": 1}])
def test_an_impression_without_its_outcome_is_refused(truth):
    cases = [*shown([1]), shown([1])[0].model_copy(update={"truth": truth})]
    with pytest.raises(BadInputError, match="does not say what came of it"):
        foretell(lambda case: {"click": 0.5, "watch_s": 1}, cases, ASKED)


@pytest.mark.parametrize(("clicks", "watched"), [([1, 2], [1, 1]), ([1, 0.5], [1, 1]), ([1, 0], [1, float("nan")])])
def test_an_outcome_that_is_none_is_refused(clicks, watched):
    with pytest.raises(BadInputError, match="an outcome"):
        foretell(saying([0.5, 0.5]), shown(clicks, watched), ASKED)


def test_only_chances_are_guarded():
    with pytest.raises(ValueError, match="guarded"):
        replace(ASKED, guarded=("watch_s",))


def vetoes(clicks, said, users=None, **changes):
    return prediction_vetoes(POLICY.model_copy(update=changes), observed(clicks, said, users))


def test_calibrated_predictions_are_not_vetoed():
    clicks, chances, users = random_clicks()
    assert vetoes(clicks, chances, users) == ()
    assert prediction_vetoes(POLICY, None) == ()
    assert prediction_vetoes(POLICY, replace(observed(clicks, 0.3 * chances), guarded=())) == ()


@pytest.mark.parametrize("times", [0.7, 1.3])
def test_predictions_that_are_off_are_vetoed_where_chance_does_not_explain_it(times):
    clicks = np.arange(2000) % 5 == 0
    said = np.full(2000, 0.2 * times)
    (veto,) = vetoes(clicks, said)
    assert veto.guard == "click calibration"
    assert not veto.of_slice
    assert f"promise {times:.3f} times the outcomes ({400 * times:,.0f} predicted, 400 observed" in veto.reason
    assert "1 +- 0.1 is tolerated" in veto.reason
    assert vetoes(clicks[:10], said[:10]) == ()
    assert vetoes(clicks, said, calibration_tolerance=0.31) == ()


def test_a_few_users_who_differ_prove_nothing():
    """Two of four users click on everything: half of what is predicted too much, and by four users' word alone."""
    users = np.repeat(np.arange(4), 500)
    clicks, said = (users < 2).astype(float), np.full(2000, 0.65)
    assert vetoes(clicks, said, users) == ()
    assert len(vetoes(clicks, said)) == 1


def sliced(said_in, many=4000, small=100):
    """Impressions of which a quarter came, in two large slices and a small one; what is predicted in each."""
    labels = np.array(["a"] * many + ["b"] * many + ["c"] * small)
    clicks = (np.arange(len(labels)) % 4 == 0).astype(float)
    said = np.array([said_in[label] for label in labels])
    return replace(observed(clicks, said), slices={"device": labels, "other": labels})


SLICED = POLICY.model_copy(update={"slices": ("device",), "minimum_slice_cases": 10})


def test_a_declared_slice_is_guarded_where_it_is_large_enough():
    fine = {"a": 0.25, "b": 0.25, "c": 0.9}
    assert prediction_vetoes(SLICED, sliced(fine)) == ()
    (veto,) = prediction_vetoes(SLICED.model_copy(update={"minimum_slice_cases": 5}), sliced(fine))
    assert veto.guard == "click calibration in device=c"
    off = sliced({"a": 0.2, "b": 0.3, "c": 0.25})  # right on the whole
    vetoes = prediction_vetoes(SLICED, off)
    assert [veto.guard for veto in vetoes] == [f"click calibration in device={label}" for label in "ab"]
    assert "of click in the slice device=a promise 0.800 times the outcomes (800 predicted, 1,000" in vetoes[0].reason
    assert not any(veto.of_slice for veto in vetoes)
    assert prediction_vetoes(SLICED.model_copy(update={"slices": ()}), off) == ()


def test_of_many_slices_chance_explains_more():
    """Predictions are right, and every slice is looked at by itself: hardly ever is one of forty refused."""
    random = np.random.default_rng(8)
    refused = 0
    for _ in range(40):
        chances = random.uniform(0.02, 0.1, 40 * 400)
        clicks = (random.random(len(chances)) < chances).astype(float)
        labels = np.repeat(np.arange(40), 400).astype(str)
        found = replace(observed(clicks, chances), slices={"device": labels})
        refused += bool(prediction_vetoes(SLICED, found))
    assert refused <= 6  # 5 percent are to be expected


def test_bins_hold_as_many_impressions_and_equal_predictions_one():
    clicks, chances, _ = random_clicks()
    bins = reliability(observed(clicks, chances), "click", 0.95)
    assert [one.impressions for one in bins] == [200] * 10
    for one in bins:
        assert one.observed.low < one.observed.mean < one.observed.high
    inside = sum(one.observed.low <= one.predicted <= one.observed.high for one in bins)
    assert inside >= 8
    (alone,) = reliability(observed([1, 0, 0, 0], [0.25] * 4), "click", 0.95)
    assert (alone.predicted, alone.observed.mean, alone.impressions) == (0.25, 0.25, 4)
    assert (alone.observed.low, alone.observed.high) == pytest.approx((0.0456, 0.6994), abs=1e-4)  # Wilson, by hand
    (nothing,) = reliability(observed([0] * 10, [0.1] * 10), "click", 0.95)
    assert nothing.observed.low == 0 < nothing.observed.high


def test_metrics_of_slices_are_those_of_their_impressions_alone():
    found = {
        entry.label: entry
        for entry in slice_metrics(sliced({"a": 0.25, "b": 0.5, "c": 0.1}))
        if entry.slice == "device"
    }
    assert {label: entry.impressions for label, entry in found.items()} == {"a": 4000, "b": 4000, "c": 100}
    assert found["b"].metrics["click_calibration"] == pytest.approx(2)
    assert found["a"].metrics["click_ne"] == pytest.approx(1)
    assert slice_metrics(observed([1, 0], [0.5, 0.5])) == ()


@pytest.mark.parametrize(("many", "said"), [(500, 0.0), (5, 0.1), (500, 0.1)])
def test_where_nothing_came_calibration_is_not_known_and_nobody_is_promoted(many, said):
    (veto,) = vetoes([0] * many, [said] * many)
    assert veto.guard == "click calibration"
    assert "no held-out impression has a positive outcome, so calibration could not be measured" in veto.reason
    assert not veto.of_slice


def test_a_slice_in_which_nothing_came_is_vetoed_only_where_it_is_promised_something():
    clicks, said = np.repeat([0.0, 1.0, 0.0], (2000, 1000, 1000)), np.repeat([0.0, 0.5], 2000)
    labels = np.repeat(["quiet", "busy"], 2000)
    found = replace(observed(clicks, said), slices={"device": labels})
    assert prediction_vetoes(SLICED, found) == ()
    promised = replace(observed(clicks, said + 0.02 * (labels == "quiet")), slices={"device": labels})
    (veto,) = prediction_vetoes(SLICED, promised)
    assert "promise outcomes where none came (40 predicted, 0 observed" in veto.reason


RUNGS = tuple(Rung(name=name, framework="xgboost", complexity=n) for n, name in enumerate(("popularity", "deep")))
WHEN = datetime(2026, 3, 1, tzinfo=UTC)
SNAPSHOT = SnapshotManifest(
    snapshot_id="s", system="toy", created_at=WHEN, lake_files=(), files=(), rows={}, first_event=WHEN,
    last_event=WHEN, split={}, feature_versions={}, schema_hash="h", features=(), history_length=200,
)  # fmt: skip


def verdict(times, champion=None):
    ids = tuple(map(str, range(100)))
    poor, good = (CaseScores(ids, {"ndcg": np.full(100, v)}, {}, np.full(100, 1.0)) for v in (0.1, 0.3))
    clicks, chances, users = random_clicks()
    watched = clicks * 30
    said = Foretold(
        users.astype(np.int64),
        {"click": clicks, "watch_s": watched}, {"click": times * chances, "watch_s": watched + 4},
        ("click",), ("watch_s",), ("click",),
    )  # fmt: skip
    candidates = [Candidate(RUNGS[0], "v0", poor, 1.0, 1.0, 0.0), Candidate(RUNGS[1], "v1", good, 1.0, 1.0, 0.0, said)]
    return judge(POLICY, RUNGS, candidates, champion=champion)


def test_a_candidate_whose_promises_are_ruined_is_refused_in_words():
    fine, ruined = verdict(1.0), verdict(0.5)
    assert (fine.rung, ruined.rung) == ("deep", "popularity")
    deep = ruined.judged[1]
    assert not deep.earned
    assert deep.standing.startswith("vetoed: its predictions of click promise 0.")
    page = render(ruined, Occasion("toy", SNAPSHOT, WHEN))
    assert deep.vetoes[0].reason in page
    assert "click calibration" in page.split("Guardrails and cost")[1]


def test_a_champion_is_measured_and_not_vetoed():
    said = verdict(0.5).judged[1]
    scores = CaseScores(tuple(map(str, range(100))), {"ndcg": np.full(100, 0.5)}, {}, np.full(100, 1.0))
    champion = Champion("deep", "old", scores, 1.0, observed([1, 0] * 50, [0.9] * 100))
    found = verdict(0.5, champion)
    assert found.champion.measured.metrics["click_calibration"].mean == pytest.approx(1.8)
    assert (found.rung, found.version) == ("deep", "old")
    assert found.judged[1].measured == said.measured


def test_figures_of_predictions_are_recorded_and_shown():
    found = verdict(1.0)
    metrics = json.loads(release_metrics(found, found.judged[1]))
    assert metrics["impressions"] == 2000
    assert metrics["metrics"]["watch_s_mae"] == {
        "mean": pytest.approx(4),
        "low": pytest.approx(4),
        "high": pytest.approx(4),
    }
    calibration = metrics["metrics"]["click_calibration"]
    assert calibration["low"] < 1 < calibration["high"]
    record = json.loads(verdict_record(found, {}))
    assert record["candidates"][1]["metrics"] == metrics["metrics"]
    assert record["candidates"][0]["impressions"] == 0

    page = render(found, Occasion("toy", SNAPSHOT, WHEN))
    of_cases, rest = page.split("All metrics")[1].split("Predictions, and what came of them")
    told = rest.split("</section>")[0]
    names = found.judged[1].measured.foretold
    assert [name for name in names if f"<th>{name}</th>" in told and name not in of_cases] == list(names)
    assert "popularity" not in told  # which predicts nothing
    assert "On 2,000 held-out impressions" in told
    assert "In slices" not in told  # these impressions have none
    assert page.count("<svg") == 4  # the metric, gains, cost, and how far the chance holds
    assert "Predicted and observed: click" in page
    assert "Predicted and observed: watch_s" not in page
    assert sum(one["impressions"] for one in metrics["reliability"]["click"]) == 2000
    assert "4.000" in told
    alone = judge(
        POLICY, RUNGS, [Candidate(RUNGS[0], "v0", CaseScores(("1",), {"ndcg": np.ones(1)}, {}, np.ones(1)), 1, 1, 0)]
    )
    assert "what came of them" not in render(alone, Occasion("toy", SNAPSHOT, WHEN))
