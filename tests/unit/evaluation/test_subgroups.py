"""Nobody serves who acts wrongly on some people's texts much more often than on others'."""

import numpy as np
import pytest

from twinloop.contracts.spec import GatePolicy, Rung
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.gate import judge
from twinloop.evaluation.subgroups import FALSE_POSITIVES, NEGATIVES, subgroup_rates
from twinloop.evaluation.verdict import Candidate

POLICY = GatePolicy(primary="gain", resamples=200, false_positive_slices=("identity",), false_positive_tolerance=0.05)


def scores(inside: float, outside: float, *, cases: int = 1000, gain: float = 0.0, labels=("named", "not named")):
    half = np.arange(cases) % 2 == 0
    clean = np.ones(cases)
    wrong = np.zeros(cases)
    wrong[np.flatnonzero(half)[: round(inside * half.sum())]] = 1
    wrong[np.flatnonzero(~half)[: round(outside * (~half).sum())]] = 1
    return CaseScores(
        case_ids=tuple(map(str, range(cases))),
        metrics={
            "gain": np.random.default_rng(0).normal(gain, 0.01, cases),
            NEGATIVES: clean,
            FALSE_POSITIVES: wrong,
        },
        slices={"identity": np.where(half, *labels)},
        latency_ms=np.ones(cases),
    )


def candidate(complexity: int, found: CaseScores) -> Candidate:
    rung = Rung(name=f"r{complexity}", framework="xgboost", complexity=complexity)
    return Candidate(rung, f"v{complexity}", found, 1.0, 1.0, 0.0)


def verdict(*found: CaseScores):
    candidates = [candidate(place, one) for place, one in enumerate(found)]
    return judge(POLICY, [one.rung for one in candidates], candidates)


def test_a_gap_above_what_is_tolerated_vetoes_whatever_is_gained() -> None:
    told = verdict(scores(0.05, 0.05), scores(0.2, 0.05, gain=1.0))
    assert told.rung == "r0"
    [_, loser] = told.judged
    assert [veto.guard for veto in loser.vetoes] == ["false positives in identity=named"]
    assert "20.0% of the 500 cases of identity=named" in loser.vetoes[0].reason
    assert "5.0% of all others" in loser.vetoes[0].reason
    assert not loser.earned
    assert {rate.label: round(rate.gap, 3) for rate in loser.subgroups} == {"named": 0.15, "not named": -0.15}


def test_who_acts_upon_too_many_alike_is_vetoed_though_no_slice_is_worse() -> None:
    policy = POLICY.model_copy(update={"false_positive_limit": 0.25})

    def vetoes(rate: float, cases: int = 1000) -> list[str]:
        found = scores(rate, rate, cases=cases)
        told = judge(policy, [candidate(0, found).rung], [candidate(0, found)])
        return [veto.reason for veto in told.judged[0].vetoes]

    [why] = vetoes(1.0)
    assert (
        "100.0% of the 1000 cases with nothing to act upon are acted upon (99.6% to 100.0%); 25.0% is the most" in why
    )
    assert vetoes(0.26) == []  # may be chance
    assert vetoes(0.2) == []
    assert vetoes(1.0, cases=40) == []  # too few to say


def test_a_gap_within_what_is_tolerated_or_chance_holds() -> None:
    assert verdict(scores(0.05, 0.05), scores(0.09, 0.05, gain=1.0)).rung == "r1"
    [rate, _] = subgroup_rates(POLICY, scores(0.15, 0.05, cases=120))
    assert rate.enough
    assert not rate.lost  # 9 of 60 and 3 of 60 may be chance
    [rate, _] = subgroup_rates(POLICY, scores(0.9, 0.05, cases=60))
    assert not rate.enough


def test_a_guarded_slice_that_no_case_tells_of_vetoes() -> None:
    found = scores(0.05, 0.05, labels=("", ""))
    assert verdict(found).version is None
    blind = verdict(found, found).judged[0].vetoes[0]
    assert blind.of_slice
    assert "no case tells of them" in blind.reason


def test_what_has_too_few_cases_for_a_veto_is_said_with_the_promotion() -> None:
    few = verdict(scores(0.9, 0.05, cases=90), scores(0.9, 0.05, cases=90, gain=1.0))
    assert few.rung == "r1"
    assert "NOT GUARDED" in few.lead
    assert "identity 'named' (45 of 50), identity 'not named' (45 of 50)" in few.lead
    assert "NOT GUARDED" not in verdict(scores(0, 0), scores(0, 0, gain=1.0)).lead
    alike = ("not named", "not named")
    one_sided = verdict(scores(0, 0, labels=alike), scores(0, 0, labels=alike, gain=1.0))
    assert "identity (all cases are 'not named')" in one_sided.lead


def test_the_interval_is_newcombes() -> None:
    """Newcombe (1998), table II: 56/70 - 48/80, method 10: 0.0524 to 0.3339."""
    from twinloop.evaluation.subgroups import _difference

    assert _difference(56, 70, 48, 80, 0.95) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_the_report_and_the_record_tell_the_figures() -> None:
    from twinloop.evaluation.report import _subgroups

    page = _subgroups(verdict(scores(0.05, 0.05), scores(0.2, 0.05, gain=1.0)))
    assert "identity = named" in page
    assert "+15.0%" in page
    assert "vetoes" in page
