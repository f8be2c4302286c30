"""Why an item is in a list, in words an application could show and codes a program can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.system import Reason
from twinloop.systems.video.catalogue import Segment

ALIKE = 0.3  # cosine from which two items are said to have to do with each other
MOST_TOLD = 2  # contributions of the ranking that are told of an item
_LEAST_SHARE = 0.1  # of an item's contributions, for one to be worth a word
MOST_ASKED = 5  # liked items that are asked for their part in the list

# Columns of the rankings -> code and words. What is known of the user is the same for every candidate: it is no reason.
_TASTE = ("taste", "Viewers with your taste like it")
_GROUPS: dict[str, tuple[str, str] | None] = {
    "ease": _TASTE,
    "cosine": _TASTE,
    "together": _TASTE,
    "factors": _TASTE,
    "blend": _TASTE,
    "next": ("next", "Often liked soon after what you liked"),
    "tags": ("tags", "Its tags are ones that you like"),
    "trend": ("trend", "Popular lately"),
    "popularity": ("popularity", "As well known as what you like"),
    "age": ("age", "About as new here as what you like"),
    "history": None,
}
_OTHER = "Fits what you liked"

Rank = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def tried(like: str | None, title: str | None) -> Reason:
    """Say of a new item that it is tried out, and which liked item it resembles."""
    if like is None:
        return Reason("new", "New here, and nobody has liked it yet")
    return Reason("new", f"New here, and similar to {title or like}", like)


def cold(segment: Segment | None, boosted: bool) -> Reason:
    """Say why somebody of whom nothing is known gets an item."""
    if segment is None or not boosted:
        return Reason("popular", "Liked by many")
    return Reason("popular_in_context", f"Liked by many with {segment.key} {segment.value}")


def liked(item_id: str, title: str | None, weight: float) -> Reason:
    """Say which item that the user liked brought this one."""
    return Reason("liked", f"Because you liked {title or item_id}", item_id, round(weight, 4))


HISTORY = Reason("history", "Chosen by all that you liked")
POPULAR = Reason("popular", "Liked by many")
FRESH = Reason("fresh", "Published lately")


def nearest(vectors: NDArray[np.float32], of_liked: NDArray[np.float32]) -> tuple[NDArray[np.int64], Sequence[float]]:
    """Return for each item the most similar liked one, and their cosine; the later one of equals."""
    cosines = (vectors @ of_liked.T)[:, ::-1]
    best = cosines.argmax(axis=1)
    return len(of_liked) - 1 - best, [float(row[place]) for row, place in zip(cosines, best, strict=True)]


def contributions(
    rank: Rank, features: NDArray[np.float32], names: Sequence[str], context: Sequence[str], chosen: NDArray[np.int64]
) -> list[tuple[Reason, ...]]:
    """Return the groups of columns that speak most for each chosen candidate.

    By occlusion: a group's columns are replaced by their mean over the candidates, and what the score loses is the
    group's part in it. An approximation: what groups do together counts for each of them, or for none.

    Args:
        rank: Features -> scores, of any number of rows.
        features: Of all candidates, [K, F].
        names: Of the columns.
        context: Those of them that are known of the user.
        chosen: Which candidates to explain.
    """
    groups: dict[str, list[int]] = {}
    told: dict[str, str] = {}
    for column, name in enumerate(names):
        prefix = re.match(r"[a-z]*", name)
        group = _GROUPS.get(prefix[0] if prefix else "", (prefix[0] if prefix else name, _OTHER))
        if name not in context and group is not None:
            groups.setdefault(group[0], []).append(column)
            told[group[0]] = group[1]
    rows, mean = features[chosen], features.mean(axis=0)
    occluded = np.tile(rows, (len(groups) + 1, 1, 1))  # the first copy stays as it is
    for turn, columns in enumerate(groups.values(), 1):
        occluded[turn][:, columns] = mean[columns]
    scores = rank(occluded.reshape(-1, rows.shape[1])).reshape(len(groups) + 1, len(rows))
    losses = np.maximum(scores[0] - scores[1:], 0).T
    return [_most(list(groups), told, row) for row in losses]


def _most(codes: Sequence[str], told: dict[str, str], losses: NDArray[np.float32]) -> tuple[Reason, ...]:
    total = float(losses.sum())
    best = np.argsort(-losses, kind="stable")[:MOST_TOLD]
    return tuple(
        Reason(codes[place], told[codes[place]], weight=round(float(losses[place]), 4))
        for place in best
        if total > 0 and losses[place] >= _LEAST_SHARE * total
    )
