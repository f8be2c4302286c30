"""Clean texts of guarded slices count as more than one, so that a model does not take the slice for the label.

Reweighing (Kamiran and Calders, Knowledge and Information Systems 2012; of texts: Zhang et al., ACL 2020): where an
example that has no label is rarer inside a slice than among all, each such example is worth as many as make it as
frequent there. The weighted slice says nothing of whether there is a label, so what stands for the slice, a spelling or
the name of a group, says less of it. Calibration and what is measured know no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from twinloop.training.texts import Floats, Labelled

MOST_COUNTED = 20.0


def counts(data: Labelled, strength: float) -> Floats:
    """Return as how many texts each is learnt, float64[N]: 1 to `MOST_COUNTED`.

    A clean text whose slices are S counts as strength x odds(clean) / odds(clean | S), and no less than 1; all others
    as 1. These are the weights of the paper, over the weight that those with a label have there. At a strength of 1
    clean texts are as large a share of S as of all, where they were a smaller one; 0 leaves all alike, and more than 1
    makes S speak against a label.
    """
    found, without = np.ones(len(data)), data.clean
    if not strength or not without.any() or without.all():
        return found
    odds = without.mean() / (1 - without.mean())
    members: dict[frozenset[str], list[int]] = {}
    for place, slices in enumerate(data.slices):
        if slices:
            members.setdefault(slices, []).append(place)
    for places in members.values():
        mine = without[places]
        if mine.any():
            found[np.array(places)[mine]] = np.clip(
                strength * odds * (1 - mine.mean()) / mine.mean(), 1.0, MOST_COUNTED
            )
    return found


class Tried(NamedTuple):
    """A strength, the log loss of held-out texts with it, and the widest of their `gaps`; 0 where none is told."""

    strength: float
    loss: float
    gap: float


def chosen(tried: Sequence[Tried], *, most_gap: float, most_lost: float) -> Tried:
    """Return the least loss of those whose gap is at most `most_gap`.

    Where there is none, the least gap of those whose loss is at most `most_lost` above the least one.
    """
    within = [one for one in tried if one.gap <= most_gap]
    if within:
        return min(within, key=lambda one: (one.loss, one.strength))
    best = min(one.loss for one in tried)
    return min((one for one in tried if one.loss <= best + most_lost), key=lambda one: (one.gap, one.loss))
