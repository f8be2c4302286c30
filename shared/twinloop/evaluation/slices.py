"""Who gains and who loses: the paired comparison within each slice of the cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinloop.contracts.spec import GatePolicy
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.intervals import Interval, paired_gain


@dataclass(frozen=True)
class SliceGain:
    """A candidate against its rival on the cases of one slice.

    Attributes:
        slice: Such as `activity`.
        label: Such as `light`.
        cases: How many there are.
        candidate: Its mean of the primary metric.
        rival: The rival's.
        gain: Paired, with its interval.
        tolerance: How much may be lost.
        enough: Whether there are cases enough for a veto.
    """

    slice: str
    label: str
    cases: int
    candidate: float
    rival: float
    gain: Interval
    tolerance: float
    enough: bool

    @property
    def lost(self) -> bool:
        """Whether the slice loses more than tolerated, and not by chance: the whole interval is below zero."""
        return self.enough and self.gain.mean < -self.tolerance and self.gain.high < 0


def slice_gains(policy: GatePolicy, candidate: CaseScores, rival: CaseScores) -> tuple[SliceGain, ...]:
    """Compare on every label of every declared slice that the cases carry, in the declared order, labels sorted."""
    ours, theirs = candidate.metrics[policy.primary], rival.metrics[policy.primary]
    found = []
    for name in policy.slices:
        if name not in candidate.slices:
            continue
        labels = candidate.slices[name]
        for label in np.unique(labels[labels != ""]):
            inside = labels == label
            count = int(inside.sum())
            gain = paired_gain(ours[inside], theirs[inside], confidence=policy.confidence, resamples=policy.resamples)
            found.append(
                SliceGain(
                    slice=name,
                    label=str(label),
                    cases=count,
                    candidate=float(ours[inside].mean()),
                    rival=float(theirs[inside].mean()),
                    gain=gain,
                    tolerance=policy.slice_tolerance,
                    enough=count >= policy.minimum_slice_cases,
                )
            )
    return tuple(found)


def unmeasured(policy: GatePolicy, scores: CaseScores) -> tuple[str, ...]:
    """Return the declared slices that no case carries: a guardrail with nothing behind it."""
    return tuple(name for name in policy.slices if name not in scores.slices or not (scores.slices[name] != "").any())
