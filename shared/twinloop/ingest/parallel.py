"""Work on several items at once, results in the order of the items, a few items ahead at most."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Iterable[Result]], items: Iterable[Item]) -> Iterator[Result]:
    """Yield all results of each item, as a loop would, using every core. The first error ends it."""
    threads = min(4, os.cpu_count() or 1)
    under_way: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            under_way.append(pool.submit(lambda one: list(work(one)), item))
            if len(under_way) > threads:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
