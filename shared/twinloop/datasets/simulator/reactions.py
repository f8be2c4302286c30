"""What people do with what they are shown, and how likely it was: the truth that no model is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinloop.datasets.simulator.people import Array
from twinloop.datasets.simulator.settings import ApplicationSettings
from twinloop.datasets.simulator.things import MEDIAN_SECONDS
from twinloop.datasets.simulator.vocabulary import LIKES_LENGTH
from twinloop.datasets.simulator.world import World

_LIKES, _HIDES = 0.12, 0.01
_ROUNDS = 40  # of a bisection


@dataclass(frozen=True)
class Impressions:
    """Columns, a row each thing that was shown to somebody.

    `request` counts from 0; `position` from 0; `affinity` in logits; `day` is when, in days after the start.
    """

    request: Array
    position: Array
    user: Array
    item: Array
    time_ms: Array
    device: Array
    affinity: Array
    day: float


@dataclass(frozen=True)
class Truth:
    """Of each impression, how likely each outcome was.

    Attributes:
        p_seen: Looked at, at its position.
        p_click: Clicked: seen, and attractive enough.
        p_long_view: Clicked and at least half of it watched.
        watch_s: Expected seconds, 0 for what is not clicked included.
    """

    p_seen: Array
    p_click: Array
    p_long_view: Array
    watch_s: Array


@dataclass(frozen=True)
class Outcomes:
    """Of each impression, what came of it; `watch_ms` is 0 where nobody clicked, times are 0 where nothing happened."""

    clicked: Array
    watch_ms: Array
    long_view: Array
    liked: Array
    hidden: Array
    click_time: Array
    end_time: Array


class Reactions:
    """How an application's people react to impressions."""

    def __init__(self, world: World, settings: ApplicationSettings) -> None:
        self._world, self._settings = world, settings
        self._lengths = np.log(world.items.duration_s / MEDIAN_SECONDS).astype(np.float32)
        self._bias = 0.0

    def calibrate(self, shown: Impressions) -> None:
        """Set the general willingness to click so that these are clicked at the rate of the settings.

        Where positions are looked at too rarely for that rate, everybody clicks on nearly all that they see.
        """
        seen, logits = self._seen(shown), self._attraction(shown) - self._bias
        low, high = -20.0, 20.0
        for _ in range(_ROUNDS):
            self._bias = (low + high) / 2
            if float((seen * _sigmoid(logits + self._bias)).mean()) < self._settings.click_rate:
                low = self._bias
            else:
                high = self._bias

    def truth(self, shown: Impressions) -> Truth:
        """Return how likely everything is.

        Looking does not depend on what is there, and what is looked at is judged without its place (the examination
        hypothesis: Richardson, Dominowska and Ragno, WWW 2007). Long videos are watched longer, and less to their end.
        """
        seen = self._seen(shown)
        click = seen * _sigmoid(self._attraction(shown))
        stays = self._stays(shown)
        expected = click * self._world.items.duration_s[shown.item] * (1 / 6 + 2 / 3 * stays)
        return Truth(seen, click, click * stays, expected)

    def outcomes(self, shown: Impressions, truth: Truth, rng: np.random.Generator) -> Outcomes:
        """Draw what happens."""
        draw = rng.random((6, len(shown.item)))
        clicked = draw[0] < truth.p_click
        long_view = clicked & (draw[1] < self._stays(shown))
        # Of who stays, the missing part is V^2 / 2, of who leaves, the watched one: means 5/6 and 1/6.
        part = draw[2] ** 2 / 2
        length = self._world.items.duration_s[shown.item] * 1000
        watched = np.where(long_view, np.ceil(length * (1 - part)), np.floor(length * part))
        watch_ms = np.where(clicked, watched, 0).astype(np.int64)
        liked = long_view & (draw[3] < _LIKES)
        hidden = ~clicked & (draw[4] < _HIDES)
        until = shown.time_ms + ((shown.position + 1) * (500 + 2000 * draw[5])).astype(np.int64)
        return Outcomes(clicked, watch_ms, long_view, liked, hidden, until, until + watch_ms)

    def _seen(self, shown: Impressions) -> Array:
        return (1.0 + shown.position) ** -self._settings.position_bias

    def _attraction(self, shown: Impressions) -> Array:
        world = self._world
        taste = self._bias + shown.affinity + world.items.quality[shown.item] + self._by_length(shown)
        return np.asarray(taste + world.fashion_of_items(shown.item, shown.day))

    def _by_length(self, shown: Impressions) -> Array:
        return np.array(LIKES_LENGTH)[shown.device] * self._lengths[shown.item]

    def _stays(self, shown: Impressions) -> Array:
        """Return how likely it is that who clicks watches half of it or more."""
        liked = 0.8 * (shown.affinity + self._world.items.quality[shown.item]) + self._by_length(shown)
        return _sigmoid(liked - 0.7 * self._lengths[shown.item] - 1.2)


def _sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, np.float64))))
