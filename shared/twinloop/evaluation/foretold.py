"""What a release said of impressions before they came, against what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.artefacts import Case
from twinloop.contracts.system import Predictions
from twinloop.errors import BadInputError
from twinloop.evaluation.intervals import Interval
from twinloop.evaluation.probability import auc, calibration_ratio, ece, equal_count, log_loss, normalised_entropy
from twinloop.evaluation.regression import mae, xauc

_WORLDS = 200
_BINS = 10
_SEED = 20260101

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]

_OF_CHANCES: dict[str, Metric] = {
    "logloss": log_loss,
    "ne": normalised_entropy,
    "auc": auc,
    "calibration": calibration_ratio,
    "ece": ece,
}
_OF_AMOUNTS: dict[str, Metric] = {"mae": mae, "xauc": xauc}

# What a reader must know of each metric, by the end of its name.
LEGEND = {
    "auc": "0.5 guesses, 1 orders perfectly",
    "calibration": "predicted / observed; 1 is right",
    "logloss": "mean -[y ln p + (1 - y) ln(1 - p)]; less is better",
    "ne": "normalised entropy; 1 knows only the base rate, less is better",
    "ece": "expected calibration error: mean |predicted - observed| over 15 bins of equal count by p; 0 is right",
    "mae": "mean absolute error, in the label's unit; less is better",
    "xauc": "AUC of amounts: 0.5 guesses, 1 orders perfectly",
}


@dataclass(frozen=True)
class Foretold:
    """Outcomes and predictions of the same impressions, by label.

    Attributes:
        users: Whose each impression is, as numbers; a user's impressions are no independent evidence.
        came: Label -> what became of each.
        said: Label -> what was predicted of it; the same labels.
        guarded: Labels whose calibration can veto.
        slices: Slice -> its label of each impression, '' where it is in none; empty where impressions have no slices.
    """

    users: NDArray[np.int64]
    came: Mapping[str, Floats]
    said: Mapping[str, Floats]
    chances: tuple[str, ...]
    amounts: tuple[str, ...]
    guarded: tuple[str, ...]
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def within(self) -> Iterator[tuple[str, str, Foretold]]:
        """Yield every slice and label with the impressions that are in it, both sorted."""
        for name in sorted(self.slices):
            labels = self.slices[name]
            for label in np.unique(labels[labels != ""]).tolist():
                inside = labels == label
                yield (
                    name,
                    label,
                    replace(
                        self,
                        users=self.users[inside],
                        came={key: values[inside] for key, values in self.came.items()},
                        said={key: values[inside] for key, values in self.said.items()},
                        slices={},
                    ),
                )


class Bin(NamedTuple):
    """Impressions of which about the same was predicted: the mean of that, and the share of which it came."""

    predicted: float
    observed: Interval
    impressions: int


@dataclass(frozen=True)
class SliceMetrics:
    """What was foretold of the impressions of one slice: the metrics that outcomes allow, as `summary` names them."""

    slice: str
    label: str
    impressions: int
    metrics: Mapping[str, float]


def foretell(predictor: Any, shown: Sequence[Case], predictions: Predictions) -> Foretold | None:
    """Ask a release about every impression; None where it predicts nothing, or there is none.

    Raises:
        BadInputError: It predicts other labels of some impressions, or what is no probability or no amount; or an
            impression lacks an outcome, or has one that is none. Whatever the predictor raises is raised, too.
    """
    if not shown or not predictions.ask(predictor, shown[0]):
        return None
    labels = (*predictions.chances, *predictions.amounts)
    said = {label: np.empty(len(shown)) for label in labels}
    came = {label: _came(shown, label, chance=label in predictions.chances) for label in labels}
    for place, case in enumerate(shown):
        found = predictions.ask(predictor, case)
        if set(found) != set(labels):
            raise BadInputError(f"of impression {case.case_id!r} {sorted(found)} was predicted, not {sorted(labels)}")
        for label in labels:
            said[label][place] = found[label]
    for label in labels:
        most = 1.0 if label in predictions.chances else np.inf
        if not ((said[label] >= 0) & (said[label] <= most) & np.isfinite(said[label])).all():
            raise BadInputError(f"a prediction of {label} is no {'probability' if most == 1 else 'amount'}")
    _, users = np.unique([str(case.request["user_id"]) for case in shown], return_inverse=True)
    chosen = predictions.chances, predictions.amounts, predictions.guarded
    names = sorted({name for case in shown for name in case.slices})
    slices = {name: np.array([case.slices.get(name, "") for case in shown], np.str_) for name in names}
    return Foretold(users.astype(np.int64), came, said, *chosen, slices)


def _came(shown: Sequence[Case], label: str, *, chance: bool) -> Floats:
    """What became of each impression; a metric that is refused later on would only be missing."""
    try:
        came = np.array([float(case.truth[label]) for case in shown])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"an impression of the snapshot does not say what came of it as {label}") from error
    if not (np.isin(came, (0.0, 1.0)) if chance else np.isfinite(came)).all():
        raise BadInputError(f"an outcome {label} of the snapshot is {'neither 0 nor 1' if chance else 'no amount'}")
    return came


def reliability(foretold: Foretold, label: str, confidence: float) -> tuple[Bin, ...]:
    """Return a chance's impressions in up to ten bins of equal count by what was predicted, with Wilson's intervals.

    Equal predictions are in one bin, so one who says the same of everything has one. The interval of a share k / n is
    (k + z^2 / 2 +- z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2), Wilson 1927, as if impressions were independent.
    """
    came, said = foretold.came[label], foretold.said[label]
    places = equal_count(said, _BINS)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    found = []
    for place in np.unique(places):
        inside = places == place
        n, k = int(inside.sum()), float(came[inside].sum())
        middle, half = (k + z**2 / 2) / (n + z**2), z * (k * (n - k) / n + z**2 / 4) ** 0.5 / (n + z**2)
        share = Interval(k / n, max(0.0, middle - half), min(1.0, middle + half), confidence)
        found.append(Bin(float(said[inside].mean()), share, n))
    return tuple(found)


def slice_metrics(foretold: Foretold) -> tuple[SliceMetrics, ...]:
    """Return the metrics of chances within every slice, without intervals."""
    found = []
    for name, label, inside in foretold.within():
        metrics = {
            f"{of}_{metric}": value
            for of in inside.chances
            for metric, measure in _OF_CHANCES.items()
            if (value := _or_none(measure, inside.came[of], inside.said[of])) is not None
        }
        found.append(SliceMetrics(name, label, len(inside.users), metrics))
    return tuple(found)


def summary(foretold: Foretold, confidence: float) -> dict[str, Interval]:
    """Return `click_auc` and so on: each metric that the outcomes allow, with its interval over resampled users."""
    found = {}
    for labels, metrics in ((foretold.chances, _OF_CHANCES), (foretold.amounts, _OF_AMOUNTS)):
        for label in labels:
            for name, metric in metrics.items():
                interval = _interval(metric, foretold.came[label], foretold.said[label], foretold.users, confidence)
                if interval is not None:
                    found[f"{label}_{name}"] = interval
    return found


def _interval(
    metric: Metric, came: Floats, said: Floats, users: NDArray[np.int64], confidence: float
) -> Interval | None:
    """Bootstrap over users, without worlds that lack outcomes it needs; None where these did not come at all."""
    mean = _or_none(metric, came, said)
    if mean is None:
        return None
    random, many = np.random.default_rng(_SEED), int(users.max()) + 1
    worlds = []
    for _ in range(_WORLDS):
        times = np.bincount(random.integers(0, many, many), minlength=many)
        rows = np.repeat(np.arange(len(users)), times[users])
        worlds.append(_or_none(metric, came[rows], said[rows]))
    tail = (1 - confidence) / 2
    low, high = np.quantile([value for value in worlds if value is not None] or [mean], (tail, 1 - tail))
    return Interval(mean, float(low), float(high), confidence)


def _or_none(metric: Metric, came: Floats, said: Floats) -> float | None:
    try:
        return metric(came, said)
    except BadInputError:
        return None
