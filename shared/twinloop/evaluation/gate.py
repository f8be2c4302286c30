"""The judge: a candidate is promoted when it is surely better than what serves, and pays for its complexity.

All comparisons are paired, on the same cases, by the primary metric, and decided by the lower bound of the gain's
interval. The ladder is climbed from simple to complex: each rung must beat the best simpler one that held its place by
what its measured cost asks for and its `extra_margin`, and everybody must beat the trivial baseline. Whoever holds the
highest place is then set against the champion; where it fails there, the next one below may try.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from twinloop.contracts.spec import GatePolicy, Rung
from twinloop.errors import BadInputError
from twinloop.evaluation import words
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.foretold import reliability, slice_metrics, summary
from twinloop.evaluation.guards import (
    OBSERVED,
    PREDICTED,
    false_positive_vetoes,
    prediction_vetoes,
    serving_vetoes,
    slice_vetoes,
    subgroup_vetoes,
)
from twinloop.evaluation.intervals import Interval, mean_interval, paired_gain
from twinloop.evaluation.slices import slice_gains, unmeasured
from twinloop.evaluation.subgroups import (
    FALSE_POSITIVES,
    NEGATIVES,
    false_positives,
    subgroup_rates,
    unguarded,
    untold,
)
from twinloop.evaluation.verdict import (
    Candidate,
    Champion,
    Comparison,
    FailedRung,
    Judged,
    JudgedChampion,
    Measurements,
    Verdict,
    Veto,
)

_COUNTS = frozenset({PREDICTED, OBSERVED, NEGATIVES, FALSE_POSITIVES})  # told as rates, not as means of the cases


def judge(
    policy: GatePolicy,
    rungs: Sequence[Rung],
    candidates: Sequence[Candidate],
    *,
    champion: Champion | None = None,
    failed: Sequence[FailedRung] = (),
    data_age_days: float | None = None,
    notes: Sequence[str] = (),
) -> Verdict:
    """Decide which release serves from now on. Pure: the same figures give the same verdict.

    Args:
        policy: The system's margins, budgets and slices.
        rungs: The system's ladder; its lowest complexity is the trivial baseline.
        candidates: What was trained on the snapshot and could be judged.
        champion: What serves now, judged on the same cases; None where nothing can serve.
        failed: Rungs without a model to judge; they are told, and stop nobody else.
        data_age_days: Age of the snapshot's newest event.
        notes: What the report should say beside it.

    Raises:
        BadInputError: The models were not judged on the same cases, or not by the primary metric.
    """
    ladder = _Ladder(policy, rungs, candidates, champion, data_age_days)
    judged = ladder.climb()
    serving = _judged_champion(policy, champion) if champion else None
    winner = next((entry for entry in _by_place(policy, judged) if _promotable(entry, serving)), None)
    told = tuple(
        replace(entry, standing="is promoted" if entry is winner else words.standing(entry, serving))
        for entry in judged
    )
    rest = words.aside([entry for entry in told if winner is None or entry.version != winner.version], failed)
    lead = words.promotion(policy, winner, serving) if winner else words.keeping(policy, judged, serving)
    rung = winner.rung.name if winner else serving.rung if serving else None
    kept = winner or serving
    return Verdict(
        promote=winner is not None,
        rung=rung,
        version=kept.version if kept else None,
        lead=lead,
        words=lead + rest,
        judged=told,
        champion=serving,
        failed=tuple(failed),
        notes=(*notes, *ladder.notes()),
        cases=len((champion or candidates[0]).scores.case_ids) if champion or candidates else 0,
        policy=policy,
    )


@dataclass
class _Ladder:
    """The comparisons of one judgement."""

    policy: GatePolicy
    rungs: Sequence[Rung]
    candidates: Sequence[Candidate]
    champion: Champion | None
    data_age_days: float | None

    def __post_init__(self) -> None:
        _check_alignment(self.policy, [*self.candidates, *([self.champion] if self.champion else [])])
        trivial = min((rung.complexity for rung in self.rungs), default=0)
        self._baseline = next((c for c in self.candidates if c.rung.complexity == trivial), None)
        self._complexity = {rung.name: rung.complexity for rung in self.rungs}

    def climb(self) -> tuple[Judged, ...]:
        """Judge every candidate, from simple to complex."""
        judged: list[Judged] = []
        holder: Candidate | None = None
        for complexity in sorted({c.rung.complexity for c in self.candidates}):
            level = [c for c in self.candidates if c.rung.complexity == complexity]
            verdicts = [(c, self._judged(c, holder)) for c in sorted(level, key=lambda c: c.rung.name)]
            judged += [entry for _, entry in verdicts]
            risen = [c for c, entry in verdicts if entry.earned]
            holder = max(risen, key=self._mean, default=holder)
        return tuple(judged)

    def notes(self) -> list[str]:
        """Say what could not be compared."""
        told = []
        if self.candidates and self._baseline is None:
            told.append("The trivial baseline could not be judged, so nobody was compared with it.")
        if self.champion is None:
            told.append("There was no champion to compare with; slices were compared with the trivial baseline.")
        elif self.champion.rung not in self._complexity:
            told.append(f"The champion's rung {self.champion.rung} is no longer on the ladder.")
        return told

    def _judged(self, candidate: Candidate, holder: Candidate | None) -> Judged:
        vetoes = serving_vetoes(self.policy, candidate, self.data_age_days)
        vetoes = (*vetoes, *prediction_vetoes(self.policy, candidate.foretold))
        vetoes = (*vetoes, *false_positive_vetoes(self.policy, false_positives(self.policy, candidate.scores)))
        subgroups = subgroup_rates(self.policy, candidate.scores)
        vetoes = (*vetoes, *subgroup_vetoes(subgroups, untold(self.policy, candidate.scores)))
        if self._baseline is None and self.champion is None:
            nobody = "there is neither a trivial baseline nor a champion to compare it with"
            vetoes = (*vetoes, Veto("comparison", nobody))
        baseline = self._baseline if self._baseline is not candidate else None
        over_baseline = self._compare(candidate, baseline, baseline.rung.name, 0.0) if baseline else None
        over_simpler = (
            self._compare(candidate, holder, holder.rung.name, self._asked(candidate, holder)) if holder else None
        )
        rival = self.champion or baseline
        gains = slice_gains(self.policy, candidate.scores, rival.scores) if rival else ()
        rival_name = "the champion" if self.champion else "the trivial baseline"
        lost = slice_vetoes(gains, unmeasured(self.policy, candidate.scores), rival_name)
        return Judged(
            rung=candidate.rung,
            version=candidate.version,
            measured=_measurements(self.policy, candidate),
            train_seconds=candidate.train_seconds,
            parity=candidate.parity,
            over_baseline=over_baseline,
            over_simpler=over_simpler,
            over_champion=self._over_champion(candidate),
            slices=gains,
            vetoes=(*vetoes, *lost),
            subgroups=subgroups,
            unguarded=unguarded(self.policy, candidate.scores),
            # A loss in a slice depends on who the champion is; what a rung is worth to the ladder does not.
            earned=not vetoes and all(c is None or c.won for c in (over_baseline, over_simpler)),
        )

    def _over_champion(self, candidate: Candidate) -> Comparison | None:
        if self.champion is None:
            return None
        margin = self.policy.margin
        # Where the champion is itself a simpler rung, the extra complexity has to be earned over it as well.
        if self._complexity.get(self.champion.rung, candidate.rung.complexity) < candidate.rung.complexity:
            margin = max(margin, self._asked(candidate, self.champion))
        return self._compare(candidate, self.champion, f"the champion ({self.champion.rung})", margin)

    def _asked(self, candidate: Candidate, rival: Candidate | Champion) -> float:
        """Return the gain that a candidate's cost asks for; what it saves buys nothing."""
        prices = self.policy.prices
        trained_s = rival.train_seconds if isinstance(rival, Candidate) else candidate.train_seconds
        return (
            candidate.rung.extra_margin
            + prices.per_ms * max(0.0, candidate.scores.latency(50) - rival.scores.latency(50))
            + prices.per_mb * max(0.0, candidate.size_mb - rival.size_mb)
            + prices.per_training_minute * max(0.0, candidate.train_seconds - trained_s) / 60
        )

    def _compare(self, ours: Candidate, theirs: Candidate | Champion, name: str, margin: float) -> Comparison:
        gain = paired_gain(
            ours.scores.metrics[self.policy.primary],
            theirs.scores.metrics[self.policy.primary],
            confidence=self.policy.confidence,
            resamples=self.policy.resamples,
        )
        return Comparison(name, gain, margin)

    def _mean(self, candidate: Candidate) -> float:
        return float(candidate.scores.metrics[self.policy.primary].mean())


def _promotable(entry: Judged, champion: JudgedChampion | None) -> bool:
    if not entry.earned or entry.vetoes:
        return False
    if champion is None:
        return True
    return entry.version != champion.version and entry.over_champion is not None and entry.over_champion.won


def _by_place(policy: GatePolicy, judged: Sequence[Judged]) -> list[Judged]:
    """Those who may try, the highest place first; of equals the better one."""
    key = policy.primary
    return sorted(judged, key=lambda e: (e.rung.complexity, e.measured.metrics[key].mean), reverse=True)


def _judged_champion(policy: GatePolicy, champion: Champion) -> JudgedChampion:
    return JudgedChampion(champion.rung, champion.version, _measurements(policy, champion))


def _measurements(policy: GatePolicy, model: Candidate | Champion) -> Measurements:
    scores, foretold = model.scores, model.foretold
    of_shown = summary(foretold, policy.confidence) if foretold else {}
    return Measurements(
        metrics=summarise(policy, scores) | of_shown,
        latency_p50_ms=scores.latency(50),
        latency_p99_ms=scores.latency(99),
        size_mb=model.size_mb,
        foretold=tuple(of_shown),
        impressions=len(foretold.users) if foretold else 0,
        within=slice_metrics(foretold) if foretold else (),
        reliable={of: reliability(foretold, of, policy.confidence) for of in foretold.chances} if foretold else {},
    )


def summarise(policy: GatePolicy, scores: CaseScores) -> dict[str, Interval]:
    """Return every metric's mean with its interval, the primary one first."""
    shown = sorted((name for name in scores.metrics if name not in _COUNTS), key=policy.primary.__ne__)
    return {
        name: mean_interval(scores.metrics[name], confidence=policy.confidence, resamples=policy.resamples)
        for name in shown
    }


def _check_alignment(policy: GatePolicy, models: Sequence[Candidate | Champion]) -> None:
    for model in models:
        if policy.primary not in model.scores.metrics:
            known = ", ".join(sorted(model.scores.metrics))
            raise BadInputError(f"the primary metric {policy.primary!r} was not measured; there is {known}")
        if model.scores.case_ids != models[0].scores.case_ids:
            raise BadInputError("the models were not judged on the same cases in the same order")
