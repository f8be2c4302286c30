"""Leave alone for a while what just failed, so that one sick dependency does not slow every request down."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Closed until a failure, then open for `rest_s` seconds. Safe to share: a lost race costs one attempt more."""

    def __init__(self, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest_s = rest_s
        self._clock = clock
        self._until = float("-inf")

    @property
    def open(self) -> bool:
        """Whether to leave the dependency alone now."""
        return self._clock() < self._until

    def trip(self) -> None:
        """Note a failure."""
        self._until = self._clock() + self._rest_s
