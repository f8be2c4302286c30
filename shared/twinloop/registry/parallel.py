"""Several reads of the registry at once: a cold start waits for the slowest, not for the sum."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

Result = TypeVar("Result")


def all_at_once(calls: Mapping[str, Callable[[], Result]]) -> dict[str, Result]:
    """Return what each call returns, by name and in the order of the names; raises the first call's error that failed.

    One thread a call, the first one in the caller's own: meant for the handful of files that a release consists of.
    """
    results: dict[str, Result] = {}
    failures: dict[str, Exception] = {}

    def run(name: str) -> None:
        try:
            results[name] = calls[name]()
        except Exception as error:  # noqa: BLE001 - carried over to the caller's thread and raised there
            failures[name] = error

    own, *others = calls or [None]
    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in others]
    for thread in threads:
        thread.start()
    if own is not None:
        run(own)
    for thread in threads:
        thread.join()
    for name in calls:
        if name in failures:
            raise failures[name]
    return {name: results[name] for name in calls}
