"""What is told of probabilities: of Davidson's classes and who is wrongly flagged, and of several labels."""

from __future__ import annotations

import numpy as np
from benchmarks.moderation.texts import HATE, NEITHER, OFFENSIVE, Row
from numpy.typing import NDArray

from twinloop.evaluation.classification import average_precision, f1, macro_f1
from twinloop.systems.moderation.features import slices_of
from twinloop.systems.moderation.serve import ModerationPredictor

MARKED = ("identity named", "dialect marked")  # guarded slices, and those who are to be guarded in each


def of_davidson(predictor: ModerationPredictor, rows: list[Row]) -> Row:
    """Return the metrics of classes, and of who is wrongly flagged."""
    said = predictor.probabilities([row["text"] for row in rows])
    p = {label: np.array([one.get(label, 0.0) for one in said]) for label in ("hate", "offensive")}
    at = {label: predictor.told.labels[label].thresholds["flag"].at for label in p}
    hate, offensive = p["hate"] >= at["hate"], p["offensive"] >= at["offensive"]
    kinds = np.where(hate, HATE, np.where(offensive, OFFENSIVE, NEITHER))
    truth = np.array([row["class"] for row in rows])
    found = {
        "macro_f1": macro_f1(truth, kinds),
        "hate_f1": f1(truth == HATE, kinds == HATE),
        "hate_ap": average_precision(truth == HATE, p["hate"]),
        "neither_f1": f1(truth == NEITHER, kinds == NEITHER),
    }
    slices = [slices_of(row["text"]) for row in rows]
    for name, label in map(str.split, MARKED):
        inside = np.array([one[name] == label for one in slices])
        clean = truth == NEITHER
        found[f"false positives, {name} {label}"] = float((kinds != NEITHER)[clean & inside].mean())
        found[f"false positives, {name} others"] = float((kinds != NEITHER)[clean & ~inside].mean())
    return {name: round(value, 4) for name, value in found.items()}


def of_labels(predictor: ModerationPredictor, rows: list[Row]) -> Row:
    """Return micro- and macro-averaged precision over the labels that the release knows."""
    said = predictor.probabilities([row["text"] for row in rows])
    names = predictor.labels
    p = np.array([[one.get(name, 0.0) for name in names] for one in said])
    truth = np.array([[{label: value for label, value, _ in row["labels"]}[name] for name in names]
                      for row in rows], np.bool_)  # fmt: skip
    return averages(truth, p)


def averages(truth: NDArray[np.bool_], p: NDArray[np.float64]) -> Row:
    """Return micro- and macro-averaged precision of labels, bool[N, L] and float64[N, L]."""
    each = [average_precision(truth[:, place], p[:, place]) for place in range(truth.shape[1]) if truth[:, place].any()]
    return {
        "macro_ap": round(float(np.mean(each)), 4),
        "micro_ap": round(average_precision(truth.ravel(), p.ravel()), 4),
    }
