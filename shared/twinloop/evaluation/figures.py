"""Which figures a judgement is shown with."""

from __future__ import annotations

from html import escape

from twinloop.evaluation.plots import Point, Row, cost_plot, interval_plot
from twinloop.evaluation.roles import role
from twinloop.evaluation.verdict import Comparison, Judged, Verdict

_MOST_SLICES = 16


def figures(verdict: Verdict) -> str:
    """Return the figures as HTML: the metric, the gains, the slices, and quality over latency and size."""
    primary = verdict.policy.primary
    parts = [
        _figure(
            f"{primary} of every model",
            interval_plot(_quality(verdict), primary),
            f"Mean over the cases with its {verdict.policy.confidence:.0%} interval.",
        )
    ]
    gains = _gains(verdict)
    if gains:
        parts.append(
            _figure(
                "Paired gains",
                interval_plot(gains, f"gain in {primary}", zero=True),
                "The whole interval must lie to the right of the upright bar, which is the margin asked for.",
            )
        )
    shown = _of_interest(verdict)
    if shown and shown.slices:
        rival = "champion" if verdict.champion else "trivial baseline"
        some = f", the {_MOST_SLICES} worst" if len(shown.slices) > _MOST_SLICES else ""
        parts.append(
            _figure(
                f"Who gains, who loses with {shown.rung.name}",
                interval_plot(_slices(shown, verdict), f"gain in {primary}", zero=True),
                f"Gain over the {rival} in each slice{some}; the upright bar is the loss that is tolerated.",
            )
        )
    for title, cost, attribute in (
        ("Quality over latency", "latency p99, ms", "latency_p99_ms"),
        ("Quality over size", "size, MB", "size_mb"),
    ):
        parts.append(_figure(title, cost_plot(_points(verdict, attribute), cost, primary), "Up and left is better."))
    return f'<div class="figures">{"".join(parts)}</div>'


def _quality(verdict: Verdict) -> list[Row]:
    primary = verdict.policy.primary
    rows = [Row(e.rung.name, e.measured.metrics[primary], role(e, verdict)) for e in verdict.judged]
    if verdict.champion:
        champion = verdict.champion
        rows.append(Row(f"champion {champion.rung}", champion.measured.metrics[primary], "champion"))
    return rows


def _gains(verdict: Verdict) -> list[Row]:
    rows = []
    for entry in verdict.judged:
        known: list[Comparison] = []
        for comparison in (entry.over_champion, entry.over_simpler, entry.over_baseline):
            if comparison and all(comparison.gain != other.gain for other in known):
                known.append(comparison)
                label = f"{entry.rung.name} v {comparison.rival.removeprefix('the ')}"
                rows.append(Row(label, comparison.gain, role(entry, verdict), comparison.margin))
    return rows


def _of_interest(verdict: Verdict) -> Judged | None:
    """Return who is promoted, or came nearest to it."""
    primary = verdict.policy.primary
    best = sorted(verdict.judged, key=lambda e: (role(e, verdict) == "promoted", e.measured.metrics[primary].mean))
    return best[-1] if best else None


def _slices(entry: Judged, verdict: Verdict) -> list[Row]:
    gains = sorted(entry.slices, key=lambda gain: gain.gain.mean)[:_MOST_SLICES]
    kind = role(entry, verdict)
    return [
        Row(f"{g.slice}={g.label} ({g.cases:,})", g.gain, "vetoed" if g.lost else kind, -g.tolerance) for g in gains
    ]


def _points(verdict: Verdict, attribute: str) -> list[Point]:
    primary = verdict.policy.primary
    points = [
        Point(e.rung.name, getattr(e.measured, attribute), e.measured.metrics[primary], role(e, verdict))
        for e in verdict.judged
    ]
    if verdict.champion:
        measured = verdict.champion.measured
        label = f"champion {verdict.champion.rung}"
        points.append(Point(label, getattr(measured, attribute), measured.metrics[primary], "champion"))
    return points


def _figure(title: str, svg: str, caption: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
