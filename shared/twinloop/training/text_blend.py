"""An encoder of word pieces and a linear model of n-grams together: what words mean, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from twinloop.contracts.text import TextInputs
from twinloop.features.text import Counted
from twinloop.features.wordpieces import padded_pieces
from twinloop.training.graphs import Graph
from twinloop.training.text_encoder import PIECES, EncoderModel
from twinloop.training.text_linear import LinearModel, told
from twinloop.training.texts import Floats


class BlendRow(NamedTuple):
    """What is read of one text."""

    grams: Counted
    pieces: list[int]


@dataclass(frozen=True)
class BlendModel:
    """Log-odds are `shares` x those of the encoder and of the linear model: float64[2, L], none below 0."""

    inputs: TextInputs
    encoder: EncoderModel
    linear: LinearModel
    shares: Floats

    def log_odds(self, rows: list[BlendRow]) -> Floats:
        """Return float64[N, L]."""
        of_pieces = self.encoder.log_odds([row.pieces for row in rows])
        of_grams = self.linear.log_odds([row.grams for row in rows])
        return np.asarray(of_pieces * self.shares[0] + of_grams * self.shares[1])

    def add(self, g: Graph) -> str:
        """Add it to a graph with the inputs of both; returns the log-odds, float32[K, L]."""
        parts = (self.encoder.add(g), self.linear.add(g))
        return g.op("Add", *(g.op("Mul", z, g.constant(share)) for z, share in zip(parts, self.shares, strict=True)))


def blend_shares(of_pieces: Floats, of_grams: Floats, targets: Floats) -> Floats:
    """Return the shares float64[2, L] whose log loss of soft targets is least, on texts that neither has learnt from.

    A label that these texts say nothing of has half of each.
    """
    shares = np.full((2, targets.shape[1]), 0.5)
    for label in range(targets.shape[1]):
        known = ~np.isnan(targets[:, label])
        x = np.stack([of_pieces[known, label], of_grams[known, label], np.ones(int(known.sum()))], 1)
        wanted = targets[known, label]
        if not len(wanted) or wanted.min() == wanted.max():
            continue

        def loss(w: Floats, x: Floats = x, wanted: Floats = wanted) -> tuple[float, Floats]:
            z = x @ w
            off = 1 / (1 + np.exp(-np.clip(z, -60, 60))) - wanted
            # A ridge towards a half keeps a few texts from deciding everything.
            apart = np.append(w[:2] - 0.5, 0.0)
            ridge = float(apart @ apart) / len(wanted)
            value = float((np.logaddexp(0, z) - wanted * z).mean()) + ridge
            return value, x.T @ off / len(wanted) + 2 * apart / len(wanted)

        bounds = [(0.0, 5.0), (0.0, 5.0), (-30.0, 30.0)]
        found = minimize(loss, np.array([0.5, 0.5, 0.0]), jac=True, bounds=bounds).x[:2]
        if found.sum() > 0:
            shares[:, label] = found
    return shares


def blend_inputs(rows: Sequence[BlendRow]) -> dict[str, NDArray[Any]]:
    """Return the inputs of a graph of both."""
    return {PIECES: padded_pieces([row.pieces for row in rows]), **told([row.grams for row in rows])}
