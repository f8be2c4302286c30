"""Where the log of answers lies: `predictions/<system>/yyyy/MM/dd/HH/`, by the hour of delivery, UTC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from twinloop.ports import ObjectStore

BUFFERED = timedelta(minutes=15)
"""Within it the stream has delivered."""
# What Firehose calls its objects has the moment of delivery in it.
_DELIVERED = re.compile(r"-(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)-[^/]*$")
_FORM = "%Y-%m-%d-%H-%M-%S"


def days(first: datetime, last: datetime) -> list[date]:
    """Return every day from one moment to another, in UTC."""
    day, end = first.astimezone(UTC).date(), last.astimezone(UTC).date()
    return [day + timedelta(days=n) for n in range((end - day).days + 1)]


def log_keys(objects: ObjectStore, system: str, since: datetime, now: datetime) -> Iterator[str]:
    """Yield the keys of what was delivered since a moment, latest first; a key that tells none counts by its day.

    Only the days that can have some are listed.
    """
    for day in reversed(days(since, now)):
        for key in sorted(objects.keys(f"predictions/{system}/{day:%Y/%m/%d}/"), reverse=True):
            if not delivered_before(key, since):
                yield key


def delivered_before(key: str, moment: datetime) -> bool:
    """Return whether a key tells that it was delivered before a moment."""
    named = _DELIVERED.search(key)
    return named is not None and named[1] < moment.astimezone(UTC).strftime(_FORM)


def delivered_after(key: str, moment: datetime) -> bool:
    """Return whether a key tells that it was delivered after a moment."""
    named = _DELIVERED.search(key)
    return named is not None and named[1] > moment.astimezone(UTC).strftime(_FORM)
