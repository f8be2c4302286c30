"""What every job of clicks ends with: a model's log-odds, calibrated, as the component `click`, proven and measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from twinloop.contracts.signature import CLICK, IDS, KNOWN
from twinloop.evaluation.probability import auc, calibration_ratio, ece, log_loss, normalised_entropy
from twinloop.training.artefact import Component, prove_parity, session, write_component
from twinloop.training.calibration import FARTHEST, Calibration, Floats, chances, choose
from twinloop.training.clicks import Clicks, Rows, base_rate
from twinloop.training.config import JobConfig
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph
from twinloop.training.job import Job

PRIOR_FILE = "prior.json"
_MOST_PROVED = 2_000


@dataclass(frozen=True)
class Inputs:
    """What a graph can be asked with; each is an input of it once a node uses it.

    Attributes:
        graph: Whose.
        fields: Columns of `ids`.
        known: Columns of `known`.
    """

    graph: Graph
    fields: int
    known: int
    taken: set[str]

    def ids(self) -> str:
        """Return the name of int64[K, F]."""
        return self._take(IDS, TensorProto.INT64, self.fields)

    def features(self) -> str:
        """Return the name of float32[K, S]."""
        return self._take(KNOWN, TensorProto.FLOAT, self.known)

    def any(self) -> str:
        """Return the name of a tensor of K rows."""
        return self.ids() if self.fields else self.features()

    def _take(self, name: str, dtype: int, columns: int) -> str:
        if name not in self.taken:
            self.taken.add(name)
            self.graph.input(name, dtype, ["K", columns])
        return name


class ClickModel(Protocol):
    """What was fitted, before it is calibrated."""

    def log_odds(self, rows: Rows) -> Floats:
        """Return float64[N]."""
        ...

    def add(self, g: Graph, inputs: Inputs) -> str:
        """Add it to a graph; returns the log-odds, float32[K]."""
        ...


@dataclass(frozen=True)
class Always:
    """The same chance, whatever is asked: the trivial baseline."""

    rate: float

    def log_odds(self, rows: Rows) -> Floats:
        """See `ClickModel`."""
        return np.full(len(rows), np.log(self.rate / (1 - self.rate)))

    def add(self, g: Graph, inputs: Inputs) -> str:
        """See `ClickModel`."""
        count = g.op("Slice", g.op("Shape", inputs.any()), g.constant([0]), g.constant([1]))
        return g.op("Expand", g.constant(np.log(self.rate / (1 - self.rate)), np.float32), count)


@dataclass(frozen=True)
class Shifted:
    """A model that learnt from a share of what was not clicked, put right; see `calibration.sampling_offset`."""

    model: ClickModel
    offset: float

    def log_odds(self, rows: Rows) -> Floats:
        """See `ClickModel`."""
        return np.asarray(self.model.log_odds(rows) + self.offset)

    def add(self, g: Graph, inputs: Inputs) -> str:
        """See `ClickModel`."""
        said = self.model.add(g, inputs)
        return g.op("Add", said, g.constant(self.offset, np.float32)) if self.offset else said


def click_graph(model: ClickModel, calibration: Calibration, *, fields: int, known: int) -> bytes:
    """Return the component `click`; see contracts/signature.py.

    Args:
        model: What gives log-odds.
        calibration: What makes chances of them.
        fields: Columns of `ids`.
        known: Columns of `known`.
    """
    g = Graph(CLICK)
    said = calibration.add(g, model.add(g, Inputs(g, fields, known, set())))
    bounded = g.op("Clip", said, g.constant(-FARTHEST, np.float32), g.constant(FARTHEST, np.float32))
    g.output(g.op("Sigmoid", bounded), CLICK, TensorProto.FLOAT, ["K"])
    return g.serialise()


def ask(model: ort.InferenceSession, rows: Rows) -> Floats32:
    """Return the graph's answers, float32[N], given as much as it takes."""
    told = {IDS: rows.ids, KNOWN: rows.known}
    inputs = {entry.name: told[entry.name] for entry in model.get_inputs()}
    return np.asarray(model.run([CLICK], inputs)[0])


def measured(clicked: Floats32, said: Floats) -> dict[str, float]:
    """Return the metrics of chances said of impressions; one that these do not allow to be measured is left out."""
    found = {"validation_impressions": float(len(clicked))}
    if not len(clicked):
        return found
    found |= {"log_loss": log_loss(clicked, said), "ece": ece(clicked, said)}
    if clicked.any():
        found["calibration_ratio"] = calibration_ratio(clicked, said)
    if clicked.min() < clicked.max():
        found |= {"ne": normalised_entropy(clicked, said), "auc": auc(clicked, said)}
    return found


def write_click(
    job: Job,
    config: JobConfig,
    clicks: Clicks,
    model: ClickModel,
    *,
    framework: str,
    held_out: Rows,
    learnt: Rows,
    more: dict[str, float],
    again: Callable[[Rows], ClickModel] | None = None,
) -> None:
    """Calibrate a model, export it, prove the export, and write the component `click` with `prior.json` beside it.

    Metrics are of the held-out rows, which the model has not learnt from; each is calibrated by what the other users'
    rows said, in folds.

    Args:
        job: Whose model it is.
        config: Its settings.
        clicks: The snapshot.
        model: What was fitted.
        framework: What fitted it.
        held_out: Rows to calibrate by; may be none.
        learnt: Rows that it was fitted on.
        more: Further metrics.
        again: Fits rows in the same way. What serves is then fitted on the held-out rows too, which are the latest,
            once they have said how such a model is to be calibrated; None: what they were not learnt from serves.
    """
    chosen = choose(model.log_odds(held_out), held_out.clicked, held_out.users)
    metrics = measured(held_out.clicked, chances(chosen.held_out))
    losses = {f"log_loss_{name}": loss for name, loss in chosen.losses.items()}
    job.say(f"calibration {chosen.calibration.name} of {losses}; on validation {metrics}")
    everything = Rows.join(learnt, held_out)
    if again is not None and len(held_out):
        model = again(everything)

    fields, known = learnt.ids.shape[1], learnt.known.shape[1]
    exported = click_graph(model, chosen.calibration, fields=fields, known=known)
    asked = held_out if len(held_out) else learnt
    parity = prove_parity(_pairs(session(exported), model, chosen.calibration, asked))
    opened = session(exported)
    uses = {entry.name for entry in opened.get_inputs()}
    component = Component(
        CLICK,
        framework,
        exported,
        parity,
        metrics | losses | more,
        known_names=clicks.names if KNOWN in uses else (),
        hashed=clicks.hashed if IDS in uses else None,
    )
    write_component(job, clicks, config, component)
    prior = base_rate(everything.clicked)
    (job.model_dir / CLICK / PRIOR_FILE).write_text(json.dumps({CLICK: prior}), encoding="utf-8")


def _pairs(
    exported: ort.InferenceSession, model: ClickModel, calibration: Calibration, rows: Rows
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield (what the graph answers, what the model says): of many rows, of one, and of ids and features never seen."""
    some = rows.take(np.unique(np.linspace(0, len(rows) - 1, min(_MOST_PROVED, len(rows))).astype(np.int64)))
    few = some.take(np.arange(min(8, len(some))))
    strange = replace(few, ids=np.zeros_like(few.ids), known=np.full_like(few.known, np.nan))
    great = replace(few, known=np.full_like(few.known, 3e38))
    for asked in (some, some.take(np.arange(1)), strange, great):
        fitted = chances(calibration.apply(model.log_odds(asked)))
        yield ask(exported, asked), fitted.astype(np.float32)
