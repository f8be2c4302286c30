"""The cases of a system that is judged by impressions: bundles of them, so that a case says more than one outcome does.

What is gained on one impression is nearly all chance, and the gate resamples and replays cases by the thousand.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from twinloop.contracts.artefacts import Case
from twinloop.errors import BadInputError
from twinloop.evaluation.probability import log_loss
from twinloop.features.judged import BUNDLE

SHOWN = "shown"
LOG_GAIN = "log_gain"
OTHER = "other"
MOST_LABELS = 50  # of a slice, beside `other`


def rare_as_other(shown: Sequence[Case], least: int) -> list[Case]:
    """Return the impressions with the rare labels of each slice as one, `other`.

    Labels may be whatever applications send, a thousand kinds of device. What has too few impressions to veto guards
    nothing by itself, and a bundle of one label needs some. Of more than `MOST_LABELS` the most frequent are kept.

    Args:
        shown: Impressions; what is in no slice stays so.
        least: Impressions of a label that is kept.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for case in shown:
        for name, label in case.slices.items():
            counts[name][label] += 1
    kept = {
        name: {label for label, count in sorted(of.items(), key=_most_first)[:MOST_LABELS] if count >= least}
        for name, of in counts.items()
    }
    return [
        case.model_copy(
            update={"slices": {n: label if label in kept[n] else OTHER for n, label in case.slices.items()}}
        )
        for case in shown
    ]


def _most_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


def bundled(shown: Sequence[Case], size: int = BUNDLE) -> list[Case]:
    """Return cases of `size` impressions each: `shown` are their requests, and of each label the truth lists what came.

    Impressions of one user lie together as far as they can, since they are no independent evidence and cases are
    resampled as if they were. A bundle is of one label of each slice. What is left over of every combination of labels
    is bundled, too, and is in those slices alone that all of a bundle share. So all bundles weigh the same, and of many
    impressions fewer than `size`, the last ones, are in none.

    Args:
        shown: Impressions with different ids.
        size: Impressions of a bundle.
    """
    alike: defaultdict[tuple[tuple[str, str], ...], list[Case]] = defaultdict(list)
    for case in sorted(shown, key=lambda case: (_hash(str(case.request["user_id"])), _hash(case.case_id))):
        alike[tuple(sorted(case.slices.items()))].append(case)
    bundles, rest = [], []
    for labels in sorted(alike):
        cases = alike[labels]
        whole = len(cases) // size * size
        bundles += [cases[start : start + size] for start in range(0, whole, size)]
        rest += cases[whole:]
    bundles += [rest[start : start + size] for start in range(0, len(rest), size)]
    if len(bundles) > 1 and len(bundles[-1]) < size:
        bundles.pop()
    return [_case(bundle) for bundle in bundles]


def log_gain(ask: Callable[[Any, Case], Mapping[str, float]], label: str) -> Callable[[Any, Case], dict[str, float]]:
    """Return a `System.judge` of bundles: `log_gain`, the negative mean log loss, 0 at best.

    Args:
        ask: As `Predictions.ask`.
        label: Which of the predicted chances counts.
    """

    def judge(predictor: Any, case: Case) -> dict[str, float]:
        cases = [Case(case_id=case.case_id, request=request, truth={}) for request in case.request[SHOWN]]
        said = [ask(predictor, one).get(label) for one in cases]
        if None in said:
            raise BadInputError(f"the release does not predict {label} of every impression")
        return {LOG_GAIN: -log_loss(case.truth[label], np.array(said, np.float64))}

    return judge


def _case(bundle: Sequence[Case]) -> Case:
    shared = set.intersection(*(set(case.slices.items()) for case in bundle))
    return Case(
        case_id=bundle[0].case_id,
        request={SHOWN: [case.request for case in bundle]},
        truth={label: [case.truth[label] for case in bundle] for label in bundle[0].truth},
        slices=dict(sorted(shared)),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
