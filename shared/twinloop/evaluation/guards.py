"""Guardrails: what no gain in the primary metric can buy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from twinloop.contracts.spec import GatePolicy
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.digits import decimals
from twinloop.evaluation.foretold import Foretold
from twinloop.evaluation.intervals import ratio_interval
from twinloop.evaluation.slices import SliceGain
from twinloop.evaluation.subgroups import FalsePositives, SubgroupRate
from twinloop.evaluation.verdict import Candidate, Veto
from twinloop.features.judged import BUNDLE

# A judge that returns both, per case the sum of predicted probabilities and the number of positives, has the
# calibration of its system guarded.
PREDICTED, OBSERVED = "predicted", "observed"
_UNMEASURED = "no {what} has a positive outcome, so calibration could not be measured"


def serving_vetoes(policy: GatePolicy, candidate: Candidate, data_age_days: float | None) -> tuple[Veto, ...]:
    """Return why a candidate cannot be served at all, whoever the champion is."""
    return tuple(_serving(policy, candidate, data_age_days))


def prediction_vetoes(policy: GatePolicy, foretold: Foretold | None) -> tuple[Veto, ...]:
    """Return why a candidate may not tell its predictions: their mean is off, and by more than chance explains.

    Nor where nothing came at all: then nobody knows, and a feed of outcomes that was never connected looks the same.
    So it is overall, and within declared slices of as many impressions as make `minimum_slice_cases` bundles. The more
    slices are looked at, the more chance may explain (Bonferroni): one of twenty would be off by it otherwise.
    """
    if foretold is None:
        return ()
    unknown = [label for label in foretold.guarded if not foretold.came[label].sum() > 0]
    found = [Veto(f"{label} calibration", _UNMEASURED.format(what="held-out impression")) for label in unknown]
    for label in foretold.guarded:
        if label not in unknown:
            found += _off(policy, foretold, label, policy.confidence)
    least = policy.minimum_slice_cases * BUNDLE
    slices = [entry for entry in foretold.within() if entry[0] in policy.slices and len(entry[2].users) >= least]
    for name, value, inside in slices:
        confidence = 1 - (1 - policy.confidence) / len(slices)
        for label in foretold.guarded:
            found += _off(policy, inside, label, confidence, where=f"{name}={value}")
    return tuple(found)


def false_positive_vetoes(policy: GatePolicy, found: FalsePositives | None) -> tuple[Veto, ...]:
    """Return a veto where more is wrongly acted upon than the policy allows, and not by chance."""
    limit = policy.false_positive_limit
    if limit is None or found is None or found.negatives < policy.minimum_slice_cases or found.low <= limit:
        return ()
    words = (
        f"{found.rate:.1%} of the {found.negatives} cases with nothing to act upon are acted upon "
        f"({found.low:.1%} to {found.high:.1%}); {limit:.1%} is the most that may be"
    )
    return (Veto("false positives", words),)


def subgroup_vetoes(rates: Sequence[SubgroupRate], missing: Sequence[str]) -> tuple[Veto, ...]:
    """Return the slices whose people are wrongly acted upon too often, the worst first, and those not measured."""
    lost = [
        Veto(
            f"false positives in {rate.slice}={rate.label}",
            f"{rate.inside:.1%} of the {rate.negatives} cases of {rate.slice}={rate.label} with nothing to act upon "
            f"are acted upon, and {rate.outside:.1%} of all others; {rate.tolerance:.1%} more are tolerated "
            f"(the difference is {rate.low:+.1%} to {rate.high:+.1%})",
            of_slice=True,
        )
        for rate in sorted(rates, key=lambda rate: -rate.gap)
        if rate.lost
    ]
    blind = [
        Veto(
            f"false positives in {name}",
            f"false positives in the slice {name} are guarded, and no case tells of them: mend the spec or the "
            "snapshot",
            of_slice=True,
        )
        for name in missing
    ]
    return (*blind, *lost)


def slice_vetoes(gains: Sequence[SliceGain], missing: Sequence[str], rival: str) -> tuple[Veto, ...]:
    """Return the slices that lose to the rival, the worst first, and the declared ones that nobody could measure."""
    lost = [_lost(gain, rival) for gain in sorted(gains, key=lambda gain: gain.gain.mean) if gain.lost]
    blind = [
        Veto(f"slice {name}", f"slice {name} is declared, and no case carries it: mend the spec or the snapshot", True)
        for name in missing
    ]
    return (*blind, *lost)


def _lost(gain: SliceGain, rival: str) -> Veto:
    n = decimals(gain.tolerance, gain.gain.half)
    return Veto(
        f"slice {gain.slice}={gain.label}",
        f"slice {gain.slice}={gain.label} loses {-gain.gain.mean:.{n}f} to {rival} on {gain.cases} cases "
        f"({gain.gain.low:+.{n}f} to {gain.gain.high:+.{n}f}); {gain.tolerance:.{n}f} is tolerated",
        of_slice=True,
    )


def _serving(policy: GatePolicy, candidate: Candidate, data_age_days: float | None) -> Iterator[Veto]:
    p99 = candidate.scores.latency(99)
    if p99 > policy.latency_p99_ms:
        yield Veto("latency", f"latency p99 {p99:.1f} ms is over the budget of {policy.latency_p99_ms:g} ms")
    if candidate.size_mb > policy.size_mb:
        yield Veto("size", f"size {candidate.size_mb:.1f} MB is over the budget of {policy.size_mb:g} MB")
    # Written so that a NaN, which compares with nothing, is a veto too.
    if not candidate.parity <= policy.parity_tolerance:
        yield Veto(
            "parity",
            f"the ONNX output differs from the framework's by {candidate.parity:.1e}; "
            f"{policy.parity_tolerance:.1e} is tolerated",
        )
    if policy.max_data_age_days is not None:
        if data_age_days is None:
            yield Veto("freshness", "the age of the snapshot's newest event is not known")
        elif data_age_days > policy.max_data_age_days:
            yield Veto(
                "freshness",
                f"the newest event of the snapshot is {data_age_days:.1f} days old; "
                f"{policy.max_data_age_days:g} are allowed",
            )
    yield from _calibration(policy, candidate.scores)


def _calibration(policy: GatePolicy, scores: CaseScores) -> Iterator[Veto]:
    if PREDICTED not in scores.metrics or OBSERVED not in scores.metrics:
        return
    if not scores.metrics[OBSERVED].sum() > 0:
        yield Veto("calibration", _UNMEASURED.format(what="case"))
        return
    ratio = ratio_interval(
        scores.metrics[PREDICTED],
        scores.metrics[OBSERVED],
        confidence=policy.confidence,
        resamples=policy.resamples,
    )
    if not abs(ratio.mean - 1) <= policy.calibration_tolerance:
        yield Veto(
            "calibration",
            f"it predicts {ratio.mean:.3f} times what was observed ({ratio.low:.3f} to {ratio.high:.3f}); "
            f"1 +- {policy.calibration_tolerance:g} is tolerated",
        )


def _off(policy: GatePolicy, foretold: Foretold, label: str, confidence: float, where: str = "") -> Iterator[Veto]:
    """The difference of sums against its own interval, which is the wider one of two.

    One is what outcomes vary by if the predictions are right (they are independent then), so that a handful of
    impressions proves nothing; the other what users' differences vary by, so that a few of them do not either.
    """
    came, said = foretold.came[label], foretold.said[label]
    predicted, observed = float(said.sum()), float(came.sum())
    _, places = np.unique(foretold.users, return_inverse=True)
    of_users = np.bincount(places, weights=said - came)
    users = len(of_users)
    variance = max(float((said * (1 - said)).sum()), float(users * of_users.var(ddof=1)) if users > 1 else 0.0)
    chance = NormalDist().inv_cdf((1 + confidence) / 2) * variance**0.5
    ratio = predicted / observed if observed else float("inf")
    if abs(ratio - 1) <= policy.calibration_tolerance or abs(predicted - observed) <= chance:
        return
    times = f"{ratio:.3f} times the outcomes" if observed else "outcomes where none came"
    yield Veto(
        f"{label} calibration{f' in {where}' if where else ''}",
        f"its predictions of {label} {f'in the slice {where} ' if where else ''}promise {times} "
        f"({predicted:,.0f} predicted, {observed:,.0f} observed on {len(came):,} held-out impressions; "
        f"chance explains {chance:,.0f}); 1 +- {policy.calibration_tolerance:g} is tolerated",
    )
