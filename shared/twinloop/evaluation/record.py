"""Verdicts as JSON, for machines: a release's metrics.json, and the record of a judgement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from twinloop.evaluation.intervals import Interval
from twinloop.evaluation.verdict import Comparison, Judged, Measurements, Verdict


def release_metrics(verdict: Verdict, judged: Judged) -> bytes:
    """Return a release's metrics.json: what it scored, on how many cases, against whom, at what cost."""
    return _json(
        {
            "cases": verdict.cases,
            "confidence": verdict.policy.confidence,
            "primary": verdict.policy.primary,
            "standing": judged.standing,
            **_candidate(judged),
        }
    )


def verdict_record(verdict: Verdict, about: Mapping[str, Any]) -> bytes:
    """Return the whole judgement as JSON; `about` comes first."""
    champion = verdict.champion
    return _json(
        {
            **about,
            "promote": verdict.promote,
            "rung": verdict.rung,
            "version": verdict.version,
            "verdict": verdict.words,
            "cases": verdict.cases,
            "policy": verdict.policy.model_dump(mode="json"),
            "champion": champion
            and {"rung": champion.rung, "version": champion.version, **_measured(champion.measured)},
            "candidates": [
                {"rung": entry.rung.name, "version": entry.version, "standing": entry.standing, **_candidate(entry)}
                for entry in verdict.judged
            ],
            "failed": [asdict(entry) for entry in verdict.failed],
            "notes": list(verdict.notes),
        }
    )


def _candidate(judged: Judged) -> dict[str, Any]:
    return {
        **_measured(judged.measured),
        "train_seconds": judged.train_seconds,
        "parity_max_abs_diff": judged.parity,
        "gains": {
            name: _comparison(comparison)
            for name, comparison in (
                ("champion", judged.over_champion),
                ("simpler", judged.over_simpler),
                ("baseline", judged.over_baseline),
            )
            if comparison
        },
        "slices": [
            {
                "slice": gain.slice,
                "label": gain.label,
                "cases": gain.cases,
                "mean": gain.candidate,
                "rival": gain.rival,
                "gain": _interval(gain.gain),
                "lost": gain.lost,
            }
            for gain in judged.slices
        ],
        "subgroups": [
            {
                "slice": rate.slice,
                "label": rate.label,
                "negatives": rate.negatives,
                "false_positive_rate": rate.inside,
                "outside": rate.outside,
                "low": rate.low,
                "high": rate.high,
                "lost": rate.lost,
            }
            for rate in judged.subgroups
        ],
        "vetoes": [asdict(veto) for veto in judged.vetoes],
        "earned": judged.earned,
    }


def _measured(measured: Measurements) -> dict[str, Any]:
    return {
        "metrics": {name: _interval(interval) for name, interval in measured.metrics.items()},
        "latency_p50_ms": measured.latency_p50_ms,
        "latency_p99_ms": measured.latency_p99_ms,
        "size_mb": measured.size_mb,
        "impressions": measured.impressions,
        "within": [asdict(entry) for entry in measured.within],
        "reliability": {
            label: [
                {"predicted": one.predicted, "observed": _interval(one.observed), "impressions": one.impressions}
                for one in bins
            ]
            for label, bins in measured.reliable.items()
        },
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "rival": comparison.rival,
        "margin": comparison.margin,
        "won": comparison.won,
        **_interval(comparison.gain),
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=True).encode()
