"""Ask a model every labelled case through the code that serves, and note what it scored and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from twinloop.contracts.artefacts import Case
from twinloop.errors import BadInputError
from twinloop.evaluation.cases import CaseScores

Judge = Callable[[Any, Case], Mapping[str, float]]


def replay(
    predictor: Any, cases: Sequence[Case], judge: Judge, *, timer: Callable[[], float] = time.thread_time
) -> CaseScores:
    """Judge one predictor on all cases.

    Args:
        predictor: What the system made of a release's models.
        cases: At least one.
        judge: (predictor, case) -> metrics of the case; the same names for every case, finite values.
        timer: Seconds of a monotonic clock. By default the thread's own: models run on the thread that asks, and what
            else a machine is busy with must not decide what serves.

    Returns:
        The scores. The first case is asked once more than it counts, because what a model does only once in its life
        (memory, caches) is not the latency of a request.

    Raises:
        BadInputError: There are no cases, or the judge returns other names or values that are not finite.
        Whatever the predictor raises.
    """
    if not cases:
        raise BadInputError("a replay needs at least one case")
    expected = sorted(judge(predictor, cases[0]))
    if not expected:
        raise BadInputError("the system's judge returns no metric")
    rows = np.empty((len(cases), len(expected)))
    latency = np.empty(len(cases))
    for index, case in enumerate(cases):
        started = timer()
        metrics = judge(predictor, case)
        latency[index] = (timer() - started) * 1000
        if sorted(metrics) != expected:
            raise BadInputError(f"case {case.case_id!r} was judged by {sorted(metrics)}, the first by {expected}")
        rows[index] = [metrics[name] for name in expected]
        if not np.isfinite(rows[index]).all():
            raise BadInputError(f"case {case.case_id!r} has a metric that is not finite: {dict(metrics)}")
    names = sorted({name for case in cases for name in case.slices})
    return CaseScores(
        case_ids=tuple(case.case_id for case in cases),
        metrics={name: rows[:, column].copy() for column, name in enumerate(expected)},
        slices={name: np.array([case.slices.get(name, "") for case in cases], dtype=np.str_) for name in names},
        latency_ms=latency,
    )
