"""When who comes: sessions over the day and the week, each of several requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinloop.datasets.simulator.people import DAY_MS, Array
from twinloop.datasets.simulator.world import World

REQUESTS_A_SESSION = 3.0
_WEEK = (1.0, 0.95, 0.95, 1.0, 1.1, 1.3, 1.3)  # from Monday
_SPREAD_HOURS = 2.5
_GAP_MS = 60_000.0
_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Requests:
    """Columns in the order of time: user int64[n], time_ms int64[n], device int8[n]."""

    user: Array
    time_ms: Array
    device: Array

    def __len__(self) -> int:
        return len(self.user)

    def part(self, rows: slice) -> Requests:
        """Return some of them."""
        return Requests(self.user[rows], self.time_ms[rows], self.device[rows])


def weight_of_day(world: World, day: int) -> float:
    """Return how busy a day is, relative to the others."""
    return _WEEK[(world.settings.start.weekday() + day) % 7]


def requests_of_day(world: World, day: int, count: int, devices: int, rng: np.random.Generator) -> Requests:
    """Return a day's requests, `count` where anybody is there at all.

    Who joins on a day comes on that day, unless that would be more than half of its sessions.
    """
    users = world.users
    begins = world.settings.start_ms + day * DAY_MS
    there = int(np.searchsorted(users.joined_ms, begins + DAY_MS))
    sessions = int(np.ceil(count / REQUESTS_A_SESSION))
    if not there or not sessions:
        nothing = np.empty(0, np.int64)
        return Requests(nothing, nothing, nothing.astype(np.int8))
    new = np.arange(np.searchsorted(users.joined_ms, begins), there)[: sessions // 2]
    drawn = np.searchsorted(np.cumsum(users.activity[:there]), rng.random(sessions) * users.activity[:there].sum())
    who = np.concatenate([new, drawn.clip(max=there - 1)])
    hours = (users.hour[who] + rng.normal(0, _SPREAD_HOURS, len(who))) % 24
    start = np.maximum(begins + (hours * _HOUR_MS).astype(np.int64), users.joined_ms[who] + 1000)
    lengths = rng.geometric(1 / REQUESTS_A_SESSION, len(who))
    order = rng.permutation(len(who) - len(new)) + len(new)
    order = np.concatenate([np.arange(len(new)), order])  # those who are new do not fall off the end
    user = np.repeat(who[order], lengths[order])
    first = np.repeat(np.cumsum(lengths[order]) - lengths[order], lengths[order])
    gaps = np.cumsum(10_000 + rng.exponential(_GAP_MS, len(user)))
    time_ms = np.repeat(start[order], lengths[order]) + (gaps - gaps[first]).astype(np.int64)
    other = rng.random(len(who)) < 0.15  # now and then somebody is elsewhere
    device = np.where(other, rng.integers(0, devices, len(who)), users.device[who])
    device = np.repeat(device[order], lengths[order])
    user, time_ms, device = user[:count], time_ms[:count], device[:count].astype(np.int8)
    place = np.argsort(time_ms, kind="stable")
    return Requests(user[place], time_ms[place], device[place])
