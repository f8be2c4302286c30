"""An encoder of word pieces and a linear model of n-grams together: what words mean, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.optimize import minimize

from twinloop.contracts.text import TextInputs
from twinloop.text.ngrams import Counted
from twinloop.text.normalised_wordpiece import padded_pieces
from twinloop.training.graphs import Graph
from twinloop.training.text_encoder import PIECES, EncoderModel
from twinloop.training.text_linear import LinearModel, told
from twinloop.training.text_release import Calibrated, calibrate
from twinloop.training.texts import Floats


class BlendRow(NamedTuple):
    """What is read of one text; no pieces at all are a text that the encoder is not asked about."""

    grams: Counted
    pieces: list[int]


@dataclass(frozen=True)
class BlendModel:
    """Log-odds are `shares` x those of the encoder and of the linear model, float64[2, L], and `shift`, float64[L].

    Where the encoder was not asked they are `alone` scaled from those of the linear model.
    `whole`: the encoder's graph is one of whole numbers.
    """

    inputs: TextInputs
    encoder: EncoderModel
    linear: LinearModel
    shares: Floats
    shift: Floats
    alone: Calibrated
    whole: bool = False

    def log_odds(self, rows: list[BlendRow]) -> Floats:
        """Return float64[N, L]."""
        of_grams = self.linear.log_odds([row.grams for row in rows])
        found = of_grams * self.alone.slope + self.alone.shift
        asked = [place for place, row in enumerate(rows) if row.pieces]
        of_pieces = self.encoder.log_odds([rows[place].pieces for place in asked])
        found[asked] = of_pieces * self.shares[0] + of_grams[asked] * self.shares[1] + self.shift
        return found

    def add(self, g: Graph) -> str:
        """Add it to a graph with the inputs of both; returns the log-odds, float32[K, L].

        One row of pieces, [[-1]], stands for as many texts as there are: the encoder is asked about none of them.
        """
        of_pieces, of_grams = self.encoder.add(g, whole=self.whole), self.linear.add(g)
        parts = (of_pieces, self.shares[0]), (of_grams, self.shares[1])
        both = g.op("Add", *(g.op("Mul", z, g.constant(share)) for z, share in parts))
        both = g.op("Add", both, g.constant(self.shift))
        alone = g.op("Add", g.op("Mul", of_grams, g.constant(self.alone.slope)), g.constant(self.alone.shift))
        there = g.op("Cast", g.op("GreaterOrEqual", PIECES, g.constant(0)), to=TensorProto.FLOAT)
        asked = g.op("Greater", g.op("ReduceMax", there, axes=[1], keepdims=1), g.constant(0, np.float32))
        return g.op("Where", asked, both, alone)


def blended(encoder: EncoderModel, linear: LinearModel, of_pieces: Floats, of_grams: Floats, y: Floats) -> BlendModel:
    """Return both together, by what each says of texts that neither has learnt from: float64[N, L] each, as targets."""
    shares = blend_shares(of_pieces, of_grams, y)
    scale = calibrate(of_pieces * shares[0] + of_grams * shares[1], y)
    return BlendModel(encoder.inputs, encoder, linear, shares * scale.slope, scale.shift, calibrate(of_grams, y))


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
    return {PIECES: padded_pieces([row.pieces or [-1] for row in rows]), **told([row.grams for row in rows])}
