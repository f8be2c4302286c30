"""Who lives in the world: users with tastes that move slowly, habits, and the day they joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.datasets.simulator.settings import WorldSettings
from twinloop.datasets.simulator.vocabulary import AGE_SHARES, COUNTRY_SHARES, DEVICE_SHARES, TAGS

Array = NDArray[Any]
DAY_MS = 86_400_000
FAVOURITES = 3
_OLD_DAYS = 200.0  # mean time since those who were there before had joined
_PIECE = 100_000


@dataclass(frozen=True)
class Users:
    """Columns, one row a user, in the order of joining.

    Attributes:
        tastes: float32[2, n, k], unit vectors; a user moves from the first to the second, and on.
        favourites: int16[2, n, 3], the tags that each of the two was made of.
        activity: float64[n], how often they come, relative to each other.
        joined_ms: int64[n].
        hour: float32[n], when on a day they usually come.
        country: int8[n], device: int8[n], age_group: int8[n].
    """

    tastes: Array
    favourites: Array
    activity: Array
    joined_ms: Array
    hour: Array
    country: Array
    device: Array
    age_group: Array


def unit(vectors: Array) -> Array:
    """Return vectors of length one."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def make_users(settings: WorldSettings, tags: Array, rng: np.random.Generator) -> Users:
    """Draw the users. Where somebody lives and how old they are says a little about their tastes."""
    count, size = settings.users, tags.shape[1]
    country = rng.choice(len(COUNTRY_SHARES), count, p=COUNTRY_SHARES).astype(np.int8)
    age_group = rng.choice(len(AGE_SHARES), count, p=AGE_SHARES).astype(np.int8)
    groups = len(COUNTRY_SHARES) * len(AGE_SHARES)
    # A group's favourite tags: what can be known of somebody new.
    leaning = rng.gamma(0.6, size=(groups, len(TAGS)))
    bounds = np.cumsum(leaning / leaning.sum(1, keepdims=True), axis=1)
    group = country.astype(np.int64) * len(AGE_SHARES) + age_group
    tastes = np.empty((2, count, size), np.float32)
    favourites = np.empty((2, count, FAVOURITES), np.int16)
    weights = np.array([0.6, 0.4, 0.3], np.float32)
    for turn in range(2):
        for first in range(0, count, _PIECE):  # all at once, the tags' vectors would take more memory than the world
            rows = slice(first, min(count, first + _PIECE))
            drawn = rng.random((rows.stop - first, FAVOURITES))
            chosen = (drawn[:, :, None] > bounds[group[rows]][:, None, :]).sum(-1).clip(max=len(TAGS) - 1)
            liked = (tags[chosen] * weights[:, None]).sum(1)
            own = rng.standard_normal((rows.stop - first, size)) * (0.35 / np.sqrt(size))
            tastes[turn, rows], favourites[turn, rows] = unit(liked + own), chosen
    return Users(
        tastes=tastes,
        favourites=favourites,
        activity=rng.lognormal(0.0, 1.0, count),
        joined_ms=arrivals(settings, count, settings.cold_users, _OLD_DAYS, rng),
        hour=(rng.normal(20.0, 3.5, count) % 24).astype(np.float32),
        country=country,
        device=rng.choice(len(DEVICE_SHARES), count, p=DEVICE_SHARES).astype(np.int8),
        age_group=age_group,
    )


def arrivals(settings: WorldSettings, count: int, cold: float, old_days: float, rng: np.random.Generator) -> Array:
    """Return when each came to be, in order: a share evenly over the simulated days, the others before."""
    new = round(count * cold)
    before = settings.start_ms - 1 - (rng.exponential(old_days, count - new) * DAY_MS).astype(np.int64)
    during = settings.start_ms + (rng.random(new) * settings.days * DAY_MS).astype(np.int64)
    return np.sort(np.concatenate([before, during]))
