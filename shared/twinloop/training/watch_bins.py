"""Seconds of watching without the bias of long videos: quantiles of what videos of about the same length got.

A long video is watched for longer whether it is liked or not, so a model of seconds learns durations. After D2Q (Zhan
et al., KDD 2022) impressions are grouped by the video's duration, and what is learnt is where in its group a watch
stands. D2Q regresses that quantile; here it is a class, a twentieth of the group, and a model says how likely each is.
So the mean can be answered, which is what "expected" promises and what adds up over a list: the sum of chances x the
class's mean seconds. D2Q's own estimate and the median have lower absolute errors, because watches are skewed, and are
too short on average; see docs/decisions/models-multitask.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinloop.training.events import Floats32, Ints

BINS = 20
_GROUPS = 10
_GROUP_ROWS = 200  # durations are told apart as far as a group has so many rows


@dataclass(frozen=True)
class WatchBins:
    """Groups of durations, and the classes of seconds in each.

    Attributes:
        durations: Ascending edges. Group 0 is an unknown duration; group g begins at edge g - 2 and ends before g - 1.
        edges: float32[groups, BINS - 1], ascending; a class holds seconds from its lower edge up to before its upper.
        seconds: float32[groups, BINS]: the mean of each class; its edge where nothing fell into it.
    """

    durations: Floats32
    edges: Floats32
    seconds: Floats32

    def groups(self, durations: Floats32) -> Ints:
        """Return each duration's group; 0 where it is not a number above 0."""
        known = np.where(np.isfinite(durations) & (durations > 0), durations, 0).astype(np.float32)
        place = np.searchsorted(self.durations, known, side="right") + 1
        return np.where(known > 0, place, 0).astype(np.int64)

    def classes(self, durations: Floats32, seconds: Floats32) -> Ints:
        """Return the class of each watch."""
        groups = self.groups(durations)
        return np.asarray((seconds[:, None] >= self.edges[groups]).sum(axis=1), dtype=np.int64)


def fit_bins(durations: Floats32, seconds: Floats32) -> WatchBins:
    """Return groups of about equally many impressions, and their classes."""
    known = durations[np.isfinite(durations) & (durations > 0)]
    count = int(np.clip(len(known) // _GROUP_ROWS, 1, _GROUPS))
    edges = np.unique(np.quantile(known, np.arange(1, count) / count)) if len(known) and count > 1 else np.zeros(0)
    blank = np.zeros((len(edges) + 2, 1), np.float32)
    grouped = WatchBins(edges.astype(np.float32), blank, blank).groups(durations)
    rows = [seconds[grouped == group] for group in range(len(edges) + 2)]
    fitted = [_classes(mine if len(mine) >= _GROUP_ROWS // 2 else seconds) for mine in rows]
    return WatchBins(
        edges.astype(np.float32), np.stack([edge for edge, _ in fitted]), np.stack([mean for _, mean in fitted])
    )


def _classes(seconds: Floats32) -> tuple[Floats32, Floats32]:
    edges = np.quantile(seconds, np.arange(1, BINS) / BINS).astype(np.float32)
    place = (seconds[:, None] >= edges).sum(axis=1)
    rows = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, weights=seconds, minlength=BINS)
    lower = np.concatenate([edges[:1], edges])
    return edges, np.where(rows > 0, sums / np.maximum(rows, 1), lower).astype(np.float32)
