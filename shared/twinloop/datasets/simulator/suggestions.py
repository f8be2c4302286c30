"""Events that people of towns may go to: who is shown which, who says yes, and how likely it was.

Nothing here is fitted to data. What the shapes rest on, and what is only assumed, is told in docs/simulator.md.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from twinloop.datasets.simulator.people import DAY_MS, Array
from twinloop.datasets.simulator.settings import SuggestionsSettings, WorldSettings, fingerprint
from twinloop.datasets.simulator.towns import HOUR_MS, TOWNS, Happenings, Inhabitants, publish, settle
from twinloop.datasets.simulator.visits import Requests, requests_of_day, weight_of_day
from twinloop.datasets.simulator.vocabulary import DEVICES
from twinloop.datasets.simulator.world import World
from twinloop.features import geography as geo

TYPES = ("view", "rsvp", "decline", "withdraw", "cancel")
VIEW, RSVP, DECLINE, WITHDRAW, CANCEL = range(len(TYPES))
NOBODY = -1  # no request, no place in a list
_EARLY_DAYS = 14.0  # events were published so long before the first day, too
_REMEMBERED = 200  # views of a user that are not shown again
_NOWHERE: tuple[float, float] = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Events:
    """Columns in the order of time; `number` counts all from 0, `request` and `position` are NOBODY where none is."""

    number: Array
    type: Array
    time_ms: Array
    user: Array
    item: Array
    request: Array
    position: Array
    device: Array
    lat: Array
    lon: Array


@dataclass(frozen=True)
class Shown:
    """Of the views of a piece (`number`: their events) what came of them and how likely it was."""

    number: Array
    time_ms: Array
    user: Array
    item: Array
    request: Array
    position: Array
    rsvp: Array
    p_seen: Array
    p_rsvp: Array


@dataclass(frozen=True)
class Piece:
    """The events of a day."""

    events: Events
    shown: Shown


class SuggestionsApplication:
    """People of a world see upcoming events near them, and say yes to some. The same settings give the same stream."""

    types = TYPES

    def __init__(self, world: WorldSettings, settings: SuggestionsSettings) -> None:
        self.world, self.settings = World(world), settings
        span = (world.days + _EARLY_DAYS) * DAY_MS
        published = np.sort(self.world.rng_of_day(-1, 1).random(world.items)) * span
        begin = world.start_ms - _EARLY_DAYS * DAY_MS
        # Nothing lasts: all of it is published around the time that is simulated. And what is done at an event is in
        # its topics, where a video of the same topics may be anything.
        self.world.items = replace(
            self.world.items,
            published_ms=(begin + published).astype(np.int64),
            vectors=self.world.vectors_of_tags(self.world.items.tags, own=0.2, rng=self.world.rng_of_day(-1, 5)),
        )
        # Whoever picked topics to hear of likes each of them.
        users = self.world.users
        tastes = self.world.tastes_of_tags(users.favourites, own=0.1, rng=self.world.rng_of_day(-1, 6))
        self.world.users = replace(users, tastes=tastes)
        self.mark = fingerprint(world, settings)

    @cached_property
    def people(self) -> Inhabitants:
        """Everybody's home, words and friends."""
        return settle(self.world, self.settings)

    @cached_property
    def happenings(self) -> Happenings:
        """All events: where, when, for how much, how good."""
        return publish(self.world, self.settings)

    def pieces(self) -> Iterator[Piece]:
        """Yield the stream, a day at a time."""
        world, state = self.world, _State(self)
        days = range(world.settings.days)
        to_come = sum(weight_of_day(world, day) for day in days)
        events, requests, rate = 0, 0, self.settings.slots * (1 + 1.2 * self.settings.click_rate)
        for day in days:
            weight = weight_of_day(world, day)
            wanted = round((self.settings.events - events) * weight / to_come / rate)
            to_come -= weight
            visits = requests_of_day(world, day, max(0, wanted), len(DEVICES), world.rng_of_day(day))
            rows = state.day(day, visits, requests)
            requests += len(visits)
            if rows:
                yield _piece(rows, events)
                events += len(rows)
            rate = max(events / requests if requests else rate, 1.0)


class _Row(NamedTuple):
    time_ms: int
    type: int
    user: int
    item: int
    request: int
    position: int
    device: int
    lat: float
    lon: float
    p_seen: float
    p_rsvp: float
    rsvp: bool


class _State:
    """What changes from request to request: who comes, who asked whom, what is to happen still."""

    def __init__(self, application: SuggestionsApplication) -> None:
        self.app, self.settings = application, application.settings
        self.people, self.events = application.people, application.happenings
        self.going: defaultdict[int, set[int]] = defaultdict(set)
        self.answered: defaultdict[int, set[int]] = defaultdict(set)
        self.seen: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self.with_organiser: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.pending: list[tuple[int, int, _Row]] = []
        self._serial = 0
        self._constant: float | None = None
        for item in np.flatnonzero(self.events.cancelled_ms < np.iinfo(np.int64).max // 4).tolist():
            when = int(self.events.cancelled_ms[item])
            if when >= application.world.settings.start_ms:
                organiser = int(application.world.items.author[item])
                self._expect(_Row(when, CANCEL, -2 - organiser, item, NOBODY, NOBODY, 0, *_NOWHERE, 0, 0, False))

    def day(self, day: int, visits: Requests, first: int) -> list[_Row]:
        """Return a day's events in the order of time."""
        rng, world = self.app.world.rng_of_day(day, 1), self.app.world
        if self._constant is None:
            self._constant = self._calibrated(day, visits)
        rows: list[_Row] = []
        for number, (user, at, device) in enumerate(
            zip(visits.user.tolist(), visits.time_ms.tolist(), visits.device.tolist(), strict=True)
        ):
            rows += self._due(at)
            place, told = self._place(user, rng)
            shown = self._list(user, place, at, day + 0.5, rng)
            if not len(shown):
                continue
            self.seen[user].extend(shown.tolist())
            logits = self._logits(user, shown, place, at, day + 0.5) + self._constant
            accepted = 1 / (1 + np.exp(-logits))
            p_seen = (1.0 + np.arange(len(shown))) ** -self.settings.position_bias
            seen = rng.random(len(shown)) < p_seen
            yes = seen & (rng.random(len(shown)) < accepted)
            no = seen & ~yes & (rng.random(len(shown)) < 0.03)
            where = place if told else _NOWHERE
            for position, item in enumerate(shown.tolist()):
                chances = (float(p_seen[position]), float(p_seen[position] * accepted[position]))
                about = (user, item, first + number, position, device)
                rows.append(_Row(at, VIEW, *about, *where, *chances, bool(yes[position])))
                if yes[position] or no[position]:
                    kind = RSVP if yes[position] else DECLINE
                    later = at + int(3_000 + rng.exponential(60_000))
                    self._expect(_Row(later, kind, *about, *where, 0, 0, False))
                    if kind == RSVP and rng.random() < self.settings.withdrawn:
                        back = later + int(rng.random() * max(self.events.starts_ms[item] - later, 1))
                        self._expect(_Row(back, WITHDRAW, user, item, NOBODY, NOBODY, device, *where, 0, 0, False))
        end = world.settings.start_ms + (day + 1) * DAY_MS
        rows += self._due(max(end, rows[-1].time_ms if rows else end))
        return sorted(rows, key=lambda row: row.time_ms)

    def _expect(self, row: _Row) -> None:
        self._serial += 1
        heapq.heappush(self.pending, (row.time_ms, self._serial, row))

    def _due(self, at: int) -> list[_Row]:
        """Let happen what was to happen before a moment."""
        rows = []
        author = self.app.world.items.author
        while self.pending and self.pending[0][0] < at:
            row = heapq.heappop(self.pending)[2]
            if row.type == RSVP:
                self.going[row.item].add(row.user)
                self.with_organiser[row.user, int(author[row.item])] += 1
            elif row.type == WITHDRAW:
                self.going[row.item].discard(row.user)
            if row.type in (RSVP, DECLINE):
                self.answered[row.user].add(row.item)
            rows.append(row)
        return rows

    def _place(self, user: int, rng: np.random.Generator) -> tuple[tuple[float, float], bool]:
        """Return where somebody is, and whether the application knows: some are in another town, some do not tell."""
        drawn = rng.random()
        if drawn < self.settings.travelling:
            town = TOWNS[rng.integers(len(TOWNS))]
            lat, lon = geo.moved(town.lat, town.lon, *rng.normal(0, 3.0, 2))
            return (round(float(lat), 5), round(float(lon), 5)), True
        told = drawn < self.settings.travelling + 0.6
        return (float(self.people.lat[user]), float(self.people.lon[user])), told

    def _list(self, user: int, place: tuple[float, float], at: int, day: float, rng: np.random.Generator) -> Array:
        """Return what is shown: what can be gone to, by chance, by nearness and fame, or by favourite topics."""
        events, items = self.events, self.app.world.items
        last = int(np.searchsorted(items.published_ms, at, side="right"))
        open_ = (events.starts_ms[:last] > at) & (events.cancelled_ms[:last] > at)
        candidates = np.flatnonzero(open_)
        km = geo.distance_km(*place, events.lat[candidates], events.lon[candidates])
        candidates = candidates[~(km > self.settings.reach_km)]
        before = self.answered[user].union(self.seen[user])
        full = events.capacity
        candidates = np.array(
            [n for n in candidates.tolist() if n not in before and not len(self.going[n]) >= full[n]], np.int64
        )
        if not len(candidates):
            return candidates
        near = geo.distance_km(*place, events.lat[candidates], events.lon[candidates])
        fame = np.log1p([len(self.going[n]) for n in candidates.tolist()]) - np.log1p(np.nan_to_num(near, nan=10.0) / 3)
        liked = self.app.world.affinity(np.full(len(candidates), user), candidates, day)
        count = min(self.settings.slots, len(candidates))
        noise = rng.gumbel(size=len(candidates))  # the greatest of what is drawn so are a draw without replacement
        explored = rng.random(len(candidates)) < self.settings.exploring
        worth = np.where(explored, 0.0, 0.8 * fame + 0.4 * liked) + noise
        chosen = candidates[np.argsort(-worth, kind="stable")[:count]]
        if rng.random() < self.settings.ranked:
            return chosen
        return np.asarray(rng.permutation(chosen))

    def _logits(self, user: int, shown: Array, place: tuple[float, float], at: int, day: float) -> Array:
        """Return how likely somebody says yes to each event if they look at it, but for a constant: logits."""
        events, items, people = self.events, self.app.world.items, self.people
        km = geo.distance_km(*place, events.lat[shown], events.lon[shown])
        far = np.log1p(np.nan_to_num(km, nan=6.0) / 3)  # what is online costs as much as what is six km away
        hours = (events.starts_ms[shown] - at) / HOUR_MS
        friends = frozenset(people.friends[user].tolist())
        comes = [len(friends & self.going[n]) for n in shown.tolist()]
        going = np.array([len(self.going[n]) for n in shown.tolist()])
        known = [self.with_organiser[user, int(a)] for a in items.author[shown]]
        return np.asarray(
            0.5 * self.app.world.affinity(np.full(len(shown), user), shown, day)
            + events.appeal[shown]
            - people.lazy[user] * far
            - people.thrifty[user] * np.log1p(events.price[shown])
            - 0.45 * np.abs(np.log(np.maximum(hours, 0.5) / 48))
            + 1.1 * np.log1p(comes)
            + 0.15 * np.log1p(going)
            + 0.5 * np.log1p(np.minimum(known, 4))
            - np.where(hours < geo.travel_minutes(np.nan_to_num(km), events.hour[shown]) / 60, 2.0, 0.0),
            np.float64,
        )

    def _calibrated(self, day: int, visits: Requests) -> float:
        """Return the constant by which so many say yes, on lists of the first day that do not count."""
        rng = self.app.world.rng_of_day(-1, 4)
        logits: list[Array] = [np.zeros(0)]
        seen: list[Array] = [np.zeros(0)]
        for user, at in list(zip(visits.user.tolist(), visits.time_ms.tolist(), strict=True))[:400]:
            place, _ = self._place(user, rng)
            shown = self._list(user, place, at, day + 0.5, rng)
            logits.append(self._logits(user, shown, place, at, day + 0.5))
            seen.append((1.0 + np.arange(len(shown))) ** -self.settings.position_bias)
        all_logits, all_seen = np.concatenate(logits), np.concatenate(seen)
        if not len(all_logits):
            return 0.0
        low, high = -20.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            rate = float((all_seen / (1 + np.exp(-(all_logits + middle)))).mean())
            low, high = (low, middle) if rate > self.settings.click_rate else (middle, high)
        return (low + high) / 2


def _piece(rows: list[_Row], first: int) -> Piece:
    columns = {name: np.array(values) for name, values in zip(_Row._fields, zip(*rows, strict=True), strict=True)}
    number = np.arange(first, first + len(rows))
    view = columns["type"] == VIEW
    told = {name: columns[name] for name in ("time_ms", "user", "item", "request", "position")}
    more = {name: columns[name] for name in ("type", "device", "lat", "lon")}
    truth = {name: columns[name][view] for name in ("rsvp", "p_seen", "p_rsvp")}
    shown = Shown(number=number[view], **{name: values[view] for name, values in told.items()}, **truth)
    return Piece(Events(number=number, **told, **more), shown)
