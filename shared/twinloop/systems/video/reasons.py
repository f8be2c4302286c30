"""Why an item is in a list, in words an application could show and codes a program can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

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


class Part(NamedTuple):
    """Features that an engagement was told, and what may be said where they brought an item.

    `columns` are taken away together. `words` are tried in turn: a text is said only of an item of which its feature is
    far above what is believed of anybody (`OFTEN` x its default), and above the candidates' mean. `{tag}` is the item's
    first tag.
    """

    code: str
    columns: tuple[str, ...]
    words: tuple[tuple[str, str], ...]


OFTEN = 2.0  # a rate that starts from a prior gets there by several clicks, never by one
LEAST = 0.05  # standard deviations of the candidates' scores, for a part to be worth a word
ENGAGED = (
    Part(
        "clicked",
        ("item_click_rate_1d", "item_click_rate_30d"),
        (
            ("item_click_rate_30d", "People often click it"),
            ("item_click_rate_1d", "People often clicked it in the last day"),
        ),
    ),
    Part(
        "watched",
        ("item_long_watch_rate_30d", "item_watch_through_30d", "item_mean_watch_ms_30d"),
        (
            ("item_watch_through_30d", "People who start it see much of it"),
            ("item_long_watch_rate_30d", "People who start it often see half of it"),
        ),
    ),
    Part(
        "author",
        ("user_author_watch_share_30d", "user_author_click_rate_30d", "user_author_days_since_watch"),
        (
            ("user_author_watch_share_30d", "You watched this author lately"),
            ("user_author_click_rate_30d", "You clicked videos of this author lately"),
        ),
    ),
    Part(
        "tag",
        ("user_tag_watch_share_30d", "user_tag_click_rate_30d"),
        (
            ("user_tag_watch_share_30d", "You often watch videos tagged {tag}"),
            ("user_tag_click_rate_30d", "You clicked videos tagged {tag} lately"),
        ),
    ),
)

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


def engaged(
    gain: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    values: NDArray[np.float32],
    defaults: Mapping[str, float],
    chosen: NDArray[np.int64],
    tags: Sequence[str | None],
) -> list[tuple[Reason, ...]]:
    """Return what an engagement was told that speaks most for each chosen candidate, by occlusion as `contributions`.

    Args:
        gain: Rows for the chosen items, [n, chosen, S] -> what engagement adds to their scores, [n, chosen], in
            standard deviations of the candidates' scores.
        values: What the engagement was told of all candidates, [K, S].
        defaults: The columns' names, in order, with what is believed of who nothing is known of.
        chosen: Which candidates to explain.
        tags: Their first tags; None where there is none, or its name is not known.
    """
    place = {name: column for column, name in enumerate(defaults)}
    parts = [part for part in ENGAGED if any(name in place for name in part.columns)]
    if not parts or not len(chosen):
        return [() for _ in chosen]
    rows, mean = values[chosen], values.mean(axis=0)
    occluded = np.tile(rows, (len(parts) + 1, 1, 1))  # the first copy stays as it is
    for turn, part in enumerate(parts, 1):
        columns = [place[name] for name in part.columns if name in place]
        occluded[turn][:, columns] = mean[columns]
    gains = gain(occluded)
    found = []
    for row, lost, tag in zip(rows, (gains[0] - gains[1:]).T, tags, strict=True):
        high = {
            name
            for name, column in place.items()
            if row[column] >= OFTEN * defaults[name] and row[column] > mean[column]
        }
        said = [(float(weight), part.code, _words(part, high, tag)) for weight, part in zip(lost, parts, strict=True)]
        best = sorted((one for one in said if one[0] >= LEAST and one[2]), key=lambda one: -one[0])[:MOST_TOLD]
        found.append(tuple(Reason(code, text, weight=round(weight, 4)) for weight, code, text in best))
    return found


def _words(part: Part, high: Collection[str], tag: str | None) -> str:
    """Return what is true of an item whose features of these names are high; nothing where that is nothing."""
    true = (text for name, text in part.words if name in high)
    return next((text.format(tag=tag) for text in true if tag or "{tag}" not in text), "")


def _most(codes: Sequence[str], told: dict[str, str], losses: NDArray[np.float32]) -> tuple[Reason, ...]:
    total = float(losses.sum())
    best = np.argsort(-losses, kind="stable")[:MOST_TOLD]
    return tuple(
        Reason(codes[place], told[codes[place]], weight=round(float(losses[place]), 4))
        for place in best
        if total > 0 and losses[place] >= _LEAST_SHARE * total
    )
