"""Logistic regression at its optimum with a ridge for each kind of weight, and what those ridges should be.

Values of one field are much alike in how far they are from 0, those of two fields are not: pages differ by more than
users do, and one ridge for both holds pages back, or lets users go. A field's ridge is the inverse of the variance of
its weights, and that is estimated from the same rows: g / sum of its squared weights, where g, the number of weights
that the rows determine, is the sum of h / (h + ridge) over them, and h is the information that rows have of a weight
(MacKay, Bayesian interpolation, Neural Computation, 1992). Taken for the diagonal alone, so fields that say nearly the
same are each believed a little less than could be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from twinloop.training.calibration import Floats, chances
from twinloop.training.clicks import Rows, base_rate
from twinloop.training.events import Floats32, Ints

_STEPS, _INNER, _HALVED = 50, 500, 30  # of Newton, of conjugate gradients in each, and how often it may be halved
_ENOUGH = 1e-4  # of what the slope promises, that a step must bring
_FLAT = 1e-6  # a gradient of this share of the rows moves no weight by as much as shows
_LEAST, _MOST = 1.0, 10_000.0


class Ridges(NamedTuple):
    """By field, in their order, and of all features: half of a weight's square costs as many rows' log loss."""

    fields: tuple[float, ...]
    features: float

    @classmethod
    def even(cls, fields: int, ridge: float) -> Ridges:
        """Return the same for all."""
        return cls((ridge,) * fields, ridge)


class Problem:
    """Rows to fit. Weights are float64[ids + features + 1]: of `own`, in its order, of features, and the bias.

    Args:
        rows: What is learnt from.
        told: float32[N, S'], what is told of the features.

    Attributes:
        own: int64[ids], the different ids of the rows, ascending.
        place: int32[N, F], where each is among them.
        dense: float64[N, S' + 1]; the last column is 1.
    """

    def __init__(self, rows: Rows, told: Floats32) -> None:
        self.own, place = np.unique(rows.ids, return_inverse=True)
        self.fields = rows.ids.shape[1]
        self.place: NDArray[np.int32] = place.reshape(rows.ids.shape).astype(np.int32)
        # In the precision of the weights: otherwise each of hundreds of products would first copy all of it.
        self.dense = np.concatenate([told, np.ones((len(rows), 1))], axis=1, dtype=np.float64)
        self._clicked = rows.clicked.astype(np.float64)
        ones, begins = np.ones(self.place.size), np.arange(0, self.place.size + 1, max(self.fields, 1))
        shape = (len(rows), len(self.own))
        self._hot = sparse.csr_array(
            (ones, self.place.reshape(-1), begins if self.fields else [0] * (len(rows) + 1)), shape
        )
        # Where ids of two fields are in one bucket, it is the first one's.
        self._field_of = np.zeros(len(self.own), np.int64)
        for field in reversed(range(self.fields)):
            self._field_of[self.place[:, field]] = field

    def log_odds(self, weights: Floats) -> Floats:
        """Return float64[N]."""
        ids = len(self.own)
        return np.asarray(self._hot @ weights[:ids] + np.einsum("nf,f->n", self.dense, weights[ids:]))

    def asked(self, weights: Floats, ids: Ints, told: Floats32) -> Floats:
        """Return the log-odds of other rows, float64[M], of their ids and of what is told of their features."""
        said = told @ weights[len(self.own) : -1] + weights[-1]
        if self.fields:
            place = np.searchsorted(self.own, ids).clip(max=len(self.own) - 1)
            said += np.where(self.own[place] == ids, weights[place], 0.0).sum(axis=1)
        return np.asarray(said, np.float64)

    def sums(self, of_rows: Floats) -> Floats:
        """Return the sum over the rows that have each id, float64[ids].

        Added up in order: the same rows give the same last digits.
        """
        return np.asarray(self._hot.T @ of_rows)

    def solve(self, ridges: Ridges, start: Floats | None = None) -> Floats:
        """Return the weights of least log loss, in all, plus half of each weight's square x its ridge.

        Features are ridged as they are told, the bias is not. Newton's method, its steps found by conjugate gradients
        no further than they are good for (Lin, Weng and Keerthi, "Trust region Newton method for large-scale logistic
        regression", JMLR 2008; here with a line search), preconditioned by the diagonal. Nothing of it is left to BLAS,
        whose threads wait for each other longer than they work where the machine has something else to do, and do not
        always add up in the same order: the same rows and start give the same weights.
        """
        held = self._spread(ridges)
        clicked = self._clicked
        rate = base_rate(clicked)
        weights = np.zeros(len(held)) if start is None else start
        if start is None:
            weights[-1] = np.log(rate / (1 - rate))
        steep = np.sqrt(self._information(np.full(len(clicked), rate * (1 - rate))) + held)
        odds = self.log_odds(weights)

        def cost(weights: Floats, odds: Floats) -> float:
            return float((np.logaddexp(0, odds) - clicked * odds).sum()) + 0.5 * _dot(held, weights**2)

        now = cost(weights, odds)
        for _ in range(_STEPS):
            chance = chances(odds)
            gradient = self._back(chance - clicked) + held * weights
            left = np.abs(gradient / steep).max() / np.sqrt(len(clicked))
            if left <= _FLAT:
                break
            exact = min(0.3, max(np.sqrt(left), 0.5 * _FLAT / left))  # no further than the last step has to come
            step = self._step(gradient, chance * (1 - chance), held, exact)
            along, slope = self.log_odds(step), _dot(gradient, step)
            for halved in range(_HALVED):
                part = 0.5**halved
                then = cost(weights + part * step, odds + part * along)
                if then <= now + _ENOUGH * part * slope:
                    break
            else:
                break  # no further down can be told from rounding
            weights, odds, now = weights + part * step, odds + part * along, then
        return weights

    def _step(self, gradient: Floats, curved: Floats, held: Floats, exact: float) -> Floats:
        """Return Newton's step, float64 as weights; solved until this share of the residual is left.

        Args:
            gradient: At the weights.
            curved: p (1 - p) of each row.
            held: The ridge of each weight.
            exact: The share.
        """
        diagonal = self._information(curved) + held
        step, rest = np.zeros_like(gradient), -gradient
        towards = told = rest / diagonal
        size = begun = _dot(rest, told)
        for _ in range(_INNER):
            bent = self._back(curved * self.log_odds(towards)) + held * towards
            far = size / _dot(towards, bent)
            step, rest = step + far * towards, rest - far * bent
            told = rest / diagonal
            before, size = size, _dot(rest, told)
            if size <= exact**2 * begun:
                break
            towards = told + (size / before) * towards
        return step

    def _back(self, of_rows: Floats) -> Floats:
        """Return the sum over the rows that have each id, and of each feature and the bias times what it is."""
        return np.concatenate([self.sums(of_rows), np.einsum("n,nf->f", of_rows, self.dense)])

    def improved(self, ridges: Ridges, weights: Floats) -> Ridges:
        """Return the ridges that the weights of these speak for."""
        chance = chances(self.log_odds(weights))
        known = self._information(chance * (1 - chance))
        held, ids = self._spread(ridges), len(self.own)
        determined, squares = known / (known + held), weights**2

        def of(counts: Floats) -> Floats:
            return np.bincount(self._field_of, weights=counts[:ids], minlength=self.fields).astype(np.float64)

        fields = _ratio(of(determined), of(squares))
        features = _ratio(determined[ids:-1].sum(), squares[ids:-1].sum())
        return Ridges(tuple(fields.tolist()), float(features))

    def _spread(self, ridges: Ridges) -> Floats:
        """Return the ridge of each weight."""
        held = np.full(len(self.own) + self.dense.shape[1], ridges.features)
        held[: len(self.own)] = np.array(ridges.fields)[self._field_of] if self.fields else 0.0
        held[-1] = 0.0
        return held

    def _information(self, of_rows: Floats) -> Floats:
        """Return the diagonal of minus the second derivatives, without the ridges."""
        return np.concatenate([self.sums(of_rows), np.einsum("n,nf,nf->f", of_rows, self.dense, self.dense)])


def _dot(a: Floats, b: Floats) -> float:
    return float(np.einsum("i,i->", a, b))


def _ratio(determined: NDArray[np.floating], squares: NDArray[np.floating]) -> Floats:
    return np.asarray(np.clip(determined / np.maximum(squares, 1e-12), _LEAST, _MOST))
