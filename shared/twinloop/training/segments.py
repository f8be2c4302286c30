"""What is popular where: popularity by what is known of a new user, kept only where it tells more than everybody's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp
from numpy.typing import NDArray

from twinloop.contracts.segments import segment_value
from twinloop.training.events import Events, Ints

MOST_VALUES, MOST_ITEMS = 100, 300
FEWEST_USERS = 20  # a segment of fewer says little, and might say it of somebody
_PRIORS = (100.0, 1_000.0, 10_000.0)  # likes that everybody's popularity counts for in a segment's
_SURE = 2.0  # standard errors that a key's gain must lie above nothing
_MOST_EVENTS = 500_000


@dataclass(frozen=True)
class Segments:
    """Popularity by one key, such as `country`.

    Attributes:
        key: As a request's context names it.
        gain: Nats that a like of a user who was not counted gains on average over everybody's popularity.
        boosts: Value -> item -> log of (share in the segment / share of everybody), up to a constant; 0 if not there.
    """

    key: str
    gain: float
    boosts: Mapping[str, Mapping[int, float]]


def attributes(snapshot: Path, user_ids: Sequence[str], keys: Sequence[str]) -> dict[str, list[str | None]]:
    """Return each key's segment of every user, read from `users/users.parquet`: a column, or a field of `extra`."""
    path = snapshot / "users" / "users.parquet"
    if not keys or not path.exists():
        return {}
    present = set(pq.read_schema(path).names)
    table = pq.read_table(path, columns=["user_id", *sorted(({"extra"} | set(keys)) & present)])
    table = table.take(pc.index_in(pa.array(user_ids, pa.string()), table["user_id"].combine_chunks()))
    extras = [_fields(text) for text in table["extra"].to_pylist()] if "extra" in present else [{}] * len(user_ids)
    found: dict[str, list[str | None]] = {}
    for key in keys:
        values = table[key].to_pylist() if key in present else [fields.get(key) for fields in extras]
        found[key] = [segment_value(value) for value in values]
    return found


def fit_segments(events: Events, known: Mapping[str, Sequence[str | None]]) -> list[Segments]:
    """Return the keys that tell more than everybody's popularity does, the most telling first.

    Two halves of the users judge each other: a key stays where the likes of one half are surely (by two standard
    errors over users) more likely under the other half's segments than under its popularity, with the best prior.
    """
    found = []
    for key, values in known.items():
        codes, names = _codes(values)
        if len(names) < 2:  # one segment is everybody
            continue
        tried = {prior: _gain(events, codes, len(names), prior) for prior in _PRIORS}
        prior = max(tried, key=lambda p: tried[p][0])
        mean, error = tried[prior]
        if mean - _SURE * error > 0:
            found.append(Segments(key, mean, _boosts(events, codes, names, prior)))
    return sorted(found, key=lambda segments: (-segments.gain, segments.key))


def packed(found: Sequence[Segments]) -> dict[str, Any]:
    """Return the content of `segments.json.gz`: boosts in thousandths, each segment's strongest items."""
    return {
        "keys": [
            {
                "key": segments.key,
                "gain": round(segments.gain, 5),
                "values": {
                    value: {"items": list(boosts), "boosts": [round(1000 * boost) for boost in boosts.values()]}
                    for value, boosts in sorted(segments.boosts.items())
                },
            }
            for segments in found
        ]
    }


def _fields(text: str | None) -> dict[str, Any]:
    try:
        fields = json.loads(text) if text else {}
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _codes(values: Sequence[str | None]) -> tuple[Ints, list[str]]:
    """Return each user's segment as a number, -1 for none, and the segments' names: the largest ones, by name."""
    sizes = Counter(value for value in values if value is not None)
    large = sorted((v for v in sizes if sizes[v] >= FEWEST_USERS), key=lambda v: (-sizes[v], v))[:MOST_VALUES]
    places: dict[str | None, int] = {value: place for place, value in enumerate(sorted(large))}
    return np.array([places.get(value, -1) for value in values], dtype=np.int64), sorted(large)


def _counts(events: Events, codes: Ints, names: int) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
    """Return likes by segment and item, and by item of everybody with half a like more."""
    segment = codes[events.users]
    inside = segment >= 0
    ones = np.ones(int(inside.sum()))
    by_segment = sp.csr_matrix((ones, (segment[inside], events.items[inside])), shape=(names, events.n_items))
    by_segment.sum_duplicates()
    return by_segment, np.asarray(events.counts() + 0.5, dtype=np.float64)


def _boosted(by_segment: sp.csr_matrix, everybody: NDArray[np.float64], prior: float) -> sp.csr_matrix:
    """Return log((c + prior p) / (prior p)) where a segment has likes c of an item of share p; elsewhere it is 0."""
    share = everybody / everybody.sum()
    boosted = by_segment.copy()
    boosted.data = np.log1p(boosted.data / (prior * share[boosted.indices]))
    return boosted


def _gain(events: Events, codes: Ints, names: int, prior: float) -> tuple[float, float]:
    """Return the mean over users of the mean log lift of their likes by the other half's counts, and its error."""
    half = np.random.default_rng(1).random(events.n_users) < 0.5
    means: list[NDArray[np.float64]] = []
    for counted in (half, ~half):
        by_segment, everybody = _counts(events.take(counted[events.users]), codes, names)
        boosted = _boosted(by_segment, everybody, prior)
        total = np.asarray(by_segment.sum(axis=1)).ravel()
        judged = np.flatnonzero(~counted[events.users] & (codes[events.users] >= 0))[:_MOST_EVENTS]
        if not len(judged):
            continue
        segment, users = codes[events.users[judged]], events.users[judged]
        lift = np.asarray(boosted[segment, events.items[judged]]).ravel() + np.log(prior / (total[segment] + prior))
        sums, sizes = np.bincount(users, lift, events.n_users), np.bincount(users, minlength=events.n_users)
        means.append(sums[sizes > 0] / sizes[sizes > 0])
    of_users = np.concatenate(means) if means else np.zeros(0)
    if len(of_users) < 2:
        return 0.0, np.inf
    return float(of_users.mean()), float(of_users.std(ddof=1) / np.sqrt(len(of_users)))


def _boosts(events: Events, codes: Ints, names: list[str], prior: float) -> dict[str, dict[int, float]]:
    by_segment, everybody = _counts(events, codes, len(names))
    boosted, share = _boosted(by_segment, everybody, prior), everybody / everybody.sum()
    found = {}
    for place, name in enumerate(names):
        row = slice(boosted.indptr[place], boosted.indptr[place + 1])
        items, boosts = boosted.indices[row], boosted.data[row]
        best = np.argsort(-share[items] * np.exp(boosts), kind="stable")[:MOST_ITEMS]
        found[name] = {int(item): float(boost) for item, boost in zip(items[best], boosts[best], strict=True)}
    return found
