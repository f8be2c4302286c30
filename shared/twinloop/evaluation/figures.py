"""Which figures a judgement is shown with."""

from __future__ import annotations

from html import escape

from twinloop.evaluation.plots import Curve, Point, Row, cost_plot, interval_plot, reliability_plot
from twinloop.evaluation.roles import role
from twinloop.evaluation.verdict import Comparison, Judged, Verdict

_MOST_SLICES = 16


def figures(verdict: Verdict) -> str:
    """Return the figures as HTML: the metric, the gains, the slices, quality over cost, and how far chances hold."""
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
    parts.append(
        _figure(
            "Quality over cost",
            cost_plot(_points(verdict), "latency p50 of a case, ms", primary),
            "Up and left is better; a point's area is what serving reads, in megabytes.",
        )
    )
    curves = _curves(verdict)
    for label in dict.fromkeys(label for curve in curves for label in curve):
        drawn = [curve[label] for curve in curves if label in curve]
        parts.append(
            _figure(
                f"Predicted and observed: {label}",
                reliability_plot(drawn, f"predicted {label}", f"observed {label}"),
                "Up to ten bins of as many impressions each; on the dashed line promises hold. Intervals are "
                f"Wilson's, {verdict.policy.confidence:.0%}, as if impressions were independent. Axes: square roots.",
            )
        )
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


def _points(verdict: Verdict) -> list[Point]:
    models = [(e.rung.name, e.measured, role(e, verdict)) for e in verdict.judged]
    if verdict.champion:
        models.append((f"champion {verdict.champion.rung}", verdict.champion.measured, "champion"))
    return [
        Point(
            f"{label}, {_size(measured.size_mb)}",
            measured.latency_p50_ms,
            measured.metrics[verdict.policy.primary],
            kind,
            measured.size_mb,
        )
        for label, measured, kind in models
    ]


def _size(megabytes: float) -> str:
    return f"{megabytes:.1f} MB" if megabytes >= 1 else f"{megabytes * 1024:.1f} KB"


def _curves(verdict: Verdict) -> list[dict[str, Curve]]:
    """The chances by label of who is promoted or came nearest to it, and the champion's; more would hide each other."""
    models = [(e.rung.name, e.measured, role(e, verdict)) for e in (_of_interest(verdict),) if e is not None]
    if verdict.champion:
        models.append((f"champion {verdict.champion.rung}", verdict.champion.measured, "champion"))
    return [
        {label: Curve(name, bins, kind) for label, bins in measured.reliable.items()} for name, measured, kind in models
    ]


def _figure(title: str, svg: str, caption: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
