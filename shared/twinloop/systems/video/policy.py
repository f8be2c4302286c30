"""Video's rules over what the models say: pure functions of arrays, so that a list can be explained and tested.

In this order: seen and excluded items are out (`shut`), scores are blended with clicks, watch time and freshness
(`adjusted`), a list is picked that repeats neither itself nor its authors (`picked`), and a few of its places may be
given to new items, with probabilities that are exactly known (`trials`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.history import History
from twinloop.systems.video.presets import Preset

FIRST_TRIAL, TRIAL_STEP = 5, 10  # places of exploration, from 0: never among the first five
CHOICES = 10  # new items that one place chooses from
_DAY_MS = 86_400_000.0
_SURE = 1e-6  # a probability is no nearer to 0 or 1 than this

Floats = NDArray[np.float32]


def shut(history: History, exclude: Iterable[str], index: Mapping[str, int]) -> list[int]:
    """Return the indices of items that must not be recommended: what the user has seen, and what was asked for.

    A recommendation is of something new. Ids that the model does not know cannot be returned anyway.
    """
    ids = dict.fromkeys(entry.item_id for entry in history) | dict.fromkeys(exclude)
    return [index[item_id] for item_id in ids if item_id in index]


def adjusted(
    scores: Floats,
    preset: Preset,
    *,
    at_ms: int,
    published_ms: NDArray[np.float64] | None = None,
    click: Floats | None = None,
    watch_s: Floats | None = None,
) -> Floats:
    """Return scores with what clicks, watch time and freshness make of them, in the unit of `scores`.

    A click enters as the log-odds of its probability, watch time as log(1 + seconds): the tenth minute counts less than
    the first. All sides are standardised over the candidates; what a release does not predict leaves its weight to the
    score. An item of unknown age gains nothing; one that is yet to be published counts as new. Equal scores have no
    unit: what is put beside them then counts in units of 1.

    Args:
        scores: Of the candidates, float32[K].
        preset: The settings.
        at_ms: The moment.
        published_ms: When each was published, NaN where that is not known.
        click: Probability of a click.
        watch_s: Expected seconds of watching.
    """
    if not len(scores):
        return scores
    equal = scores.min() == scores.max()  # their deviation may be a rounding error
    spread = 1.0 if equal else float(scores.std())
    found, left = np.zeros(len(scores), np.float32), 1.0
    if click is not None and preset.click:
        found, left = found + preset.click * _standard(log_odds(click)), left - preset.click
    if watch_s is not None and preset.watch:
        found, left = found + preset.watch * _standard(log_seconds(watch_s)), left - preset.watch
    # Where nothing is blended in, scores stay what they are, to the bit.
    found = scores if left == 1 else left * scores + (1 - left) * scores.mean() + spread * found
    if published_ms is not None and preset.fresh:
        days = np.maximum(at_ms - published_ms, 0) / _DAY_MS
        gain = np.nan_to_num(np.exp2(-days / preset.half_life_days), nan=0.0)
        found = found + np.asarray(spread * preset.fresh * gain, dtype=np.float32)
    return np.asarray(found, dtype=np.float32)


def log_odds(click: Floats) -> Floats:
    """Return probabilities of a click as they enter the blend."""
    sure = np.clip(click, _SURE, 1 - _SURE)
    return np.asarray(np.log(sure / (1 - sure)), dtype=np.float32)


def log_seconds(watch_s: Floats) -> Floats:
    """Return seconds of watching as they enter the blend."""
    return np.asarray(np.log1p(np.maximum(watch_s, 0)), dtype=np.float32)


def _standard(values: Floats) -> Floats:
    """Return values with mean 0 and deviation 1; zeros where they are all the same."""
    deviation = float(values.std())
    return (values - values.mean()) / np.float32(deviation) if deviation > 0 else np.zeros_like(values)


def picked(
    scores: Floats,
    preset: Preset,
    limit: int,
    *,
    vectors: Floats | None = None,
    authors: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], Floats]:
    """Return places of the list's items among the candidates, best first, and scores that do not increase.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next item is the one with the greatest score
    less `diversity` x (standard deviation of the scores) x (cosine to the most similar item above it, at least 0). Its
    score is that value. An author who has `per_author` items waits until nobody else has any left.

    Args:
        scores: Of the candidates, float32[K]; equal ones keep their order.
        preset: The settings.
        limit: Items at most.
        vectors: Of length one or zero, [K, d]; None: nothing is known of likeness.
        authors: -1 is unknown, and has no limit; None: of all.
    """
    strength = preset.diversity * float(scores.std()) if len(scores) and vectors is not None else 0.0
    capped = authors is not None and preset.per_author > 0 and bool((authors >= 0).any())
    if strength <= 0 and not capped:
        order = np.argsort(-scores, kind="stable")[:limit]
        return order, scores[order]
    value = scores.astype(np.float64)
    repeated, waiting = np.zeros(len(scores)), None
    places, values, used = [], [], dict[int, int]()
    for _ in range(min(limit, len(scores))):
        place = int((value if waiting is None else np.where(waiting, -np.inf, value)).argmax())
        if waiting is not None and (waiting[place] or value[place] == -np.inf):
            capped, waiting = False, None  # all that is left is of authors who had their share
            place = int(value.argmax())
        places.append(place)
        values.append(value[place])
        value[place] = -np.inf
        if strength > 0 and vectors is not None:
            alike = np.maximum(repeated, vectors @ vectors[place])
            value -= strength * (alike - repeated)
            repeated = alike
        if capped and authors is not None and (author := int(authors[place])) >= 0:
            used[author] = used.get(author, 0) + 1
            if used[author] >= preset.per_author:
                full = authors == author
                waiting = full if waiting is None else waiting | full
    return np.array(places, dtype=np.int64), np.minimum.accumulate(np.array(values, dtype=np.float32))


class Trial(NamedTuple):
    """One place of a list, from 0, that may be given to a new item; `pick` is its place in the pool, None the usual."""

    place: int
    pick: int | None
    propensity: float


def most_choices(preset: Preset, length: int) -> int:
    """Return how many new items a list of that length chooses from; 0 where it has no place of exploration."""
    return CHOICES * len(_trial_places(preset, length))


def trials(seed: str, preset: Preset, length: int, pool: int) -> list[Trial]:
    """Draw which places of a list are given to which new items.

    Place 5, 15, 25 and so on, at most `explore_share` of the list. Each keeps its usual item with probability
    1 - `explore`, or gets each of its own choices with `explore` / (number of them). Choices are dealt to the places in
    turn, so no two places share one, and the draws are independent: the propensities are exactly these.

    Args:
        seed: Equal seeds draw equally; empty draws nothing.
        preset: The settings.
        length: Of the list without trials.
        pool: New items to choose from, best first.
    """
    places = _trial_places(preset, length) if seed else range(0)
    found = []
    for turn, place in enumerate(places):
        choices = range(turn, min(pool, CHOICES * len(places)), len(places))
        if not choices:
            continue
        drawn = _uniform(seed, f"trial {place}")
        if drawn < preset.explore:
            pick = choices[min(int(drawn / preset.explore * len(choices)), len(choices) - 1)]
            found.append(Trial(place, pick, preset.explore / len(choices)))
        else:
            found.append(Trial(place, None, 1 - preset.explore))
    return found


def suited(liked: Floats, vectors: Floats) -> NDArray[np.int64]:
    """Return the order of new items for a user: by likeness to what they liked, on the whole; equals as they come.

    Args:
        liked: Vectors of what the user liked, [H, d]; without any, all items are equal.
        vectors: Of the new items, [N, d].
    """
    alike = vectors @ liked.mean(axis=0) if len(liked) else np.zeros(len(vectors), dtype=np.float32)
    return np.argsort(-alike, kind="stable")


def _trial_places(preset: Preset, length: int) -> range:
    count = int(length * preset.explore_share + 1e-9) if preset.explore else 0
    return range(FIRST_TRIAL, length, TRIAL_STEP)[:count]


def _uniform(seed: str, what: str) -> float:
    """Return a number in [0, 1) that is independent for each seed and purpose."""
    digest = hashlib.sha256(f"{seed}\0{what}".encode("utf-8", errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6]) / 2**48
