"""The verdict in words: what was decided, on which figures, and what became of everybody else."""

from __future__ import annotations

from collections.abc import Sequence

from twinloop.contracts.spec import GatePolicy
from twinloop.evaluation.digits import decimals, places
from twinloop.evaluation.intervals import Interval
from twinloop.evaluation.verdict import Comparison, FailedRung, Judged, JudgedChampion


def gain_words(comparison: Comparison) -> str:
    """Say a gain, its interval and how it stands to its margin."""
    gain = comparison.gain
    relation = "above" if comparison.won else "not above"
    n = decimals(comparison.margin, gain.half)
    return (
        f"{gain.mean:+.{n}f} over {comparison.rival}, {gain.confidence:.0%} interval {gain.low:+.{n}f} to "
        f"{gain.high:+.{n}f}, lower bound {relation} {comparison.margin:.{n}f}"
    )


def metric_words(name: str, interval: Interval) -> str:
    """Say a metric with its interval."""
    n = places(name)
    return f"{name} {interval.mean:.{n}f} ({interval.low:.{n}f} to {interval.high:.{n}f})"


def standing(judged: Judged, champion: JudgedChampion | None) -> str:
    """Say why a candidate that is not promoted is not."""
    if champion and judged.version == champion.version:
        return "is the champion already"
    unservable = [veto for veto in judged.vetoes if not veto.of_slice]
    if unservable:
        return "vetoed: " + "; ".join(veto.reason for veto in unservable)
    for comparison, fault in (
        (judged.over_baseline, "does not beat the trivial baseline"),
        (judged.over_simpler, "does not pay for its complexity"),
        (judged.over_champion, "does not beat the champion"),
    ):
        if comparison and not comparison.won:
            return f"{fault}: {gain_words(comparison)}"
    if judged.vetoes:
        more = len(judged.vetoes) - 1
        rest = f"; so do {more} more slices" if more > 1 else "; so does one more slice" if more else ""
        return f"vetoed: {judged.vetoes[0].reason}{rest}"
    return "earned its place, and a better candidate earned it too"


def promotion(policy: GatePolicy, winner: Judged, champion: JudgedChampion | None) -> str:
    """Say why the winner is promoted."""
    against = (
        f" against the champion's ({champion.rung}) "
        f"{champion.measured.metrics[policy.primary].mean:.{places(policy.primary)}f}"
        if champion
        else "; there is no champion yet"
    )
    reasons = [gain_words(c) for c in _distinct((winner.over_champion, winner.over_simpler, winner.over_baseline))]
    guards = [
        f"latency p99 {winner.measured.latency_p99_ms:.1f} of {policy.latency_p99_ms:g} ms",
        f"size {winner.measured.size_mb:.1f} of {policy.size_mb:g} MB",
        f"parity {winner.parity:.1e}",
    ]
    if winner.slices:
        guards.append(f"{sum(gain.enough for gain in winner.slices)} slices without a loss")
    gained = f" It gains {'; '.join(reasons)}." if reasons else ""
    metric = metric_words(policy.primary, winner.measured.metrics[policy.primary])
    blind = (
        f" NOT GUARDED against wrong actions, too few cases with nothing to act upon: {', '.join(winner.unguarded)}."
        if winner.unguarded
        else ""
    )
    return f"promote {winner.rung.name}: {metric}{against}.{gained} Guardrails hold: {', '.join(guards)}.{blind}"


def keeping(policy: GatePolicy, judged: Sequence[Judged], champion: JudgedChampion | None) -> str:
    """Say why nothing is promoted."""
    if champion is None:
        return "promote nothing: no candidate may serve, and there is no champion. Answers come from the fallback."
    metric = metric_words(policy.primary, champion.measured.metrics[policy.primary])
    if any(entry.version == champion.version for entry in judged):
        return f"keep the champion {champion.rung}: {metric}. This training made the same release again."
    compared = [entry.over_champion for entry in judged if entry.over_champion]
    if not compared:
        return f"keep the champion {champion.rung}: {metric}. There was no candidate."
    best = gain_words(max(compared, key=lambda comparison: comparison.gain.mean))
    return f"keep the champion {champion.rung}: {metric}. No candidate earned its place; the best one has {best}."


def aside(judged: Sequence[Judged], failed: Sequence[FailedRung]) -> str:
    """Say what became of the candidates that are not promoted, and of the rungs that failed."""
    told = [f"{entry.rung.name} {entry.standing}." for entry in judged]
    told += [f"{entry.rung} could not be judged: {entry.reason.rstrip('.')}." for entry in failed]
    return "".join(" " + sentence for sentence in told)


def _distinct(comparisons: Sequence[Comparison | None]) -> list[Comparison]:
    """Drop what is not there, and comparisons that would say the same twice."""
    found: list[Comparison] = []
    for comparison in comparisons:
        if comparison and all(comparison.gain != known.gain for known in found):
            found.append(comparison)
    return found
