"""Features from a stored history at a moment: the online twin of `offline.py`, without any dependency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from twinloop.contracts.features import Feature
from twinloop.contracts.history import DEFAULT_LENGTH, HistoryEntry, merge_histories
from twinloop.errors import BadInputError

DAY_MS = 86_400_000


@dataclass(frozen=True)
class FeatureValue:
    """A feature's value (a float, or ids of a last_n), and whether it is the default because it had expired."""

    value: float | tuple[str, ...]
    expired: bool = False


def compute(
    history: Iterable[HistoryEntry], features: Sequence[Feature], at_ms: int, *, length: int = DEFAULT_LENGTH
) -> dict[str, FeatureValue]:
    """Return every feature by name, from the latest `length` entries before `at_ms` (epoch milliseconds).

    Only the features of the entity whose history this is make sense here; the ids of a last_n are the entries' ids.
    """
    before: Sequence[HistoryEntry] = [entry for entry in history if entry.time_ms < at_ms]
    if any((a.time_ms, a.item_id) >= (b.time_ms, b.item_id) for a, b in pairwise(before)):
        before = merge_histories((), before, length)
    before = before[max(len(before) - length, 0) :]  # stored histories are in order: requests pay for no sorting
    return {feature.name: _value(feature, before, at_ms) for feature in features}


def _value(feature: Feature, history: Sequence[HistoryEntry], at_ms: int) -> FeatureValue:
    entries = history
    if feature.window_days is not None:
        start = at_ms - round(feature.window_days * DAY_MS)
        entries = [entry for entry in history if entry.time_ms >= start]
    expired = bool(history) and history[-1].time_ms < at_ms - round(feature.time_to_live_days * DAY_MS)
    if expired or not entries:
        return FeatureValue(() if feature.kind == "last_n" else feature.default, expired)
    return FeatureValue(_computed(feature, entries, at_ms))


def _computed(feature: Feature, entries: Sequence[HistoryEntry], at_ms: int) -> float | tuple[str, ...]:
    match feature.kind:
        case "last_n":
            ids = [entry.item_id for entry in entries if entry.positive]
            return tuple(ids[max(len(ids) - feature.length, 0) :])
        case "count":
            return float(sum(entry.positive for entry in entries))
        case "mean":
            return sum(entry.strength for entry in entries) / len(entries)
        case "recency":
            return (at_ms - entries[-1].time_ms) / DAY_MS
        case _:
            raise BadInputError(f"{feature.name!r} is not a feature of a history")
