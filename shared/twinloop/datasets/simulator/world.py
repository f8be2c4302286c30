"""The world: people, things, and how much who likes what and when. It knows nothing of files, screens or clicks."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from twinloop.datasets.simulator.people import DAY_MS, Array, Users, make_users, unit
from twinloop.datasets.simulator.settings import WorldSettings
from twinloop.datasets.simulator.things import NO_TAG, Items, make_items
from twinloop.datasets.simulator.vocabulary import TAGS

SIZE = 16  # of the vectors of tastes and items
STRENGTH = 4.0  # logits between a taste and an item that is all of it
_USERS, _ITEMS, _TAGS, _DAYS = range(4)


class World:
    """Users and items drawn from a seed, and their affinity at a moment. All of it is a function of the settings."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        rng = self._rng(_TAGS)
        self._tags = unit(rng.standard_normal((len(TAGS), SIZE)))
        self._phases = rng.random(len(TAGS)) * 2 * np.pi

    @cached_property
    def users(self) -> Users:
        """Everybody, those who join later too."""
        return make_users(self.settings, self._tags, self._rng(_USERS))

    @cached_property
    def items(self) -> Items:
        """Everything, what is published later too."""
        return make_items(self.settings, self._tags, self._rng(_ITEMS))

    def vectors_of_tags(self, tags: Array, *, own: float, rng: np.random.Generator) -> Array:
        """Return the vectors of items that are their tags, int16[n, 2], and little else: float32[n, k], unit vectors.

        `own` is how long the part is that no tag tells, beside a main tag of length one.
        """
        main, second = tags.T
        vectors = self._tags[main] + np.where(second[:, None] == NO_TAG, 0.0, 0.5 * self._tags[second])
        vectors += rng.standard_normal(vectors.shape) * (own / np.sqrt(SIZE))
        return unit(vectors).astype(np.float32)

    def tastes_of_tags(self, favourites: Array, *, own: float, rng: np.random.Generator) -> Array:
        """Return tastes for which favourite tags, int16[2, n, m], count alike: float32[2, n, k]; `own` as above."""
        liked = self._tags[favourites].mean(axis=2)
        return unit(liked + rng.standard_normal(liked.shape) * (own / np.sqrt(SIZE))).astype(np.float32)

    def rng_of_day(self, day: int, part: int = 0) -> np.random.Generator:
        """Return the random numbers of a day, the same whatever was drawn before."""
        return self._rng(_DAYS, day + 1, part)

    def affinity(self, users: Array, items: Array, day: float) -> Array:
        """Return how much each user (int[n]) likes the item (int[n]) beside: logits, float32[n], about 0 on average.

        A taste turns from the user's first towards the second and on, and is between them on the way.
        """
        angle = 2 * np.pi * day / self.settings.taste_turn_days
        first, second = self.users.tastes
        liked = np.einsum("nk,nk->n", first[users], self.items.vectors[items]) * np.float32(np.cos(angle))
        liked += np.einsum("nk,nk->n", second[users], self.items.vectors[items]) * np.float32(np.sin(angle))
        return np.asarray(liked * np.float32(STRENGTH))

    def second_taste_share(self, day: float) -> float:
        """Return how much of what users want is of their second taste."""
        return float(np.sin(2 * np.pi * day / self.settings.taste_turn_days) ** 2)

    def fashion(self, day: float) -> Array:
        """Return what fashion adds to each tag, logits; all 0 on day 0, and always where no drift was asked for."""
        turn = 2 * np.pi * day / self.settings.season_days
        return self.settings.drift * (np.sin(turn + self._phases) - np.sin(self._phases))

    def fashion_of_items(self, items: Array | slice, day: float) -> Array:
        """Return what fashion adds to items, logits: the mean over their tags."""
        by_tag = np.append(self.fashion(day), 0.0)  # the last one is that of no tag
        main, second = self.items.tags[items].T
        both = np.where(second == NO_TAG, 1, 2)
        return np.asarray((by_tag[main] + by_tag[second]) / both)

    def day_of(self, time_ms: int) -> float:
        """Return how many days a moment is after the start."""
        return (time_ms - self.settings.start_ms) / DAY_MS

    def is_cold_user(self, users: Array) -> Array:
        """Return who joined while it lasts."""
        return np.asarray(self.users.joined_ms[users] >= self.settings.start_ms)

    def is_cold_item(self, items: Array) -> Array:
        """Return what was published while it lasts."""
        return np.asarray(self.items.published_ms[items] >= self.settings.start_ms)

    def _rng(self, *path: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.settings.seed, spawn_key=path)))
