"""The report of one judgement: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.evaluation.digits import decimals, places
from twinloop.evaluation.figures import figures
from twinloop.evaluation.foretold import LEGEND
from twinloop.evaluation.intervals import Interval
from twinloop.evaluation.roles import role, symbol
from twinloop.evaluation.verdict import Judged, JudgedChampion, Verdict


@dataclass(frozen=True)
class Occasion:
    """Of what system, on what snapshot, and when was judged."""

    system: str
    snapshot: SnapshotManifest
    judged_at: datetime


def render(verdict: Verdict, occasion: Occasion) -> str:
    """Return the page. Everything that comes from outside is escaped; nothing is fetched; it prints and darkens."""
    title = f"{occasion.system}: {_headline(verdict)}"
    body = "\n".join(
        (
            _head(verdict, occasion),
            _section("The ladder, from simple to complex", _ladder(verdict)),
            _section("Figures", figures(verdict)) if verdict.judged or verdict.champion else "",
            _section("All metrics of the cases", _metrics(verdict)) if verdict.judged or verdict.champion else "",
            _section("Predictions, and what came of them", _foretold(verdict)) if _predicting(verdict) else "",
            _section("Guardrails and cost", _guards(verdict)) if verdict.judged else "",
            _section("Slices", _slices(verdict)) if any(entry.slices for entry in verdict.judged) else "",
            _section("False positives in slices", _subgroups(verdict))
            if any(entry.subgroups for entry in verdict.judged)
            else "",
            _section("Notes", _notes(verdict.notes)) if verdict.notes else "",
            _section("How to read this", _method(verdict)),
        )
    )
    template = Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body=body)


def _headline(verdict: Verdict) -> str:
    if verdict.promote:
        return f"promote {verdict.rung}"
    return f"keep the champion {verdict.rung}" if verdict.rung else "nothing to promote"


def _head(verdict: Verdict, occasion: Occasion) -> str:
    snapshot = occasion.snapshot
    serving = [entry for entry in verdict.judged if entry.version == verdict.version]
    measured = serving[0].measured if serving else verdict.champion.measured if verdict.champion else None
    facts = [("judged on", f"{verdict.cases:,} cases")]
    if measured:
        facts = [
            (verdict.policy.primary, _interval(verdict.policy.primary, measured.metrics)),
            ("latency p99", f"{measured.latency_p99_ms:.1f} ms"),
            ("size", f"{measured.size_mb:.1f} MB"),
            *facts,
        ]
    kind = "promote" if verdict.promote else "keep"
    return f"""<h1>{escape(occasion.system)}: the gate's verdict</h1>
<p class="faint">Snapshot {escape(snapshot.snapshot_id)}, events from {snapshot.first_event:%Y-%m-%d} to
{snapshot.last_event:%Y-%m-%d}, judged {occasion.judged_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC</p>
<div class="verdict {kind}"><strong>{escape(_headline(verdict).capitalize())}</strong>
<p>{escape(verdict.lead)}</p></div>
<dl class="facts">{"".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in facts)}</dl>"""


def _ladder(verdict: Verdict) -> str:
    rows = [
        f'<li><span class="mark {role(entry, verdict)}">{symbol(entry, verdict)}</span>'
        f"<div><b>{escape(entry.rung.name)}</b> "
        f'<span class="faint">{_interval(verdict.policy.primary, entry.measured.metrics)} · '
        f"{escape(entry.version)}</span><br>{escape(entry.standing)}</div></li>"
        for entry in verdict.judged
    ]
    rows += [
        f'<li><span class="mark vetoed">–</span><div><b>{escape(entry.rung)}</b> '
        f'<span class="faint">could not be judged</span><br>{escape(entry.reason)}</div></li>'
        for entry in verdict.failed
    ]
    if verdict.champion:
        champion = verdict.champion
        until = "the champion until now" if verdict.promote else "the champion, which stays"
        rows.append(
            f'<li><span class="mark champion">◆</span><div><b>{escape(champion.rung)}</b> '
            f'<span class="faint">{_interval(verdict.policy.primary, champion.measured.metrics)} · '
            f"{escape(champion.version)}</span><br>{until}</div></li>"
        )
    return f'<ul class="ladder">{"".join(rows)}</ul>'


def _metrics(verdict: Verdict) -> str:
    models = _models(verdict)
    names = [
        name
        for name in dict.fromkeys(name for *_, model in models for name in model.measured.metrics)
        if not any(name in model.measured.foretold for *_, model in models)
    ]
    rows = [
        [f'<th class="{kind}">{escape(label)}</th>']
        + [f"<td>{_cell(name, model.measured.metrics)}</td>" for name in names]
        for label, kind, model in models
    ]
    return _table(["", *names], rows)


def _models(verdict: Verdict) -> list[tuple[str, str, Judged | JudgedChampion]]:
    """Everybody with a name and a role, the champion last."""
    models: list[tuple[str, str, Judged | JudgedChampion]] = [
        (entry.rung.name, role(entry, verdict), entry) for entry in verdict.judged
    ]
    if verdict.champion:
        models.append((f"champion {verdict.champion.rung}", "champion", verdict.champion))
    return models


def _predicting(verdict: Verdict) -> list[tuple[str, str, Judged | JudgedChampion]]:
    return [entry for entry in _models(verdict) if entry[2].measured.foretold]


def _foretold(verdict: Verdict) -> str:
    """One row a metric: there are many of them, and few models that predict."""
    models = _predicting(verdict)
    names = list(dict.fromkeys(name for *_, model in models for name in model.measured.foretold))
    rows = [
        [f'<th>{escape(name)}</th><td class="text">{escape(LEGEND[name.rpartition("_")[2]])}</td>']
        + [f"<td>{_cell(name, model.measured.metrics)}</td>" for *_, model in models]
        for name in names
    ]
    heads = '<th></th><th class="text"></th>' + "".join(
        f'<th class="{kind}">{escape(label)}</th>' for label, kind, _ in models
    )
    count = max(model.measured.impressions for *_, model in models)
    told = (
        f"On {count:,} held-out impressions, each asked for alone with what was known just before it, and not where in "
        "the list it stood. Intervals resample users, whose impressions go together."
    )
    return f'{_rows(heads, rows)}<p class="faint">{told}</p>{_within(verdict)}'


def _within(verdict: Verdict) -> str:
    """The metrics of chances in every slice that impressions are in; nothing where they have no slices."""
    models = [entry for entry in _predicting(verdict) if entry[2].measured.within]
    if not models:
        return ""
    names = list(dict.fromkeys(name for *_, m in models for one in m.measured.within for name in one.metrics))
    rows = [
        [
            f'<th class="{kind}">{escape(label)}</th>',
            f'<td class="text">{escape(one.slice)} = {escape(one.label)}</td>',
            f"<td>{one.impressions:,}</td>",
            *(
                f"<td>{one.metrics[name]:.{max(4, places(name))}f}</td>" if name in one.metrics else "<td></td>"
                for name in names
            ),
        ]
        for label, kind, model in models
        for one in model.measured.within
    ]
    return f"<h3>In slices</h3>{_table(['', 'slice', 'impressions', *names], rows)}"


def _guards(verdict: Verdict) -> str:
    policy = verdict.policy
    heads = [
        "",
        "p50 ms",
        f"p99 ms (≤ {policy.latency_p99_ms:g})",
        f"MB (≤ {policy.size_mb:g})",
        "training s",
        f"parity (≤ {policy.parity_tolerance:.0e})",
        "vetoes",
    ]
    rows = [
        [
            f'<th class="{role(entry, verdict)}">{escape(entry.rung.name)}</th>',
            f"<td>{entry.measured.latency_p50_ms:.2f}</td>",
            f"<td>{entry.measured.latency_p99_ms:.2f}</td>",
            f"<td>{entry.measured.size_mb:.2f}</td>",
            f"<td>{entry.train_seconds:.1f}</td>",
            f"<td>{entry.parity:.1e}</td>",
            f'<td class="text">{escape(", ".join(veto.guard for veto in entry.vetoes) or "none")}</td>',
        ]
        for entry in verdict.judged
    ]
    return _table(heads, rows)


def _slices(verdict: Verdict) -> str:
    rows = [
        [
            f'<th class="{role(entry, verdict)}">{escape(entry.rung.name)}</th>',
            f'<td class="text">{escape(gain.slice)} = {escape(gain.label)}</td>',
            f"<td>{gain.cases:,}</td>",
            f"<td>{gain.candidate:.{places(verdict.policy.primary)}f}</td>",
            f"<td>{gain.rival:.{places(verdict.policy.primary)}f}</td>",
            f"<td>{_gain(gain.gain, gain.tolerance)}</td>",
            f'<td class="text">{"loses" if gain.lost else "holds" if gain.enough else "too few to veto"}</td>',
        ]
        for entry in verdict.judged
        for gain in entry.slices
    ]
    rival = "champion" if verdict.champion else "baseline"
    return _table(["", "slice", "cases", verdict.policy.primary, rival, "gain", ""], rows)


def _gain(interval: Interval, tolerance: float) -> str:
    n = decimals(tolerance, interval.half)
    return f"{interval.mean:+.{n}f} <small>{interval.low:+.{n}f} to {interval.high:+.{n}f}</small>"


def _subgroups(verdict: Verdict) -> str:
    """How often cases with nothing to act upon are acted upon, inside each guarded slice and outside it."""
    rows = [
        [
            f'<th class="{role(entry, verdict)}">{escape(entry.rung.name)}</th>',
            f'<td class="text">{escape(rate.slice)} = {escape(rate.label)}</td>',
            f"<td>{rate.negatives:,}</td>",
            f"<td>{rate.inside:.1%}</td>",
            f"<td>{rate.outside:.1%}</td>",
            f"<td>{rate.gap:+.1%} <small>{rate.low:+.1%} to {rate.high:+.1%}</small></td>",
            f'<td class="text">{"vetoes" if rate.lost else "holds" if rate.enough else "too few to veto"}</td>',
        ]
        for entry in verdict.judged
        for rate in entry.subgroups
    ]
    policy = verdict.policy
    table = _table(["", "slice", "negatives", "inside", "outside", "difference", ""], rows)
    told = (
        f"More than {policy.false_positive_tolerance:.1%} inside above outside vetoes, where the interval of the "
        f"difference is above 0 and both sides have {policy.minimum_slice_cases:,} cases with nothing to act upon."
    )
    if policy.false_positive_limit is not None:
        told += f" So does a rate over all cases that is surely above {policy.false_positive_limit:.1%}."
    return f"<p>{told}</p>{table}"


def _notes(notes: Iterable[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'


def _method(verdict: Verdict) -> str:
    policy = verdict.policy
    prices = policy.prices
    return f"""<p>Every model answered the same {verdict.cases:,} labelled cases through the code that serves, on one
thread. Intervals are {policy.confidence:.0%} percentile bootstrap intervals over {policy.resamples:,} resamples of the
cases; gains are paired, case by case. A candidate is promoted only if the lower bound of its gain in
{escape(policy.primary)} over the champion is above {policy.margin:g}, over the best simpler rung that held its place
above what its own cost asks for, and over the trivial baseline above 0. Cost asks for {prices.per_ms:g} a millisecond
of p50 that it takes longer, {prices.per_mb:g} a megabyte, {prices.per_training_minute:g} a minute of training, and the
rung's own margin. A slice vetoes when it loses more than {policy.slice_tolerance:g} on at least
{policy.minimum_slice_cases:,} cases and the whole interval is below 0.</p>"""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = {"", "slice", "vetoes"}
    head = "".join(f"<th{' class=text' if name in text else ''}>{escape(name)}</th>" for name in heads)
    return _rows(head, rows)


def _rows(head: str, rows: Sequence[Sequence[str]]) -> str:
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(name: str, metrics: Mapping[str, Interval]) -> str:
    """A metric with its interval; nothing where it is not there."""
    if name not in metrics:
        return ""
    interval, n = metrics[name], places(name)
    return f"{interval.mean:.{n}f} <small>{interval.low:.{n}f} to {interval.high:.{n}f}</small>"


def _interval(name: str, metrics: Mapping[str, Interval]) -> str:
    interval, n = metrics[name], places(name)
    return f"{interval.mean:.{n}f} ± {interval.half:.{n}f}"
