"""Boosted trees of clicks on what is known, and on how often each hashed id was shown and clicked.

Trees cannot split a million ids, so an id is told by its click rate and its count (Micci-Barreca, 2001; the "counting
features" of Ling et al., WWW 2017). A row that is learnt from must not find its own outcome there, nor that of its
session: it is told what the other fifths of the time say of its ids. Served is what all of them say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb

from twinloop.training import ranker
from twinloop.training.calibration import Floats
from twinloop.training.click_graph import Inputs
from twinloop.training.clicks import Rows, base_rate
from twinloop.training.events import Floats32, Ints
from twinloop.training.graphs import Graph

_BLOCKS = 5
_TOLD = 2  # numbers that an id is told by


@dataclass(frozen=True)
class Counted:
    """How often each bucket was shown and clicked.

    Attributes:
        table: float32[buckets, 2]: (clicks + weight x rate) / (shown + weight) and log(1 + shown), where rate is that
            of all rows.
    """

    table: Floats32

    @classmethod
    def fit(cls, shown: Floats, clicked: Floats, rate: float, weight: float) -> Counted:
        """Return the table of counts by bucket."""
        return cls(np.stack([(clicked + weight * rate) / (shown + weight), np.log1p(shown)], axis=1).astype(np.float32))

    def apply(self, ids: Ints) -> Floats32:
        """Return float32[N, 2 F] of int64[N, F]."""
        return self.table[ids].reshape(len(ids), _TOLD * ids.shape[1])


def count(rows: Rows, buckets: int, *, weight: float) -> tuple[Counted, Floats32]:
    """Return what serves, and the columns to learn from: of each row by the other fifths of the time.

    Args:
        rows: In order of time.
        buckets: Of the ids.
        weight: How many showings the rate of all rows is worth.
    """
    rate = base_rate(rows.clicked)
    places = np.arange(len(rows) + _BLOCKS - 1) * _BLOCKS // max(len(rows), 1)
    block_of = np.minimum(places[: len(rows)], _BLOCKS - 1)
    parts = [rows.take(block_of == block) for block in range(_BLOCKS)]
    counts = [_counts(part, buckets) for part in parts]
    shown, clicked = sum(pair[0] for pair in counts), sum(pair[1] for pair in counts)
    columns = [
        Counted.fit(shown - mine, clicked - own, rate, weight).apply(part.ids)
        for part, (mine, own) in zip(parts, counts, strict=True)
    ]
    return Counted.fit(shown, clicked, rate, weight), np.concatenate(columns)


def _counts(rows: Rows, buckets: int) -> tuple[Any, Any]:
    flat = rows.ids.reshape(-1)
    weights = np.repeat(rows.clicked.astype(np.float64), rows.ids.shape[1])
    return (
        np.bincount(flat, minlength=buckets).astype(np.float64),
        np.bincount(flat, weights=weights, minlength=buckets),
    )


@dataclass(frozen=True)
class ClickTrees:
    """Fitted trees; `booster` is the plain sum of its leaves, and `begin` the log-odds that they are added to."""

    counted: Counted | None
    booster: xgb.Booster
    begin: float

    def columns(self, rows: Rows) -> Floats32:
        """Return what the trees are told, float32[N, S + 2 F]."""
        if self.counted is None:
            return rows.known
        return np.concatenate([rows.known, self.counted.apply(rows.ids)], axis=1)

    def log_odds(self, rows: Rows) -> Floats:
        """Return float64[N]."""
        if not len(rows):
            return np.zeros(0)
        return ranker.predict(self.booster, self.columns(rows)).astype(np.float64) + self.begin

    def add(self, g: Graph, inputs: Inputs) -> str:
        """Add it to a graph; returns the log-odds, float32[K]."""
        parts, width = [], inputs.known
        if self.counted is not None:
            found = g.op("Gather", g.constant(self.counted.table), inputs.ids(), axis=0)
            parts.append(g.op("Reshape", found, g.constant([-1, _TOLD * inputs.fields])))
            width += _TOLD * inputs.fields
        if inputs.known:
            parts.insert(0, inputs.features())
        told = g.op("Concat", *parts, axis=1)
        said = g.embed(ranker.to_onnx(self.booster, width), features=told)["scores"]
        return g.op("Add", said, g.constant(self.begin, np.float32))


def fit_trees(
    rows: Rows,
    buckets: int,
    parameters: dict[str, object],
    *,
    rounds: int,
    patience: int,
    weight: float,
    held_out: Rows | None = None,
) -> tuple[ClickTrees, int]:
    """Return trees, and how many.

    Args:
        rows: To learn from, in order of time.
        buckets: Of the ids; 0: there are none.
        parameters: What XGBoost is told.
        rounds: Trees, at most.
        patience: After so many trees that did not help on `held_out` it is the best number that counts.
        weight: See `count`.
        held_out: Rows that say how many trees help; without them there are as many as `rounds`.
    """
    rate = base_rate(rows.clicked)
    begin = float(np.float32(np.log(rate / (1 - rate))))
    counted, extra = count(rows, buckets, weight=weight) if buckets else (None, None)
    told = rows.known if extra is None else np.concatenate([rows.known, extra], axis=1)
    matrix = xgb.DMatrix(told, label=rows.clicked, base_margin=np.full(len(rows), begin, np.float32))
    told_of: dict[str, Any] = {}
    if held_out is not None and len(held_out):
        columns = ClickTrees(counted, xgb.Booster(), begin).columns(held_out)
        margin = np.full(len(held_out), begin, np.float32)
        watched = xgb.DMatrix(columns, label=held_out.clicked, base_margin=margin)
        told_of = {"evals": [(watched, "held_out")], "early_stopping_rounds": patience, "verbose_eval": False}
    settings = {**parameters, "objective": "binary:logistic", "eval_metric": "logloss", "base_score": 0.5}
    booster = xgb.train(settings, matrix, rounds, **told_of)
    best = int(booster.best_iteration) + 1 if told_of else rounds
    return ClickTrees(counted, _leaves(booster[:best]), begin), best


def _leaves(booster: xgb.Booster) -> xgb.Booster:
    """Return the sum of the leaves alone, without a link function: what the exporter understands too."""
    model = json.loads(booster.save_raw(raw_format="json"))
    model["learner"]["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    model["learner"]["learner_model_param"]["base_score"] = "0E0"
    plain = xgb.Booster()
    plain.load_model(bytearray(json.dumps(model).encode()))
    return plain
