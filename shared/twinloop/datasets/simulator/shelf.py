"""What is shown: lists drawn by fame, by tags that a user likes, and at random, without what was shown lately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinloop.datasets.simulator.people import DAY_MS, FAVOURITES, Array
from twinloop.datasets.simulator.settings import ApplicationSettings
from twinloop.datasets.simulator.visits import Requests
from twinloop.datasets.simulator.vocabulary import TAGS
from twinloop.datasets.simulator.world import World

NOTHING = -1
REMEMBERED = 64  # impressions of a user
_TRIES = 4
_BY_TASTE = 0.5  # of the places that are not explored
_NEW_BOOST, _NEW_DAYS = 3.0, 2.0
_GUESS_NOISE = 1.2  # logits: how little the order of a list knows of the user


@dataclass(frozen=True)
class Lists:
    """What was shown: item int64[requests, slots], NOTHING where a list is shorter, and what users feel about it."""

    item: Array
    affinity: Array


class Shelf:
    """The application's own choice of what to show. It is no recommender, and leaves much to be learned.

    Args:
        world: Whose people and things.
        settings: How it chooses.
        remembered: Impressions of a user that are not shown again, at most a quarter of the items; 0 forgets all.
    """

    def __init__(self, world: World, settings: ApplicationSettings, remembered: int = REMEMBERED) -> None:
        self._world, self._settings = world, settings
        items = world.items
        self._by_tag = np.argsort(items.tags[:, 0], kind="stable")
        self._tag_ends = np.cumsum(np.bincount(items.tags[:, 0], minlength=len(TAGS)))
        length = min(remembered, world.settings.items // 4)
        self._seen = np.full((world.settings.users, length), NOTHING, np.int32)
        self._next = np.zeros(world.settings.users, np.int32)

    def open_day(self, day: int) -> None:
        """Weigh the items for a day: fame, a boost for what is new, and fashion."""
        world, items = self._world, self._world.items
        begins = world.settings.start_ms + day * DAY_MS
        age = np.maximum(begins - items.published_ms, 0) / DAY_MS
        weights = items.fame * (1 + _NEW_BOOST * np.exp(-age / _NEW_DAYS))
        weights *= np.exp(world.fashion_of_items(slice(None), day))
        weights[items.published_ms >= begins + DAY_MS] = 0
        self._there = max(1, int(np.searchsorted(items.published_ms, begins + DAY_MS)))
        self._fame = np.cumsum(weights)
        self._in_tag = np.concatenate([[0.0], np.cumsum(weights[self._by_tag])])
        self._day = day

    def lists(self, requests: Requests, rng: np.random.Generator) -> Lists:
        """Draw a list for each request. Requests are in the order of time."""
        slots = self._settings.slots
        item = np.full((len(requests), slots), NOTHING, np.int64)
        for rows in _turns(requests.user):
            item[rows] = self._drawn(requests.user[rows], requests.time_ms[rows], rng)
            self._remember(requests.user[rows], item[rows])
        users = np.repeat(requests.user, slots)
        day = self._day + 0.5
        affinity = self._world.affinity(users, item.ravel().clip(min=0), day).reshape(item.shape)
        guess = rng.standard_normal(item.shape) * _GUESS_NOISE
        guess += np.where(rng.random(len(item)) < self._settings.ranked, 1, 0)[:, None] * affinity
        guess[item == NOTHING] = -np.inf
        order = np.argsort(-guess, axis=1, kind="stable")
        return Lists(np.take_along_axis(item, order, 1), np.take_along_axis(affinity, order, 1))

    def _drawn(self, users: Array, times: Array, rng: np.random.Generator) -> Array:
        shape = (len(users), self._settings.slots)
        item = self._draw(np.repeat(users, shape[1]), rng).reshape(shape)
        for _ in range(_TRIES):
            bad = self._unfit(item, users, times)
            if not bad.any():
                return item
            item[bad] = self._draw(np.repeat(users, bad.sum(1)), rng)
        item[self._unfit(item, users, times)] = NOTHING
        return item

    def _draw(self, users: Array, rng: np.random.Generator) -> Array:
        """Draw an item for each user (int[n])."""
        count = len(users)
        way, place = rng.random(count), rng.random(count)
        item = np.searchsorted(self._fame, place * self._fame[-1], side="right")
        turn = (rng.random(count) < self._world.second_taste_share(self._day)).astype(np.int64)
        tag = self._world.users.favourites[turn, users, rng.integers(0, FAVOURITES, count)]
        ends = self._in_tag[self._tag_ends]
        low, high = np.append(0.0, ends)[tag], ends[tag]
        in_tag = np.searchsorted(self._in_tag, low + place * (high - low), side="right") - 1
        by_taste = (way < _BY_TASTE) & (high > low)
        item = np.where(by_taste, self._by_tag[in_tag.clip(max=len(self._by_tag) - 1)], item)
        explored = rng.random(count) < self._settings.exploring
        item = np.where(explored, rng.integers(0, self._there, count), item)
        return item.clip(max=self._there - 1)

    def _unfit(self, item: Array, users: Array, times: Array) -> Array:
        """Return which places hold what is not there yet, was shown to the user lately, or is in the list before."""
        order = np.argsort(item, axis=1, kind="stable")
        ordered = np.take_along_axis(item, order, 1)
        again = np.zeros(item.shape, bool)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
        again |= (item[:, :, None] == self._seen[users][:, None, :]).any(-1)
        return np.asarray(again | (self._world.items.published_ms[item] > times[:, None]))

    def _remember(self, users: Array, item: Array) -> None:
        length, slots = self._seen.shape[1], item.shape[1]
        if not length:
            return
        places = (self._next[users][:, None] + np.arange(slots)) % length
        self._seen[users[:, None], places] = item
        self._next[users] = (self._next[users] + slots) % length


def _turns(users: Array) -> list[Array]:
    """Cut rows so that nobody is twice in a part: first everybody's first row, then everybody's second, ..."""
    order = np.argsort(users, kind="stable")
    ordered = users[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(users) else np.empty(0, bool)
    starts = np.flatnonzero(first)
    number = np.empty(len(users), np.int64)
    number[order] = np.arange(len(users)) - np.repeat(starts, np.diff(np.append(starts, len(users))))
    by_number = np.argsort(number, kind="stable")
    return np.split(by_number, np.cumsum(np.bincount(number))[:-1]) if len(users) else []
