"""What every job of texts ends with: log-odds, calibrated, as the proven component `text`, thresholds beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.optimize import minimize

from twinloop.contracts.text import TextInputs
from twinloop.contracts.thresholds import LABELS, TEXT_FILE, LabelTold, Level, TextTold, Threshold
from twinloop.errors import IntegrityError
from twinloop.evaluation.classification import average_precision, chances_at, f1_at
from twinloop.training.artefact import Component, prove_parity, session, write_component
from twinloop.training.graphs import Graph
from twinloop.training.job import Job
from twinloop.training.texts import POSITIVE, Floats, Ints, Labelled, TextConfig, Texts

COMPONENT = "text"
_FARTHEST = 30.0  # log-odds beyond which a probability says nothing more
_MOST_PROVED = 500
ROUNDING = 0.01
"""What whole numbers may move probabilities by, in the mean of held-out texts, and make their log loss worse by."""
_STEEPEST = 10.0
_LEAST_CLEAN = 50  # texts without a label, on both sides of a slice, that a gap is told of


class TextModel(Protocol):
    """What was fitted, before it is calibrated. `R` is what it reads of one text."""

    @property
    def inputs(self) -> TextInputs:
        """How texts become what it reads."""
        ...

    def log_odds(self, rows: list[Any]) -> Floats:
        """Return float64[N, L]."""
        ...

    def add(self, g: Graph) -> str:
        """Add it to a graph, its inputs included; returns the log-odds, float32[K, L]."""
        ...


@dataclass(frozen=True)
class Calibrated:
    """Log-odds z as they are meant: slope x z + shift, of each label (Platt 1999). float64[L] each."""

    slope: Floats
    shift: Floats

    def apply(self, log_odds: Floats) -> Floats:
        """Return probabilities, float64[N, L]."""
        z = np.clip(log_odds * self.slope + self.shift, -_FARTHEST, _FARTHEST)
        return np.asarray(1 / (1 + np.exp(-z)))

    def add(self, g: Graph, log_odds: str) -> str:
        """Add it to a graph; returns probabilities, float32[K, L]."""
        z = g.op("Add", g.op("Mul", log_odds, g.constant(self.slope)), g.constant(self.shift))
        low, high = (g.constant(bound, np.float32) for bound in (-_FARTHEST, _FARTHEST))
        return g.op("Sigmoid", g.op("Clip", z, low, high))


def calibrate(log_odds: Floats, targets: Floats) -> Calibrated:
    """Return the scales whose log loss of soft targets is least; a label that nothing is known of keeps its own."""
    slopes, shifts = np.ones(log_odds.shape[1]), np.zeros(log_odds.shape[1])
    for label in range(log_odds.shape[1]):
        told = ~np.isnan(targets[:, label])
        z, wanted = log_odds[told, label], targets[told, label]
        if not told.any() or wanted.min() == wanted.max():
            continue

        def loss(x: Floats, z: Floats = z, wanted: Floats = wanted) -> tuple[float, Floats]:
            s = x[0] * z + x[1]
            off = 1 / (1 + np.exp(-np.clip(s, -60, 60))) - wanted
            return float((np.logaddexp(0, s) - wanted * s).mean()), np.array([(off * z).mean(), off.mean()])

        # A slope of 0 would say nothing; one below would say the opposite.
        found = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=[(0.05, _STEEPEST), (-_FARTHEST, _FARTHEST)]).x
        slopes[label], shifts[label] = found
    return Calibrated(slopes, shifts)


def held_out(data: Labelled, rows: Sequence[Any], fit: Callable[[Ints], TextModel], *, folds: int) -> Floats:
    """Return log-odds float64[N, L] of every row by a model that has seen neither it nor its group.

    `fit` takes the places of the rows that a model may learn from.
    """
    fold = data.folds(folds)
    found = np.empty_like(data.targets)
    for number in range(folds):
        inside = np.flatnonzero(fold == number)
        if not len(inside):
            continue
        model = fit(np.flatnonzero(fold != number))
        found[inside] = model.log_odds([rows[place] for place in inside.tolist()])
    return found


def log_loss(log_odds: Floats, targets: Floats) -> float:
    """Return the mean log loss of what is known, calibrated by itself, over all labels."""
    p, told = calibrate(log_odds, targets).apply(log_odds), ~np.isnan(targets)
    loss = -(targets * np.log(p) + (1 - targets) * np.log1p(-p))
    return float(loss[told].mean())


def thresholds(config: TextConfig, truth: NDArray[np.bool_], p: Floats) -> dict[Level, Threshold]:
    """Return the thresholds of one label, chosen on examples that the model has not learnt from.

    `flag`: see `expected_flag`. `limit`: the highest that finds the share asked for of those that have the label.
    `review`, `remove`: the lowest from which on the share asked for have it. None reaches more than `most_false` of
    those without the label, `remove` no more than `most_removed`: where most examples have a label, any text at all is
    as precise as was asked for. A level for which that cannot be is left out, and so is one not below a harder one.
    """
    if not truth.any() or truth.all():
        return {}
    flag = expected_flag(truth, p)
    found: dict[Level, Threshold] = {"flag": _threshold(truth, p, flag, "expected f1 of both")}
    at, precision, recall = chances_at(truth, p)
    below = np.searchsorted(np.sort(p[~truth]), at)  # of those without the label, how many a threshold spares
    reached_of_others = 1 - below / (~truth).sum()
    enough = np.flatnonzero((recall >= config.limit_recall) & (reached_of_others <= config.most_false))
    harder = 1.0
    asked = (
        ("remove", config.remove_precision, config.most_removed),
        ("review", config.review_precision, config.most_false),
    )
    for level, wanted, most in asked:
        reached = np.flatnonzero((precision >= wanted) & (reached_of_others <= most))
        if len(reached) and at[reached[-1]] < harder:
            harder = float(at[reached[-1]])
            name: Level = "remove" if level == "remove" else "review"
            found[name] = _threshold(truth, p, harder, f"precision >= {wanted:g}")
    if len(enough) and at[enough[0]] < harder:
        found["limit"] = _threshold(truth, p, float(at[enough[0]]), f"recall >= {config.limit_recall:g}")
    return found


def acted_upon(config: TextConfig, p: Floats, targets: Floats) -> NDArray[np.bool_]:
    """Return what these texts' own thresholds act upon, bool[N]: of p float64[N, L], any label from its softest on."""
    found = np.zeros(len(p), np.bool_)
    for label in range(p.shape[1]):
        told = ~np.isnan(targets[:, label])
        levels = thresholds(config, targets[told, label] >= POSITIVE, p[told, label])
        least = min((level.at for name, level in levels.items() if name != "flag"), default=np.inf)
        found |= p[:, label] >= least
    return found


def gaps(config: TextConfig, data: Labelled, p: Floats) -> dict[str, float]:
    """Return by slice how much more often clean texts inside are acted upon than clean texts outside.

    Of calibrated p float64[N, L], by models that have not learnt these texts. Slices with fewer than 50 clean texts
    inside or outside are left out.
    """
    clean, wrong = data.clean, acted_upon(config, p, data.targets)
    found = {}
    for name in sorted(frozenset[str]().union(*data.slices)):
        member = np.array([name in slices for slices in data.slices], np.bool_)
        inside, outside = clean & member, clean & ~member
        if min(inside.sum(), outside.sum()) >= _LEAST_CLEAN:
            found[name] = float(wrong[inside].mean() - wrong[outside].mean())
    return found


def expected_flag(truth: NDArray[np.bool_], p: Floats) -> float:
    """Return the threshold whose expected F1 of having the label and of not having it are best on average.

    What is expected follows from probabilities of `truth`, not from the few texts that have a rare label: where these
    happen to lie moves the threshold of the best F1 that was found much further (Lewis, SIGIR 1995).
    """
    said = np.log(p) - np.log1p(-p)
    chance = calibrate(said[:, None], truth[:, None].astype(np.float64)).apply(said[:, None])[:, 0]
    order = np.argsort(-said, kind="stable")
    flagged, right, positives = np.arange(1, len(p) + 1), np.cumsum(chance[order]), float(chance.sum())
    passed = len(p) - flagged
    yes = 2 * right / (flagged + positives)
    no = 2 * (passed - (positives - right)) / np.maximum(passed + len(p) - positives, 1e-12)
    return float(p[order[np.argmax(yes + no)]])


def _threshold(truth: NDArray[np.bool_], p: Floats, at: float, asked: str) -> Threshold:
    said = p >= at
    right = float((said & truth).sum())
    return Threshold(
        at=at, precision=right / max(float(said.sum()), 1), recall=right / max(float(truth.sum()), 1), asked=asked
    )


def write_text(
    job: Job,
    config: TextConfig,
    texts: Texts,
    model: TextModel,
    *,
    framework: str,
    data: Labelled,
    log_odds: Floats,
    rows: Sequence[Any],
    tensors: Callable[[list[Any]], dict[str, NDArray[Any]]],
    files: Mapping[str, bytes] | None = None,
    more: Mapping[str, float] | None = None,
    served: TextModel | None = None,
) -> None:
    """Calibrate a model, export it, prove the export, and write the component `text` with `text.json` beside it.

    Where another model is `served`, of the same weights rounded, the export of the unrounded one is what is proven. The
    graph that serves is held against it on all held-out rows, and calibration, thresholds and metrics are its own.

    Args:
        job: Whose model it is.
        config: Its settings.
        texts: The snapshot.
        model: What serves.
        framework: What fitted it.
        data: Held-out texts.
        log_odds: What models that had not seen them said of these, float64[N, L].
        rows: What the model reads of texts to prove the export by; some of them are.
        tensors: Rows -> the graph's inputs.
        files: Further files beside the model.
        more: Further metrics.
        served: What serves instead of `model`.

    Raises:
        IntegrityError: The export is not what was fitted; or what serves is farther from it than `ROUNDING` allows.
    """
    told_apart: dict[str, float] = {}
    exact = calibrate(log_odds, data.targets)
    exported = export(model, exact)
    some = [rows[place] for place in _spread(len(rows))]
    parity = prove_parity(_pairs(session(exported), model, exact, some, tensors))
    calibrated = exact
    if served is not None:
        plain = Calibrated(np.ones_like(exact.slope), np.zeros_like(exact.shift))
        p = asked(session(export(served, plain)), rows, tensors)
        rounded = np.log(p) - np.log1p(-p)
        told_apart = rounding(log_odds, rounded, data.targets)
        job.say(f"in whole numbers: { {name: round(value, 4) for name, value in told_apart.items()} }")
        log_odds, calibrated = rounded, calibrate(rounded, data.targets)
        exported = export(served, calibrated)
    p = calibrated.apply(log_odds)
    metrics, labels = dict(more or {}) | told_apart, {}
    for place, label in enumerate(texts.labels):
        told = ~np.isnan(data.targets[:, place])
        truth, said = data.targets[told, place] >= POSITIVE, p[told, place]
        chosen = thresholds(config, truth, said)
        labels[label] = LabelTold(
            rate=float(data.targets[told, place].mean()) if told.any() else 0.0,
            examples=int(told.sum()),
            thresholds=chosen,
        )
        if chosen:
            metrics |= {
                f"{label}_ap": average_precision(truth, said),
                f"{label}_f1": f1_at(truth, said, chosen["flag"].at),
            }
    metrics |= {f"gap {name}": gap for name, gap in gaps(config, data, p).items()}
    metrics["log_loss"] = log_loss(log_odds, data.targets)
    job.say(f"on {len(data)} held-out texts: { {name: round(value, 4) for name, value in metrics.items()} }")

    component = Component(COMPONENT, framework, exported, parity, metrics)
    write_component(job, texts, config, component)
    folder = job.model_dir / COMPONENT
    described = TextTold(inputs=model.inputs, labels=labels)
    (folder / TEXT_FILE).write_text(described.model_dump_json(indent=1), encoding="utf-8")
    for name, body in (files or {}).items():
        (folder / name).write_bytes(body)


def export(model: TextModel, calibrated: Calibrated) -> bytes:
    """Return the graph of a model's probabilities, `labels` float32[K, L]."""
    g = Graph(COMPONENT)
    g.output(calibrated.add(g, model.add(g)), LABELS, TensorProto.FLOAT, ["K", len(calibrated.slope)])
    return g.serialise()


def asked(
    opened: ort.InferenceSession, rows: Sequence[Any], tensors: Callable[[list[Any]], dict[str, NDArray[Any]]]
) -> Floats:
    """Return what a graph says of rows, each by itself as serving asks: probabilities float64[N, L], none 0 or 1."""
    said = [np.asarray(opened.run([LABELS], tensors([row]))[0], np.float64) for row in rows]
    return np.clip(np.concatenate(said), 1e-7, 1 - 1e-7)


def rounding(exact: Floats, rounded: Floats, targets: Floats) -> dict[str, float]:
    """Return how far rounding has moved probabilities, and what it has cost.

    Raises IntegrityError where the mean is moved by more than `ROUNDING`, or log loss is worse by as much.
    """
    apart = np.abs(calibrate(exact, targets).apply(exact) - calibrate(rounded, targets).apply(rounded))
    worse = log_loss(rounded, targets) - log_loss(exact, targets)
    if not (apart.mean() <= ROUNDING and worse <= ROUNDING):
        raise IntegrityError(
            f"whole numbers move probabilities by {apart.mean():.3f} and log loss by {worse:.4f}; up to {ROUNDING:g} "
            "is allowed: train without them"
        )
    return {
        "rounding_mean": float(apart.mean()),
        "rounding_p99": float(np.percentile(apart, 99)),
        "rounding_log_loss": worse,
    }


def _pairs(
    exported: ort.InferenceSession,
    model: TextModel,
    calibrated: Calibrated,
    rows: list[Any],
    tensors: Callable[[list[Any]], dict[str, NDArray[Any]]],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield (what the graph answers, what the model says): of texts together, and of each of a few by itself."""
    batches = [rows[start : start + 64] for start in range(0, len(rows), 64)] + [[row] for row in rows[:8]]
    for batch in batches:
        fitted = calibrated.apply(model.log_odds(batch)).astype(np.float32)
        yield np.asarray(exported.run([LABELS], tensors(batch))[0]), fitted


def _spread(count: int) -> list[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(_MOST_PROVED, count)).astype(np.int64))]
