"""How a model is marked in the report: by what became of it."""

from __future__ import annotations

from twinloop.evaluation.verdict import Judged, Verdict

_SYMBOLS = {"promoted": "▲", "vetoed": "✕", "plain": "○"}


def role(entry: Judged, verdict: Verdict) -> str:
    """Return promoted, vetoed or plain."""
    if verdict.promote and entry.version == verdict.version:
        return "promoted"
    return "vetoed" if entry.vetoes else "plain"


def symbol(entry: Judged, verdict: Verdict) -> str:
    """Return the mark that tells the role where colour cannot; a rung that held its place has a tick."""
    kind = role(entry, verdict)
    return "✓" if kind == "plain" and entry.earned else _SYMBOLS[kind]
