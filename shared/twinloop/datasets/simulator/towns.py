"""Towns in the world: who lives where and knows whom, and what takes place there.

Nothing here is fitted to data. What the shapes rest on, and what is only assumed, is told in docs/simulator.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twinloop.datasets.simulator.people import DAY_MS, Array
from twinloop.datasets.simulator.settings import SuggestionsSettings
from twinloop.datasets.simulator.vocabulary import TAGS
from twinloop.datasets.simulator.world import World
from twinloop.features import geography as geo

ONLINE = -1  # an event of no town
HOUR_MS = 3_600_000
_KNOWN = 100  # friends at most


class Town(NamedTuple):
    """Where people live; `share` is how many of them."""

    name: str
    lat: float
    lon: float
    zone: str
    share: float


# Both sides of the equator, the prime meridian and the date line: what is wrong about geography shows.
TOWNS = (
    Town("Berlin", 52.52, 13.405, "Europe/Berlin", 0.26),
    Town("London", 51.507, -0.128, "Europe/London", 0.24),
    Town("New York", 40.713, -74.006, "America/New_York", 0.24),
    Town("Auckland", -36.849, 174.763, "Pacific/Auckland", 0.16),
    Town("Taveuni", -16.79, 179.97, "Pacific/Fiji", 0.10),
)


@dataclass(frozen=True)
class Inhabitants:
    """Columns, one row a user.

    Attributes:
        town: int8[n]. lat, lon: float64[n], home, degrees.
        topics: The tags that each says they like; some are wrong, some left out.
        friends: Whom each knows, int64 arrays; of the same town, and more often of like taste.
        thrifty: float32[n], logits that an e-fold of the price costs.
        lazy: float32[n], logits that an e-fold of the distance costs.
    """

    town: Array
    lat: Array
    lon: Array
    topics: tuple[tuple[str, ...], ...]
    friends: tuple[Array, ...]
    thrifty: Array
    lazy: Array


@dataclass(frozen=True)
class Happenings:
    """Columns, one row an event, in the order of publication.

    Attributes:
        town: int8[n], ONLINE for none. lat, lon: float64[n], NaN online.
        starts_ms: int64[n]. hour, weekday: float64[n], local.
        price: float64[n]. capacity: float64[n], NaN where nothing limits it.
        cancelled_ms: int64[n], when it is called off; the end of time where it is not.
        appeal: float32[n], logits that everybody agrees on: its organiser's, its hour's and its own.
    """

    town: Array
    lat: Array
    lon: Array
    starts_ms: Array
    hour: Array
    weekday: Array
    price: Array
    capacity: Array
    cancelled_ms: Array
    appeal: Array


def settle(world: World, settings: SuggestionsSettings) -> Inhabitants:
    """Return everybody's home, words and friends."""
    users, rng = world.users, world.rng_of_day(-1, 2)
    count = len(users.joined_ms)
    shares = np.array([town.share for town in TOWNS])
    town = rng.choice(len(TOWNS), count, p=shares / shares.sum()).astype(np.int8)
    lat, lon = _around_towns(town, rng, spread_km=8.0)
    names = tuple(TAGS)
    topics = []
    for favourites in users.favourites[0]:
        said = {names[tag] for tag in favourites if rng.random() < 0.95}
        if rng.random() < 0.2:
            said.add(names[rng.integers(len(names))])
        topics.append(tuple(sorted(said)))
    return Inhabitants(
        town=town,
        lat=lat,
        lon=lon,
        topics=tuple(topics),
        friends=_friends(world, settings.friends, town, rng),
        thrifty=(0.45 * rng.lognormal(0, 0.3, count)).astype(np.float32),
        lazy=(1.1 * rng.lognormal(0, 0.2, count)).astype(np.float32),
    )


def _friends(world: World, friends: float, town: Array, rng: np.random.Generator) -> tuple[Array, ...]:
    """Friendship is mutual: pairs within a town, each half of them the likest of some that were met."""
    count = len(town)
    known: list[set[int]] = [set() for _ in range(count)]
    tastes = world.users.tastes[0]
    for place in range(len(TOWNS)):
        here = np.flatnonzero(town == place)
        if len(here) < 2:
            continue
        for user in here.tolist():
            for _ in range(int(rng.geometric(1 / (1 + friends / 2)) - 1)):
                met = rng.choice(here, 6)
                other = int(met[np.argmax(tastes[met] @ tastes[user])] if rng.random() < 0.7 else met[0])
                if other != user and len(known[user]) < _KNOWN and len(known[other]) < _KNOWN:
                    known[user].add(other)
                    known[other].add(user)
    return tuple(np.array(sorted(theirs), np.int64) for theirs in known)


def publish(world: World, settings: SuggestionsSettings) -> Happenings:
    """Return all events: where, when, for how much, how good."""
    items, rng = world.items, world.rng_of_day(-1, 3)
    count = len(items.published_ms)
    organisers = int(items.author.max()) + 1
    shares = np.array([town.share for town in TOWNS])
    home = rng.choice(len(TOWNS), organisers, p=shares / shares.sum()).astype(np.int8)
    town = np.where(rng.random(count) < settings.online, ONLINE, home[items.author]).astype(np.int8)
    lat, lon = _around_towns(np.maximum(town, 0), rng, spread_km=6.0)
    lat, lon = np.where(town == ONLINE, np.nan, lat), np.where(town == ONLINE, np.nan, lon)
    starts, hour, weekday = _schedule(items.published_ms, home[items.author], rng)
    free = rng.random(count) < 0.7
    price = np.where(free, 0.0, np.round(8 * rng.lognormal(0, 0.8, count), 2))
    capacity = np.where(rng.random(count) < 0.5, np.round(20 * rng.lognormal(0, 0.6, count)) + 4, np.nan)
    early = items.published_ms + rng.random(count) * (starts - items.published_ms)
    off = rng.random(count) < settings.cancelled
    evening = 0.6 * np.exp(-(((hour - 19) / 3) ** 2)) + np.where(weekday >= 5, 0.3, 0.0)
    skill = rng.normal(0, 0.6, organisers)
    return Happenings(
        town=town,
        lat=lat,
        lon=lon,
        starts_ms=starts,
        hour=hour,
        weekday=weekday,
        price=price,
        capacity=capacity,
        cancelled_ms=np.where(off, early, np.iinfo(np.int64).max / 2).astype(np.int64),
        appeal=(skill[items.author] + evening + 0.15 * rng.standard_normal(count)).astype(np.float32),
    )


def _schedule(published: Array, town: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return when events start: mostly in the evening, on weekends in the afternoon as well, there."""
    count = len(published)
    lead_days = np.clip(9 * rng.lognormal(0, 0.7, count), 1.0, 60.0)
    day = np.floor(published / DAY_MS + lead_days)
    weekday = (day + 3) % 7
    later = np.where((weekday < 5) | (rng.random(count) < 0.5), 18.9, 14.0)
    hour = np.clip(np.round(2 * (later + rng.normal(0, 1.2, count))) / 2, 7, 22.5)
    wall = (day * DAY_MS + hour * HOUR_MS).astype(np.int64)
    ahead = np.array([geo.offset_minutes(TOWNS[n].zone, int(t)) for n, t in zip(town, wall, strict=True)], np.int64)
    return wall - ahead * 60_000, hour, weekday


def _around_towns(town: Array, rng: np.random.Generator, *, spread_km: float) -> tuple[Array, Array]:
    """Draw places around towns; few are far out."""
    away = spread_km * rng.standard_normal((2, len(town))) * np.where(rng.random(len(town)) < 0.1, 3.0, 1.0)
    lat = np.array([entry.lat for entry in TOWNS])[town]
    lon = np.array([entry.lon for entry in TOWNS])[town]
    lat, lon = geo.moved(lat, lon, *away)
    return np.round(lat, 5), np.round(lon, 5)
