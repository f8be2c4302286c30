"""Positive events as arrays: one order, one meaning, everywhere in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Events:
    """Positive events ordered by (user, time, item): `items[offsets[u]:offsets[u + 1]]` is user u, oldest first.

    Items are numbered in the order of their ids, so this is the order of online histories too. Times are epoch
    milliseconds. Users and items without events keep their number: splits of one snapshot share the numbering.
    """

    users: Ints
    items: Ints
    times: Ints
    n_users: int
    n_items: int

    @classmethod
    def sort(cls, *, users: Ints, items: Ints, times: Ints, n_users: int, n_items: int) -> Events:
        """Put events in order and keep one of each (user, time, item)."""
        order = np.lexsort((items, times, users))
        users, items, times = (np.asarray(part, dtype=np.int64)[order] for part in (users, items, times))
        fresh = np.ones(len(users), dtype=bool)
        fresh[1:] = (np.diff(users) != 0) | (np.diff(times) != 0) | (np.diff(items) != 0)
        return cls(users[fresh], items[fresh], times[fresh], n_users, n_items)

    @classmethod
    def join(cls, a: Events, b: Events) -> Events:
        """Return the events of both splits."""
        return cls.sort(
            users=np.concatenate([a.users, b.users]),
            items=np.concatenate([a.items, b.items]),
            times=np.concatenate([a.times, b.times]),
            n_users=a.n_users,
            n_items=a.n_items,
        )

    def __len__(self) -> int:
        return len(self.users)

    @property
    def offsets(self) -> Ints:
        """Where each user's events begin; length n_users + 1."""
        return np.searchsorted(self.users, np.arange(self.n_users + 1)).astype(np.int64)

    def take(self, chosen: NDArray[Any]) -> Events:
        """Return the events that a mask or ascending positions choose."""
        return Events(self.users[chosen], self.items[chosen], self.times[chosen], self.n_users, self.n_items)

    def latest(self, length: int) -> Events:
        """Return the latest `length` events of each user: what serving keeps."""
        return self.take(self.age < length)

    @property
    def age(self) -> Ints:
        """How many events of the same user came later: 0 for the latest."""
        return self.offsets[self.users + 1] - 1 - np.arange(len(self))

    def matrix(self, weights: NDArray[Any] | None = None) -> sp.csr_matrix:
        """Return users x items: 1 where there is an event, or the sum of the events' weights."""
        values = np.ones(len(self), dtype=np.float32) if weights is None else np.asarray(weights, dtype=np.float32)
        matrix = sp.csr_matrix((values, (self.users, self.items)), shape=(self.n_users, self.n_items))
        matrix.sum_duplicates()
        if weights is None:
            matrix.data[:] = 1
        return matrix

    def counts(self) -> Ints:
        """Events per item."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)
