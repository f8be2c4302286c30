"""The best score that any model can expect on simulated data: that of the true probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from twinloop.datasets.simulator.people import Array
from twinloop.errors import BadInputError
from twinloop.evaluation.probability import auc, calibration_ratio, log_loss, normalised_entropy
from twinloop.evaluation.ranking import ndcg_at_k

_MOST = 1_000_000
_SLICES = ("cold_user", "cold_item")
_CLICK, _LONG_VIEW = ("clicked", "p_click"), ("long_view", "p_long_view")
_WATCHED = ("watch_s", "expected_watch_s")
_RSVP = ("rsvp", "p_rsvp")
_FLAGGED = ("flagged", "p_flagged")


@dataclass(frozen=True)
class Probability:
    """What the true probabilities of a 0/1 outcome score; the outcome's rate beside it."""

    rate: float
    auc: float
    normalised_entropy: float
    log_loss: float
    calibration_ratio: float


@dataclass(frozen=True)
class Ranking:
    """What the order of the true probabilities scores, on lists of which something, and not all, came true.

    The truth ranks by how likely somebody says yes to what they look at, whatever its place was.
    """

    ndcg_at_10: float
    lists: int


@dataclass(frozen=True)
class Best:
    """The scores of the truth.

    Attributes:
        impressions: How many there are.
        judged: How many of them the scores are of; every n-th where there are very many.
        click: Of clicks, or of what there is instead.
        long_view: Of clicks that led to watching half or more; None where nothing is watched.
        watch_s: Expected watch seconds an impression (0 where nobody clicks): mean, and mean absolute and root mean
            squared error. The expected value has the least squared error, not the least absolute one. None likewise.
        ranking: Of lists of events; None where the application shows none.
        outcome: What `click` is of.
    """

    impressions: int
    judged: int
    click: Probability
    long_view: Probability | None = None
    watch_s: dict[str, float] | None = None
    ranking: Ranking | None = None
    outcome: str = "click"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def best_possible(
    truth: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    only: str | None = None,
    most: int = _MOST,
) -> Best:
    """Return the scores of the true probabilities in a `truth.parquet`, at a time (since <= t < until) or in a slice.

    `only` is `cold_user` or `cold_item`. Compare a model on the same impressions: the gap to this is what it leaves.

    Raises:
        BadInputError: There is no such file or slice, or too little happened in it.
    """
    if not truth.is_file():
        raise BadInputError(f"{truth}: there is no such file; `twinloop simulate SYSTEM DIR` writes DIR/truth.parquet")
    if only is not None and only not in _SLICES:
        raise BadInputError(f"only {' or '.join(_SLICES)}, not {only!r}")
    chosen = _Chosen(since, until, only)
    count = sum(int(keep.sum()) for keep, _ in chosen.pieces(truth, ()))
    names = pq.read_schema(truth).names
    step = max(1, -(-count // most))
    if _RSVP[0] in names:
        thin = _every(step, chosen.pieces(truth, _RSVP), _RSVP)
        yes = _probability(thin, *_RSVP)
        return Best(count, len(thin["rsvp"]), yes, ranking=_ranking(chosen, truth), outcome="yes")
    if _FLAGGED[0] in names:
        thin = _every(step, chosen.pieces(truth, _FLAGGED), _FLAGGED)
        return Best(count, len(thin["flagged"]), _probability(thin, *_FLAGGED), outcome="flagged")
    watched = "watch_s" in names
    columns = (*_CLICK, *_LONG_VIEW, *_WATCHED) if watched else _CLICK
    thin = _every(step, chosen.pieces(truth, columns), columns)
    click, judged = _probability(thin, *_CLICK), len(thin["clicked"])
    if not watched:
        return Best(count, judged, click)
    error = thin["watch_s"] - thin["expected_watch_s"]
    watch_s = {
        "mean": float(thin["watch_s"].mean()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }
    return Best(count, judged, click, _probability(thin, *_LONG_VIEW), watch_s)


def _ranking(chosen: _Chosen, truth: Path) -> Ranking | None:
    """Return the score of the true order; None where no list can be scored. Lists lie together in the file."""
    columns = ("request_id", *_RSVP, "p_seen")
    lists: dict[str, list[tuple[float, bool]]] = {}
    for keep, piece in chosen.pieces(truth, columns):
        rows = zip(*(piece[name][keep].tolist() for name in ("request_id", *_RSVP, "p_seen")), strict=True)
        for request, came, chance, seen in rows:
            lists.setdefault(request, []).append((chance / seen, came))
    scores = []
    for rows_of_list in lists.values():
        relevant = {place for place, (_, came) in enumerate(rows_of_list) if came}
        if 0 < len(relevant) < len(rows_of_list):
            order = sorted(range(len(rows_of_list)), key=lambda place: -rows_of_list[place][0])
            scores.append(ndcg_at_k(order, relevant, 10))
    return Ranking(float(np.mean(scores)), len(scores)) if scores else None


def _probability(thin: dict[str, Array], outcome: str, probability: str) -> Probability:
    outcomes, probabilities = thin[outcome], thin[probability]
    if not 0 < outcomes.sum() < len(outcomes):
        raise BadInputError("scores need clicks and impressions without; simulate more events, or ask for more time")
    return Probability(
        rate=float(outcomes.mean()),
        auc=auc(outcomes, probabilities),
        normalised_entropy=normalised_entropy(outcomes, probabilities),
        log_loss=log_loss(outcomes, probabilities),
        calibration_ratio=calibration_ratio(outcomes, probabilities),
    )


@dataclass(frozen=True)
class _Chosen:
    """Which impressions are asked for."""

    since: datetime | None
    until: datetime | None
    only: str | None

    def pieces(self, truth: Path, columns: Sequence[str]) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Yield which rows of a piece are chosen, and columns of all of its rows."""
        wanted = [*columns, "time", *([self.only] if self.only else [])]
        with pq.ParquetFile(truth) as file:
            for piece in file.iter_batches(columns=wanted):
                keep = np.ones(piece.num_rows, bool)
                times = piece.column("time").cast("int64").to_numpy()
                if self.since is not None:
                    keep &= times >= int(self.since.timestamp() * 1000)
                if self.until is not None:
                    keep &= times < int(self.until.timestamp() * 1000)
                if self.only is not None:
                    keep &= piece.column(self.only).to_numpy(zero_copy_only=False)
                yield keep, {name: piece.column(name).to_numpy(zero_copy_only=False) for name in columns}


def _every(step: int, pieces: Iterable[tuple[Array, dict[str, Array]]], names: Sequence[str]) -> dict[str, Array]:
    """Return every n-th of the chosen rows, so that a long file takes no more memory than a short one."""
    found: dict[str, list[Array]] = {name: [np.empty(0)] for name in names}
    passed = 0
    for keep, columns in pieces:
        rows = np.flatnonzero(keep)
        for name, values in columns.items():
            found[name].append(values[rows[-passed % step :: step]])
        passed += len(rows)
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in found.items()}
