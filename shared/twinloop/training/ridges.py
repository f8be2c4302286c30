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
from scipy.optimize import minimize

from twinloop.training.calibration import Floats, chances
from twinloop.training.clicks import Rows, base_rate
from twinloop.training.events import Floats32, Ints

_ITERATIONS = 200  # of L-BFGS
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
        # Where ids of two fields are in one bucket, it is the first one's.
        self._field_of = np.zeros(len(self.own), np.int64)
        for field in reversed(range(self.fields)):
            self._field_of[self.place[:, field]] = field

    def log_odds(self, weights: Floats) -> Floats:
        """Return float64[N]."""
        ids = len(self.own)
        return np.asarray(weights[:ids][self.place].sum(axis=1) + self.dense @ weights[ids:])

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
        every = np.repeat(of_rows, self.fields)
        return np.bincount(self.place.reshape(-1), weights=every, minlength=len(self.own)).astype(np.float64)

    def solve(self, ridges: Ridges, start: Floats | None = None) -> Floats:
        """Return the weights of least log loss, in all, plus half of each weight's square x its ridge.

        Features are ridged as they are told, the bias is not. L-BFGS (Liu and Nocedal, Mathematical Programming, 1989)
        in coordinates that are about equally steep; the same rows and start give the same weights.
        """
        held = self._spread(ridges)
        clicked = self._clicked
        rate = base_rate(clicked)
        if start is None:
            start = np.zeros(len(held))
            start[-1] = np.log(rate / (1 - rate))
        steep = np.sqrt(self._information(np.full(len(clicked), rate * (1 - rate))) + held)

        def cost(scaled: Floats) -> tuple[float, Floats]:
            weights = scaled / steep
            odds = self.log_odds(weights)
            slope = chances(odds) - clicked
            gradient = np.concatenate([self.sums(slope), slope @ self.dense]) + held * weights
            loss = float((np.logaddexp(0, odds) - clicked * odds).sum())
            return loss + 0.5 * float(held @ weights**2), gradient / steep

        flat = _FLAT * float(np.sqrt(len(clicked)))
        settings = {"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS, "gtol": flat, "ftol": 0.0}
        found: Floats = minimize(cost, start * steep, jac=True, method="L-BFGS-B", options=settings).x
        return found / steep

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
        return np.concatenate([self.sums(of_rows), of_rows @ self.dense**2])


def _ratio(determined: NDArray[np.floating], squares: NDArray[np.floating]) -> Floats:
    return np.asarray(np.clip(determined / np.maximum(squares, 1e-12), _LEAST, _MOST))
