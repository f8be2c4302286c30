"""Logistic regression on hashed ids and known features by FTRL-proximal, which can go on learning day after day.

McMahan et al., "Ad click prediction: a view from the trenches" (KDD 2013), algorithm 1: each coordinate has z and n and
no other state; its weight is 0 while |z| <= l1, and else (sign(z) l1 - z) / ((beta + sqrt(n)) / alpha + l2). Rows are
taken in small batches, in order of time: of each coordinate n grows by the squares of every row's gradient, and z by
their sum, both against the weights before the batch. Features are told by `standard.Standard`, whose constants are
those of the first rows; they and the bias are never made 0 by l1. They are told at 1 / sqrt(how many) of their size:
all of them move at every row, and what each learns by itself they would overshoot together.

Where rows are there all at once, `Ftrl.solved` begins at the optimum that one pass would not come to, with the state
that FTRL has there: n as one pass over the rows at these weights adds it up, and z such that the weights are these.

A click may be delivered after its impression was learnt from as one without. So a state remembers the latest of
those, and `mend` takes back what such an impression said: of p - 0 and p - 1, the gradients without a click and with
it, the difference is -1 whatever p was.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.hashing import Hashed
from twinloop.errors import BadInputError
from twinloop.training.calibration import Floats, chances
from twinloop.training.click_graph import Inputs
from twinloop.training.clicks import Rows, base_rate
from twinloop.training.events import Floats32, Ints
from twinloop.training.graphs import Graph
from twinloop.training.ridges import Problem, Ridges
from twinloop.training.standard import Standard

STATE_FILE = "ftrl.npz"
SERVED_FILE = "ftrl_served.npz"
NEVER = (-1, -1)
REMEMBERED = 100_000  # impressions without a click, 8 bytes each
_LARGEST_STATE = 1 << 30  # bytes, unpacked; z, n and places of as many ids as there can be are less than half of it
_TOGETHER = 65_536  # rows that log-odds are computed of at once


@dataclass(frozen=True)
class Rates:
    """How fast weights are learnt, and what keeps them small.

    Attributes:
        alpha: Learning rate; a coordinate's own falls with the square root of what it has seen.
        beta: How much it is believed to have seen before anything.
        l1: Ids that say less than this have no weight at all.
        l2: Ridge.
        batch: Rows whose gradients are taken together.
    """

    alpha: float = 0.05
    beta: float = 1.0
    l1: float = 1.0
    l2: float = 1.0
    batch: int = 256


@dataclass
class Ftrl:
    """The state: all that learning goes on from.

    Attributes:
        rates: How it learns.
        hashed: What its ids are; None: it is asked with none.
        names: Features, in the order of `Rows.known`.
        standard: How it is told them.
        z, n: float64[buckets + 2 S + 1]: of ids, then of features, then of the bias.
        until_ms: The latest moment that it has learnt from, epoch milliseconds, of the users of each half
            (`Rows.half`), since a job keeps the latest rows of one half to calibrate by; -1: none.
        rows: How many impressions it has learnt from.
        unclicked: `Rows.marks` of the latest impressions without a click that it has learnt from, uint64[REMEMBERED],
            at most.
        tried: Log loss by learning rate when it was last asked to go on, of users not learnt from; see `going_on`.
        taken: The rate that it then went on at; 0: it stayed, or was never asked.
        negatives: The share of what was not clicked that it has learnt from: its log-odds are shifted by that, so it
            goes on with the same share. A state of before it was written down has learnt from everything.
    """

    rates: Rates
    hashed: Hashed | None
    names: tuple[str, ...]
    standard: Standard
    z: Floats
    n: Floats
    until_ms: tuple[int, int] = NEVER
    rows: int = 0
    unclicked: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    tried: tuple[tuple[float, float], ...] = ()
    taken: float = 0.0
    negatives: float = 1.0

    @classmethod
    def begin(cls, rates: Rates, hashed: Hashed | None, names: tuple[str, ...], rows: Rows) -> Ftrl:
        """Return a state that has learnt nothing but how often the rows were clicked."""
        standard = Standard.fit(rows.known)
        size = (hashed.buckets if hashed is not None else 0) + 2 * len(names) + 1
        state = cls(rates, hashed, names, standard, np.zeros(size), np.zeros(size))
        rate = base_rate(rows.clicked)
        weights = np.zeros(size)
        weights[-1] = np.log(rate / (1 - rate))
        state._take(weights)
        return state

    @classmethod
    def solved(
        cls, rates: Rates, hashed: Hashed | None, names: tuple[str, ...], rows: Rows, *, ridge: float | Ridges
    ) -> Ftrl:
        """Return the state at the optimum of rows, see `ridges.Problem.solve`.

        Features are ridged as they are told by `Standard`. The state may go on learning from what comes later.
        """
        state = cls.begin(rates, hashed, names, rows)
        problem = Problem(rows, state.standard.apply(rows.known))
        ridges = ridge if isinstance(ridge, Ridges) else Ridges.even(problem.fields, ridge)
        weights = problem.solve(ridges)
        own, ids = problem.own, len(problem.own)
        squares = (chances(problem.log_odds(weights)) - rows.clicked) ** 2
        weights[ids:-1] /= state._quiet
        state.n[own] = problem.sums(squares)
        state.n[state.buckets :] = _of_columns(squares, problem.dense, 2)
        state.n[state.buckets : -1] *= state._quiet**2
        whole = np.zeros(len(state.z))
        whole[own], whole[state.buckets :] = weights[:ids], weights[ids:]
        state._take(whole)
        state._met(rows)
        return state

    @property
    def buckets(self) -> int:
        """How many coordinates are of ids."""
        return self.hashed.buckets if self.hashed is not None else 0

    @property
    def _quiet(self) -> float:
        """What features are multiplied with once they are standardised."""
        return 1 / float(np.sqrt(max(2 * len(self.names), 1)))

    @property
    def weights(self) -> Floats:
        """Return float64, as `z`."""
        return self._weight(self.z, self.n, self._sparse)

    @property
    def used(self) -> int:
        """Return how many ids have a weight."""
        return int(np.count_nonzero(self.weights[: self.buckets]))

    @property
    def _sparse(self) -> NDArray[np.bool_]:
        """Which coordinates l1 may leave without a weight: those of ids."""
        return np.arange(len(self.z)) < self.buckets

    def _steep(self, n: Floats) -> Floats:
        return np.asarray((self.rates.beta + np.sqrt(n)) / self.rates.alpha + self.rates.l2)

    def _weight(self, z: Floats, n: Floats, sparse: bool | NDArray[np.bool_]) -> Floats:
        l1 = np.where(sparse, self.rates.l1, 0.0)
        return np.where(np.abs(z) <= l1, 0.0, (np.sign(z) * l1 - z) / self._steep(n))

    def _take(self, weights: Floats) -> None:
        """Make the weights these: `_weight`, solved for z."""
        l1 = np.where(self._sparse, self.rates.l1, 0.0)
        self.z = -weights * self._steep(self.n) - np.sign(weights) * l1

    def copy(self) -> Ftrl:
        """Return a state that goes its own way."""
        return replace(self, z=self.z.copy(), n=self.n.copy())

    def at(self, alpha: float) -> Ftrl:
        """Return a state of the same weights that goes on at another learning rate."""
        further = self.copy()
        if alpha != self.rates.alpha:
            further.rates, weights = replace(self.rates, alpha=alpha), self.weights
            further._take(weights)
            # What an id has said that has no weight yet is the same at every rate.
            further.z = np.where(self._sparse & (weights == 0), self.z, further.z)
        return further

    def learn(self, rows: Rows) -> float:
        """Learn from rows, in their order; returns the mean log loss of each before it was learnt from.

        Raises:
            BadInputError: The rows are of other ids or features.
        """
        self._check(rows)
        total, size = 0.0, self.rates.batch
        for begin in range(0, len(rows), size):
            part = slice(begin, begin + size)
            total += self._step(rows.ids[part], rows.known[part], rows.clicked[part])
        self._met(rows)
        return total / max(len(rows), 1)

    def late(self, rows: Rows) -> Rows:
        """Return those rows with a click that it remembers to have learnt from without one."""
        self._check(rows)
        clicked = rows.take(rows.clicked > 0)
        return clicked.take(np.isin(clicked.marks, self.unclicked))

    def mend(self, late: Rows) -> None:
        """Learn that impressions were clicked that it has learnt from without a click; see `late`."""
        for begin in range(0, len(late), self.rates.batch):
            part = slice(begin, begin + self.rates.batch)
            self._step(late.ids[part], late.known[part], late.clicked[part], again=True)
        self.unclicked = self.unclicked[~np.isin(self.unclicked, late.marks)]

    def _met(self, rows: Rows) -> None:
        """Remember how many rows, until when, and which were not clicked."""
        self.rows += len(rows)
        self.unclicked = np.concatenate([self.unclicked, rows.take(rows.clicked == 0).marks])[-REMEMBERED:]
        first, second = (int(rows.times[rows.half == half].max(initial=self.until_ms[half])) for half in (0, 1))
        self.until_ms = first, second

    def _step(self, ids: Ints, known: Floats32, clicked: Floats32, *, again: bool = False) -> float:
        """Return the sum of the rows' log losses before it; `again`: it has learnt from them, without their clicks."""
        own, place = np.unique(ids, return_inverse=True)
        place = place.reshape(ids.shape)
        of_ids = self._weight(self.z[own], self.n[own], True)
        dense = self._dense(known)
        rest = slice(self.buckets, None)
        of_rest = self._weight(self.z[rest], self.n[rest], False)
        at = of_ids[place].sum(axis=1) + np.einsum("nf,f->n", dense, of_rest)
        gradient = chances(at) - clicked
        square = gradient**2
        if again:  # n never falls
            gradient, square = -clicked.astype(np.float64), np.maximum(square - chances(at) ** 2, 0)
        if len(own):
            flat = place.reshape(-1)
            sums, squares = (_sums(flat, np.repeat(of, ids.shape[1]), len(own)) for of in (gradient, square))
            self.z[own], self.n[own] = self._moved(self.z[own], self.n[own], of_ids, sums, squares)
        sums, squares = _of_columns(gradient, dense, 1), _of_columns(square, dense, 2)
        moved = self._moved(self.z[rest], self.n[rest], of_rest, sums, squares)
        self.z[rest], self.n[rest] = moved
        return float((np.logaddexp(0, at) - clicked * at).sum())

    def _moved(self, z: Floats, n: Floats, weights: Floats, sums: Floats, squares: Floats) -> tuple[Floats, Floats]:
        grown = n + squares
        sigma = (np.sqrt(grown) - np.sqrt(n)) / self.rates.alpha
        return z + sums - sigma * weights, grown

    def _dense(self, known: Floats32) -> Floats:
        told = self.standard.apply(known).astype(np.float64) * self._quiet
        return np.concatenate([told, np.ones((len(known), 1))], axis=1)

    def _check(self, rows: Rows) -> None:
        fields = len(self.hashed.fields) if self.hashed is not None else 0
        if rows.ids.shape[1] != fields or rows.known.shape[1] != len(self.names):
            raise BadInputError(
                f"the model knows {fields} ids and {len(self.names)} features, and was given {rows.ids.shape[1]} and "
                f"{rows.known.shape[1]}"
            )

    def log_odds(self, rows: Rows) -> Floats:
        """Return float64[N]."""
        self._check(rows)
        weights = self.weights
        said = np.empty(len(rows))
        for begin in range(0, len(rows), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            said[part] = weights[rows.ids[part]].sum(axis=1) + self._dense(rows.known[part]) @ weights[self.buckets :]
        return said

    def add(self, g: Graph, inputs: Inputs) -> str:
        """Add it to a graph; returns the log-odds, float32[K]."""
        weights = self.weights.astype(np.float32)
        parts = []
        if self.buckets:
            found = g.op("Gather", g.constant(weights[: self.buckets]), inputs.ids(), axis=0)
            parts.append(g.op("ReduceSum", found, g.constant([1]), keepdims=0))
        if self.names:
            told = self.standard.add(g, inputs.features())
            of_features = self.weights[self.buckets : -1] * self._quiet
            found = g.op("MatMul", told, g.constant(of_features[:, None]))
            parts.append(g.op("Squeeze", found, g.constant([1])))
        bias = g.constant(weights[-1], np.float32)
        return g.op("Add", parts[0] if len(parts) == 1 else g.op("Add", *parts), bias)

    def packed(self) -> bytes:
        """Return the state as a NumPy archive without objects; the same state always gives the same bytes.

        Only coordinates that were ever met are in it.
        """
        met = np.flatnonzero((self.n > 0) | (self.z != 0))
        told = {
            "rates": {name: getattr(self.rates, name) for name in Rates.__dataclass_fields__},
            "hashed": self.hashed.model_dump(mode="json") if self.hashed is not None else None,
            "names": self.names,
            "until_ms": self.until_ms,
            "rows": self.rows,
            "tried": self.tried,
            "taken": self.taken,
            "negatives": self.negatives,
        }
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            told=np.frombuffer(json.dumps(told, sort_keys=True).encode(), np.uint8),
            met=met,
            z=self.z[met],
            n=self.n[met],
            unclicked=self.unclicked,
            mean=self.standard.mean,
            scale=self.standard.scale,
        )
        return buffer.getvalue()

    @classmethod
    def unpack(cls, body: bytes) -> Ftrl:
        """Return the state of `packed`; raises BadInputError for what is none."""
        try:
            file = _arrays(body)
            told = json.loads(file["told"].tobytes())
            hashed = Hashed.model_validate(told["hashed"]) if told["hashed"] is not None else None
            names = tuple(told["names"])
            size = (hashed.buckets if hashed is not None else 0) + 2 * len(names) + 1
            z, n = np.zeros(size), np.zeros(size)
            z[file["met"]], n[file["met"]] = file["z"], file["n"]
            standard = Standard(file["mean"].astype(np.float32), file["scale"].astype(np.float32))
            first, second = map(int, told["until_ms"])
            if standard.mean.shape != (2 * len(names),) or standard.scale.shape != standard.mean.shape:
                raise ValueError("its features are not as many as their names")
            if not (np.isfinite(z).all() and np.isfinite(n).all() and (n >= 0).all()):
                raise ValueError("it holds what is no number")
            unclicked = file["unclicked"]
            if unclicked.dtype != np.uint64 or unclicked.ndim != 1 or len(unclicked) > REMEMBERED:
                raise ValueError("it remembers what are no impressions, or too many")
            return cls(
                rates=Rates(**told["rates"]),
                hashed=hashed,
                names=names,
                standard=standard,
                z=z,
                n=n,
                until_ms=(first, second),
                rows=int(told["rows"]),
                unclicked=unclicked,
                tried=tuple((float(rate), float(loss)) for rate, loss in told["tried"]),
                taken=float(told["taken"]),
                negatives=float(told.get("negatives", 1.0)),
            )
        except (
            OSError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            EOFError,
            RuntimeError,
            AttributeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise BadInputError(f"{STATE_FILE} is no state to go on learning from: {error}") from error


def _arrays(body: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a NumPy archive; no objects, and no more memory than the limit, whatever it claims."""
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(body)) as file:
        if sum(entry.file_size for entry in file.infolist()) > _LARGEST_STATE:
            raise ValueError(f"it unfolds to more than {_LARGEST_STATE} bytes")
        for entry in file.infolist():
            with file.open(entry) as member:
                version = np.lib.format.read_magic(member)
                if version != (1, 0):
                    raise ValueError(f"an array is of version {version}")
                shape, _, kind = np.lib.format.read_array_header_1_0(member)
            # An array is made as large as its header says before any of it is read.
            if kind.hasobject or math.prod(shape) * kind.itemsize > entry.file_size:
                raise ValueError(f"{entry.filename[:40]} is no plain array, or less of one than it says")
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        for name in arrays.files:
            found[name] = arrays[name]
    return found


def _of_columns(of_rows: Floats, dense: Floats, power: int) -> Floats:
    """Return the sum over the rows of each times the columns to a power, float64[columns].

    Not by BLAS: on a busy machine its threads wait for each other longer than so little takes.
    """
    return np.asarray(np.einsum("n," + ",".join(["nf"] * power) + "->f", of_rows, *[dense] * power))


def _sums(places: Ints, weights: Floats, size: int) -> Floats:
    """Return the sum of the weights of each place, added up in order: the same rows give the same last digits."""
    return np.bincount(places, weights=weights, minlength=size).astype(np.float64)
