"""How tastes are fitted: logistic regression on cosines of learnt vectors, given what else is known of each row.

log-odds = what else is known + place + strength x cosine(person, event) + the organiser's effect. Penalties are normal
priors: topics are centred at right angles to each other (nothing has to do with anything until lists say so),
organisers at 0. A row must not find its own answer in its columns, so each is told what the other lists say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize

from twinloop.systems.suggestions.tastes import Floats, Tastes, event_weights, lengths

MOST_TOPICS = 300
MOST_ORGANIZERS = 100_000
_SIZE = 32  # of a topic's vector, at most
_BLOCKS = 5
_TOPIC_PRIOR = 20.0  # precision of a coordinate around where it starts
_ORGANIZER_PRIOR = 5.0  # likewise of an effect around 0: a standard deviation of .45 logits
_STEPS = 80
_TOGETHER = 32_768
_STRENGTH, _LATER = 1.0, 0.5  # where the fit begins
_SCALARS = 4  # bias, place, strength, later

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Rows of lists to learn tastes from.

    Attributes:
        liked: Of each row, what the user likes. topics: What the event is about, the main topic first.
        organizers: Whose event it is; None where nobody told.
        yes: float64[N], 1 or 0.
        offset: float64[N], what else is known of the row says, logits.
        places: float64[N], log(1 + the place in the list).
        lists: int64[N], the number of the list of each row.
    """

    liked: Sequence[Collection[str]]
    topics: Sequence[Sequence[str]]
    organizers: Sequence[str | None]
    yes: Floats
    offset: Floats
    places: Floats
    lists: Ints


@dataclass(frozen=True)
class Told:
    """Columns of rows, float64[N]; see `Tastes.of` and `Tastes.effects`."""

    taste: Floats
    effect: Floats


def fit(answers: Answers) -> tuple[Tastes, Told]:
    """Return tastes, and of each row what the other fifths of the lists say of it, which is what models learn from."""
    problem = _Problem(answers)
    everybody, block = np.ones(len(answers.yes), np.bool_), answers.lists % _BLOCKS
    taste, effect = np.zeros((2, len(answers.yes)))
    for number in range(_BLOCKS):
        rows = block == number
        fitted = problem.fit(everybody & ~rows)
        if rows.any() and fitted is not None:
            taste[rows], effect[rows] = (column[rows] for column in problem.columns(fitted))
    found = problem.fit(everybody)
    return (Tastes() if found is None else problem.tastes(found)), Told(taste, effect)


class _Problem:
    """The rows as numbers: which different taste and event each has, and what those are made of."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.names = _most(topic for of in (*answers.topics, *answers.liked) for topic in set(of))[:MOST_TOPICS]
        self.names = tuple(sorted(self.names))
        place = {name: column for column, name in enumerate(self.names)}
        self._person, people = _distinct(tuple(sorted(set(of))) for of in answers.liked)
        self._event, events = _distinct(tuple(of) for of in answers.topics)
        mean = [[(place[name], 1.0) for name in of if name in place] for of in people]
        self._liked = self._shares([[(column, 1 / len(row)) for column, _ in row] for row in mean])
        both = [event_weights(of, place, 2.0) for of in events]
        self._first = self._shares([[entry for entry in row if entry[1] == 1.0] for row in both])
        self._others = self._shares([[(column, 1.0) for column, weight in row if weight != 1.0] for row in both])
        organizers = _most(name for name in answers.organizers if name is not None)[:MOST_ORGANIZERS]
        self.organizers = tuple(sorted(organizers))
        numbered = {name: number for number, name in enumerate(self.organizers)}
        self._organizer = np.array([numbered.get(name or "", len(numbered)) for name in answers.organizers], np.int64)
        self._start = _apart(len(self.names))

    def _shares(self, rows: list[list[tuple[int, float]]]) -> sp.csr_matrix:
        told = [(row, column, weight) for row, entries in enumerate(rows) for column, weight in entries]
        row, column, weight = zip(*told, strict=True) if told else ((), (), ())
        return sp.csr_matrix((np.array(weight, np.float64), (row, column)), shape=(len(rows), len(self.names)))

    def fit(self, rows: NDArray[np.bool_]) -> Floats | None:
        """Return the numbers fitted on some rows; None where these all have the same answer."""
        chosen = np.flatnonzero(rows)
        chosen = chosen[np.argsort(self._person[chosen], kind="stable")]  # as the sparse matrix of pairs has them
        yes = self._answers.yes[chosen]
        if not 0 < yes.sum() < len(yes):
            return None
        begin = np.concatenate([[0.0, 0.0, _STRENGTH, _LATER], self._start.ravel(), np.zeros(len(self.organizers))])
        bounds = [(None, None)] * 2 + [(0.0, 20.0), (0.0, 1.0)] + [(None, None)] * (len(begin) - _SCALARS)
        objective = partial(self._objective, chosen)
        found = minimize(objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
        return np.asarray(found.x, np.float64)

    def tastes(self, found: Floats) -> Tastes:
        """Return numbers as what they are of."""
        vectors, effects = self._parts(found)
        organizers = dict(zip(self.organizers, effects[:-1].tolist(), strict=True))
        return Tastes(self.names, vectors, float(found[2]), float(found[3]), organizers).rounded()

    def columns(self, found: Floats) -> tuple[Floats, Floats]:
        """Return taste and effect of all rows, logits, float64[N] each."""
        vectors, effects = self._parts(found)
        people, events, _ = self._units(vectors, found[3])
        cosine = self._cosines(np.arange(len(self._person)), people[0], events[0])
        return found[2] * cosine, effects[self._organizer]

    def _parts(self, found: Floats) -> tuple[Floats, Floats]:
        """Return the vectors of topics, and the effects of organisers, that of an unknown one last."""
        end = _SCALARS + self._start.size
        return found[_SCALARS:end].reshape(self._start.shape), np.append(found[end:], 0.0)

    def _units(self, vectors: Floats, later: float) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], Floats]:
        """Return people's and events' vectors of length one with their lengths, and what events' later topics add."""
        others = np.asarray(self._others @ vectors)
        people, events = np.asarray(self._liked @ vectors), np.asarray(self._first @ vectors) + later * others
        long, wide = lengths(people), lengths(events)
        return (people / long, long), (events / wide, wide), others

    def _cosines(self, rows: Ints, people: Floats, events: Floats) -> Floats:
        """Return the cosines of rows; some at a time, since gathered vectors take memory."""
        mine, theirs = people.astype(np.float32), events.astype(np.float32)
        found = np.empty(len(rows))
        for begin in range(0, len(rows), _TOGETHER):
            part = rows[begin : begin + _TOGETHER]
            found[begin : begin + _TOGETHER] = np.einsum(
                "nk,nk->n", mine[self._person[part]], theirs[self._event[part]]
            )
        return found

    def _objective(self, rows: Ints, found: Floats) -> tuple[float, Floats]:
        """Return the mean log loss of rows with the penalties, and its gradient."""
        answers, (vectors, effects) = self._answers, self._parts(found)
        bias, place, strength, later = found[:_SCALARS]
        (people, long), (events, wide), others = self._units(vectors, later)
        cosine = self._cosines(rows, people, events)
        yes, places, organizer = answers.yes[rows], answers.places[rows], self._organizer[rows]
        logits = answers.offset[rows] + bias + place * places + strength * cosine + effects[organizer]
        away, count = vectors - self._start, len(rows)
        value = float(np.mean(np.logaddexp(0, logits) - yes * logits))
        value += float(_TOPIC_PRIOR * (away * away).sum() + _ORGANIZER_PRIOR * effects @ effects) / (2 * count)
        error = (1 / (1 + np.exp(-np.clip(logits, -40, 40))) - yes) / count
        ends = np.searchsorted(self._person[rows], np.arange(len(people) + 1))
        pairs = sp.csr_matrix((strength * error, self._event[rows], ends), shape=(len(people), len(events)))
        of_people, of_events = _turned(pairs @ events, people, long), _turned(pairs.T @ people, events, wide)
        of_topics = self._liked.T @ of_people + self._first.T @ of_events + later * (self._others.T @ of_events)
        of_topics += _TOPIC_PRIOR * away / count
        of_effects = np.bincount(organizer, error, len(effects)) + _ORGANIZER_PRIOR * effects / count
        scalars = [error.sum(), error @ places, error @ cosine, (others * of_events).sum()]
        return value, np.concatenate([scalars, of_topics.ravel(), of_effects[:-1]])


def _turned(gradient: Floats, units: Floats, by: Floats) -> Floats:
    """Return the gradient by vectors, of one by what is left of them at about length one."""
    return np.asarray((gradient - units * (units * gradient).sum(axis=1, keepdims=True)) / by, np.float64)


def _apart(count: int) -> Floats:
    """Return as many vectors of length one at right angles to each other, or nearly where there are more than fit."""
    if count <= _SIZE:
        return np.eye(count)
    drawn = np.random.default_rng(0).standard_normal((count, _SIZE))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float64)


def _most(values: Iterable[str]) -> tuple[str, ...]:
    """Return different values, the most frequent first."""
    return tuple(name for name, _ in sorted(Counter(values).items(), key=lambda kv: (-kv[1], kv[0])))


def _distinct(values: Iterable[tuple[str, ...]]) -> tuple[Ints, list[tuple[str, ...]]]:
    """Return which of the different values each is, and those."""
    places: dict[tuple[str, ...], int] = {}
    found = np.array([places.setdefault(value, len(places)) for value in values], np.int64)
    return found, list(places)
