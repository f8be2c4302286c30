"""`twinloop zero-results`: what people searched for, and nobody found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from twinloop.commands.screen import console, plainly
from twinloop.commands.target import deployment
from twinloop.errors import BadInputError
from twinloop.monitoring.log import log_keys
from twinloop.ports import ObjectStore

SYSTEM = "search"
_LARGEST_LOG = 512 * 1024 * 1024


@plainly
def zero_results(
    *, days: Annotated[int, typer.Option(min=1, max=365, help="Days of the log, until now.")] = 7, most: int = 20
) -> None:
    """Report the searches that found nothing, and words that were taken for others, out of the log of answers."""
    from twinloop.systems.search.zero_results import zero_results as report  # noqa: PLC0415

    told = report(log_lines(deployment().store, days, now=datetime.now(UTC)), most=most)
    if not told.searches:
        raise BadInputError(
            f"the log of the last {days} days holds no search; the stream delivers a minute or two after the answers"
        )
    console.print(
        f"{told.searches:,} searches, {told.zero:,} found nothing ({told.share:.1%}), {told.filtered:,} with filters"
    )
    for query, count in told.queries:
        console.print(f"{count:>7,}  {query}", soft_wrap=True, markup=False)
    for (word, term), count in told.corrected:
        console.print(f"{count:>7,}  {word} -> {term}", soft_wrap=True, markup=False)


def log_lines(store: ObjectStore, days: int, *, now: datetime) -> Iterator[bytes]:
    """Yield lines of the log of the last days, latest first, up to half a gigabyte; files may be gzipped."""
    import gzip  # noqa: PLC0415

    size = 0
    for key in log_keys(store, SYSTEM, now - timedelta(days=days), now):
        body = store.read(key).body
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        size += len(body)
        if size > _LARGEST_LOG:
            raise BadInputError(f"the log of {days} days is over {_LARGEST_LOG >> 20} MB; ask for fewer --days")
        yield from body.splitlines()
