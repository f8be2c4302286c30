"""A video application in the world: a stream of events in pieces, with the truth of every impression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from twinloop.datasets.simulator.people import Array
from twinloop.datasets.simulator.reactions import Impressions, Outcomes, Reactions, Truth
from twinloop.datasets.simulator.settings import ApplicationSettings, WorldSettings, fingerprint
from twinloop.datasets.simulator.shelf import NOTHING, REMEMBERED, Shelf
from twinloop.datasets.simulator.visits import Requests, requests_of_day, weight_of_day
from twinloop.datasets.simulator.vocabulary import DEVICES
from twinloop.datasets.simulator.world import World

TYPES = ("impression", "click", "watch", "like", "hide")
_PILOT, _PIECE = 2_000, 16_384  # requests at once


@dataclass(frozen=True)
class Events:
    """Columns in the order of time, a row each event.

    `number` counts all events from 0, and `request` all requests; `type` is a place in TYPES; `duration_s` and
    `watch_s` are NaN where the event is no watch.
    """

    number: Array
    type: Array
    time_ms: Array
    user: Array
    item: Array
    request: Array
    position: Array
    device: Array
    watch_s: Array
    duration_s: Array


@dataclass(frozen=True)
class Piece:
    """Some events, and of the impressions among them (`number`: their events) what came of them and how likely."""

    events: Events
    number: Array
    shown: Impressions
    truth: Truth
    outcomes: Outcomes


class VideoApplication:
    """People of a world watch its items. Deterministic: the same settings give the same stream.

    Another application is this one with other `types` of events, of which the first shows an item, and other reasons
    for them (`followed`).

    Attributes:
        types: What events there are.
        remembered: Impressions of a user that are not shown again.
        after_click: Events that a click brings about, itself included; a first guess, for the number of requests.
    """

    types: tuple[str, ...] = TYPES
    remembered = REMEMBERED
    after_click = 2.2

    def __init__(self, world: WorldSettings, settings: ApplicationSettings) -> None:
        self.world, self.settings = World(world), settings
        self.mark = fingerprint(world, settings)

    @cached_property
    def reactions(self) -> Reactions:
        """How people react, at the click rate of the settings: found out on lists of day 0 that do not count."""
        reactions, shelf = Reactions(self.world, self.settings), self._shelf()
        rng = self.world.rng_of_day(-1)
        shelf.open_day(0)
        requests = requests_of_day(self.world, 0, _PILOT, len(DEVICES), rng)
        shown = self._shown(shelf, requests, 0, 0, rng)
        if len(shown.item):
            reactions.calibrate(shown)
        return reactions

    def pieces(self) -> Iterator[Piece]:
        """Yield the stream, in memory that does not depend on its length."""
        world, shelf, reactions = self.world, self._shelf(), self.reactions
        days = range(world.settings.days)
        to_come = sum(weight_of_day(world, day) for day in days)
        events, requests, rate = 0, 0, self.settings.slots * (1 + self.after_click * self.settings.click_rate)
        for day in days:
            shelf.open_day(day)
            weight = weight_of_day(world, day)
            wanted = round((self.settings.events - events) * weight / to_come / rate)
            to_come -= weight
            visits = requests_of_day(world, day, max(0, wanted), len(DEVICES), world.rng_of_day(day))
            rng = world.rng_of_day(day, 1)
            for first in range(0, len(visits), _PIECE):
                part = visits.part(slice(first, first + _PIECE))
                piece = self._piece(self._shown(shelf, part, requests, day, rng), reactions, events, rng)
                requests += len(part)
                events += len(piece.events.number)
                if len(piece.events.number):
                    yield piece
            rate = events / requests if requests and events else rate

    def followed(self, outcomes: Outcomes, rng: np.random.Generator) -> tuple[tuple[Array, Array], ...]:
        """Return after which impressions something happened, and when, for each of the types but the first."""
        del rng
        return (
            (outcomes.clicked, outcomes.click_time),
            (outcomes.clicked, outcomes.end_time),
            (outcomes.liked, outcomes.end_time + 500),
            (outcomes.hidden, outcomes.click_time),
        )

    def _shelf(self) -> Shelf:
        return Shelf(self.world, self.settings, self.remembered)

    def _shown(self, shelf: Shelf, requests: Requests, first: int, day: int, rng: np.random.Generator) -> Impressions:
        lists = shelf.lists(requests, rng)
        row, position = np.nonzero(lists.item != NOTHING)
        return Impressions(
            request=row + first,
            position=position,
            user=requests.user[row],
            item=lists.item[row, position],
            time_ms=requests.time_ms[row],
            device=requests.device[row],
            affinity=lists.affinity[row, position],
            day=day + 0.5,
        )

    def _piece(self, shown: Impressions, reactions: Reactions, first: int, rng: np.random.Generator) -> Piece:
        truth = reactions.truth(shown)
        outcomes = reactions.outcomes(shown, truth, rng)
        happened = [
            (np.arange(len(shown.item)), shown.time_ms),
            *((np.flatnonzero(which), when) for which, when in self.followed(outcomes, rng)),
        ]
        row = np.concatenate([rows for rows, _ in happened])
        time_ms = np.concatenate([times[rows] for rows, times in happened])
        kind = np.repeat(np.arange(len(self.types), dtype=np.int8), [len(rows) for rows, _ in happened])
        order = np.lexsort((kind, shown.position[row], time_ms))
        row, time_ms, kind = row[order], time_ms[order], kind[order]
        watched = kind == TYPES.index("watch")  # none, where an application has fewer types
        events = Events(
            number=np.arange(first, first + len(row)),
            type=kind,
            time_ms=time_ms,
            user=shown.user[row],
            item=shown.item[row],
            request=shown.request[row],
            position=shown.position[row],
            device=shown.device[row],
            watch_s=np.where(watched, outcomes.watch_ms[row] / 1000, np.nan),
            duration_s=np.where(watched, self.world.items.duration_s[shown.item[row]], np.nan),
        )
        number = np.empty(len(shown.item), np.int64)
        is_impression = kind == 0
        number[row[is_impression]] = events.number[is_impression]
        return Piece(events, number, shown, truth, outcomes)
