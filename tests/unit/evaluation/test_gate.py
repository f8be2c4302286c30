"""Verdicts, from figures made for the purpose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.spec import GatePolicy, Prices, Rung
from twinloop.errors import BadInputError
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.gate import judge
from twinloop.evaluation.verdict import Candidate, Champion, FailedRung

CASES = 400
LADDER = {
    name: Rung(name=name, framework="xgboost", complexity=place, extra_margin=margin)
    for name, place, margin in [("popularity", 0, 0.0), ("ease", 1, 0.0), ("trees", 2, 0.005), ("tower", 3, 0.01)]
}
HARDNESS = np.random.default_rng(0).uniform(0.0, 0.2, CASES)


def policy(**changes):
    return GatePolicy(**({"primary": "ndcg", "resamples": 400, "slices": ("activity",)} | changes))


def scores(mean, *, seed=1, latency=2.0, light=0.0, noise=0.02, extra=None, labels=("light", "heavy")):
    """Scores around `mean`, alike from case to case between models; the light half is shifted by `light`."""
    random = np.random.default_rng(seed)
    half = np.arange(CASES) % 2 == 0
    values = HARDNESS - HARDNESS.mean() + mean + random.normal(0, noise, CASES)
    values += mean - values.mean() + np.where(half, light, -light)
    return CaseScores(
        case_ids=tuple(map(str, range(CASES))),
        metrics={"ndcg": values, "recall": values * 1.5} | (extra or {}),
        slices={"activity": np.where(half, *labels)},
        latency_ms=np.full(CASES, latency),
    )


def candidate(rung, mean, *, version=None, size=10.0, parity=1e-6, seconds=1.0, **options):
    rung = LADDER[rung]
    return Candidate(
        rung=rung,
        version=version or f"new-{rung.name}",
        scores=scores(mean, seed=rung.complexity + 10, **options),
        size_mb=size,
        train_seconds=seconds,
        parity=parity,
    )


def champion(rung, mean, **options):
    return Champion(rung, f"old-{rung}", scores(mean, seed=99, **options), 10.0)


def run(candidates, champion=None, rules=None, **options):
    return judge(rules or policy(), tuple(LADDER.values()), candidates, champion=champion, **options)


def of(verdict, rung):
    return next(entry for entry in verdict.judged if entry.rung.name == rung)


def test_the_first_champion_is_the_best_that_pays_for_itself():
    verdict = run([candidate("trees", 0.183), candidate("ease", 0.165), candidate("popularity", 0.09)])
    assert (verdict.promote, verdict.rung, verdict.version) == (True, "trees", "new-trees")
    assert verdict.words.startswith("promote trees: ndcg 0.183")
    assert "there is no champion yet" in verdict.words
    assert [entry.rung.name for entry in verdict.judged] == ["popularity", "ease", "trees"]
    assert of(verdict, "trees").over_simpler.rival == "ease"


def test_complexity_that_does_not_pay_leaves_the_simple_one():
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.165), candidate("trees", 0.169)])
    assert (verdict.promote, verdict.rung) == (True, "ease")
    assert "trees does not pay for its complexity" in verdict.words


@pytest.mark.parametrize("cost", [{"latency": 12.0}, {"size": 110.0}, {"seconds": 601.0}])
def test_cost_that_was_measured_asks_for_its_gain(cost):
    prices = Prices(per_ms=0.002, per_mb=0.0002, per_training_minute=0.002)
    entries = [candidate("popularity", 0.09), candidate("ease", 0.165)]
    cheap = run([*entries, candidate("trees", 0.183)], rules=policy(prices=prices))
    dear = run([*entries, candidate("trees", 0.183, **cost)], rules=policy(prices=prices))
    assert (cheap.rung, dear.rung) == ("trees", "ease")
    assert of(cheap, "trees").over_simpler.margin == pytest.approx(LADDER["trees"].extra_margin)
    assert of(dear, "trees").over_simpler.margin == pytest.approx(LADDER["trees"].extra_margin + 0.02)
    assert "does not pay for its complexity" in of(dear, "trees").standing
    # The same against a champion that is a simpler rung; how long that was trained is not known any more.
    against = run([candidate("popularity", 0.09), candidate("trees", 0.183, **cost)], champion("ease", 0.165),
                  rules=policy(prices=prices))  # fmt: skip
    assert of(against, "trees").over_champion.margin == pytest.approx(0.005 if "seconds" in cost else 0.025)


def test_what_a_rung_saves_buys_nothing():
    prices = Prices(per_ms=0.01, per_mb=0.01, per_training_minute=0.01)
    entries = [candidate("popularity", 0.09), candidate("ease", 0.165, latency=9.0, size=90.0, seconds=900.0)]
    verdict = run([*entries, candidate("trees", 0.183)], rules=policy(prices=prices))
    assert of(verdict, "trees").over_simpler.margin == pytest.approx(0.005)


def test_a_rung_is_set_against_the_best_simpler_one_that_held_its_place():
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.165), candidate("trees", 0.169),
                   candidate("tower", 0.185)])  # fmt: skip
    assert of(verdict, "tower").over_simpler.rival == "ease"
    assert verdict.rung == "tower"


def test_what_does_not_beat_the_trivial_baseline_is_nothing():
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.09)])
    assert verdict.rung == "popularity"
    assert "does not beat the trivial baseline" in of(verdict, "ease").standing


def test_a_sure_gain_over_the_champion_promotes():
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.165), candidate("trees", 0.183)],
                  champion("ease", 0.165))  # fmt: skip
    assert verdict.promote
    assert "against the champion's (ease) 0.165" in verdict.words
    assert "+0.0180 over the champion (ease), 95% interval" in verdict.words


def test_an_unsure_gain_keeps_the_champion():
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.166)], champion("ease", 0.165))
    assert (verdict.promote, verdict.rung, verdict.version) == (False, "ease", "old-ease")
    assert verdict.words.startswith("keep the champion ease: ndcg 0.165")
    assert "ease does not beat the champion: +0.0010" in verdict.words


def test_the_margin_is_asked_of_the_lower_bound():
    entries = [candidate("popularity", 0.09), candidate("ease", 0.175)]
    verdict = run(entries, champion("ease", 0.165), policy(margin=0.0))
    assert verdict.promote
    bound = of(verdict, "ease").over_champion.gain.low
    assert not run(entries, champion("ease", 0.165), policy(margin=bound)).promote
    assert run(entries, champion("ease", 0.165), policy(margin=bound - 1e-9)).promote


def test_a_simpler_champion_is_a_rung_below_even_when_its_job_failed():
    verdict = run([candidate("popularity", 0.09), candidate("tower", 0.175)], champion("ease", 0.165),
                  failed=[FailedRung("ease", "out of memory")])  # fmt: skip
    assert of(verdict, "tower").over_champion.margin == 0.01
    assert not verdict.promote
    assert "ease could not be judged: out of memory." in verdict.words


def test_the_next_one_below_may_try_where_the_highest_is_vetoed():
    slow = candidate("trees", 0.2, latency=50.0)
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.18), slow], champion("popularity", 0.09))
    assert verdict.rung == "ease"
    assert "latency p99 50.0 ms is over the budget of 20 ms" in of(verdict, "trees").standing


@pytest.mark.parametrize(
    ("change", "guard"),
    [({"latency": 20.1}, "latency"), ({"size": 200.1}, "size"), ({"parity": 2e-4}, "parity"),
     ({"parity": float("nan")}, "parity")],
)  # fmt: skip
def test_budgets_veto(change, guard):
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.3, **change)])
    assert [veto.guard for veto in of(verdict, "ease").vetoes] == [guard]
    assert verdict.rung == "popularity"


def test_at_the_budget_is_within_it():
    assert run([candidate("popularity", 0.09, latency=20.0, size=200.0, parity=1e-4)]).promote


@pytest.mark.parametrize(("age", "fine"), [(6.9, True), (7.1, False), (None, False)])
def test_stale_data_vetoes(age, fine):
    verdict = run([candidate("popularity", 0.09)], rules=policy(max_data_age_days=7), data_age_days=age)
    assert verdict.promote is fine
    if not fine:
        assert of(verdict, "popularity").vetoes[0].guard == "freshness"
        assert (verdict.rung, verdict.version) == (None, None)
        assert verdict.words.startswith("promote nothing")


def test_a_slice_that_loses_vetoes_however_large_the_gain():
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.3, light=-0.2)], champion("ease", 0.2))
    assert "slice activity=light loses" in of(verdict, "ease").standing
    assert verdict.rung == "ease"
    assert not verdict.promote


def test_a_loss_within_tolerance_or_by_chance_is_no_veto():
    small = run([candidate("popularity", 0.09), candidate("ease", 0.2, light=-0.025)], champion("ease", 0.18))
    assert small.promote
    noisy = run([candidate("popularity", 0.09), candidate("ease", 0.3, light=-0.12, noise=2.0)],
                champion("ease", 0.2), policy(margin=-9.0, slice_tolerance=0.01))  # fmt: skip
    assert not any(veto.guard.startswith("slice") for veto in of(noisy, "ease").vetoes)


def test_a_small_slice_is_shown_and_does_not_veto():
    verdict = run([candidate("popularity", 0.09), candidate("ease", 0.3, light=-0.2)], champion("ease", 0.2),
                  policy(minimum_slice_cases=CASES // 2 + 1))  # fmt: skip
    assert verdict.promote
    assert [(g.label, g.enough) for g in of(verdict, "ease").slices] == [("heavy", False), ("light", False)]


def test_a_declared_slice_that_nobody_carries_vetoes():
    verdict = run([candidate("popularity", 0.09)], rules=policy(slices=("activity", "country")))
    assert not verdict.promote
    assert "slice country is declared, and no case carries it" in verdict.words


def test_cases_without_a_label_belong_to_no_slice():
    verdict = run([candidate("ease", 0.3, labels=("light", ""))], champion("ease", 0.2))
    assert [g.label for g in of(verdict, "ease").slices] == ["light"]


@pytest.mark.parametrize(("predicted", "fine"), [(0.2, True), (0.215, True), (0.25, False), (0.1, False)])
def test_calibration_vetoes_where_the_system_measures_it(predicted, fine):
    observed = (np.arange(CASES) % 5 == 0).astype(float)
    extra = {"predicted": np.full(CASES, predicted), "observed": observed}
    verdict = run([candidate("popularity", 0.09, extra=extra)])
    assert verdict.promote is fine
    assert "predicted" not in of(verdict, "popularity").measured.metrics


def test_calibration_that_cannot_be_measured_vetoes():
    extra = {"predicted": np.full(CASES, 0.1), "observed": np.zeros(CASES)}
    assert not run([candidate("popularity", 0.09, extra=extra)]).promote


def test_the_champion_made_again_is_kept():
    entry = candidate("ease", 0.3, version="old-ease")
    verdict = run([candidate("popularity", 0.09), entry], champion("ease", 0.2))
    assert not verdict.promote
    assert of(verdict, "ease").standing == "is the champion already"
    assert "made the same release again" in verdict.words


def test_no_candidate_keeps_the_champion_and_says_what_failed():
    verdict = run([], champion("ease", 0.2), failed=[FailedRung("ease", "out of disk")])
    assert (verdict.promote, verdict.rung, verdict.cases) == (False, "ease", CASES)
    assert "ease could not be judged: out of disk." in verdict.words
    assert run([], failed=[FailedRung("ease", "x")]).rung is None


def test_nobody_is_promoted_who_could_be_compared_with_nobody():
    verdict = run([candidate("ease", 0.165), candidate("trees", 0.2)], failed=[FailedRung("popularity", "crashed")])
    assert (verdict.promote, verdict.rung) == (False, None)
    assert "neither a trivial baseline nor a champion" in of(verdict, "trees").standing
    assert any("baseline could not be judged" in note for note in verdict.notes)


def test_a_missing_baseline_is_said_and_the_champion_is_enough_to_compare_with():
    failed = [FailedRung("popularity", "crashed")]
    verdict = run([candidate("trees", 0.2)], champion("ease", 0.165), failed=failed)
    assert verdict.rung == "trees"
    assert any("baseline could not be judged" in note for note in verdict.notes)


def test_a_champion_off_the_ladder_is_said():
    verdict = run([candidate("popularity", 0.09)], champion("retired", 0.2))
    assert any("retired is no longer on the ladder" in note for note in verdict.notes)


def test_other_cases_cannot_be_compared():
    other = scores(0.2)
    other = CaseScores(other.case_ids[::-1], other.metrics, other.slices, other.latency_ms)
    with pytest.raises(BadInputError, match="same cases"):
        run([candidate("ease", 0.2)], Champion("ease", "v", other, 1.0))


def test_a_primary_metric_that_nobody_measured_is_told():
    with pytest.raises(BadInputError, match="'auc' was not measured; there is ndcg, recall"):
        run([candidate("ease", 0.2)], rules=policy(primary="auc"))


means = st.dictionaries(st.sampled_from(sorted(LADDER)), st.floats(0.05, 0.3), min_size=1)


@settings(max_examples=60)
@given(means, st.none() | st.floats(0.05, 0.3), st.randoms())
def test_whatever_the_figures_a_promotion_has_beaten_everybody_it_must(found, serving, random):
    entries = [candidate(name, mean) for name, mean in found.items()]
    random.shuffle(entries)
    now = champion("ease", serving) if serving else None
    verdict = run(entries, now)
    assert verdict == run(sorted(entries, key=lambda entry: entry.version), now)
    assert bool(verdict.words)
    if not verdict.promote:
        assert verdict.version == (now.version if now else None)
        return
    winner = of(verdict, verdict.rung)
    assert winner.earned
    assert not winner.vetoes
    for comparison in (winner.over_baseline, winner.over_simpler, winner.over_champion):
        assert comparison is None or comparison.gain.low > comparison.margin
    simpler = [e for e in verdict.judged if e.earned and e.rung.complexity < winner.rung.complexity]
    assert all(e.measured.metrics["ndcg"].mean < winner.measured.metrics["ndcg"].mean for e in simpler)
    assert sum(entry.standing == "is promoted" for entry in verdict.judged) == 1
