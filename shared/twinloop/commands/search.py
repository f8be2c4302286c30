"""`twinloop reindex` and `twinloop zero-results`: an index that follows its items, and what nobody found."""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from twinloop import systems
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import deployment
from twinloop.errors import BadInputError
from twinloop.ports import ObjectStore

SYSTEM = "search"
_LOGS = f"predictions/{SYSTEM}/"
_LARGEST_LOG = 512 * 1024 * 1024


@plainly
def reindex(
    *,
    least_share: Annotated[
        float, typer.Option(help="Share of the index's documents that must still be there; less is an accident.")
    ] = 0.5,
) -> None:
    """Build search's index of the items in the lake, behind the models that serve, and let it serve.

    Texts that have not changed keep their vectors. Running functions take it up within 30 seconds, without a gap.
    """
    # These take the extras [dataset] and [training].
    from twinloop.serving.loading import load_models  # noqa: PLC0415
    from twinloop.training.search_rebuild import refresh  # noqa: PLC0415

    place = deployment()
    predictor = systems.load(SYSTEM).predictor

    def check(components: Mapping[str, Mapping[str, bytes]]) -> None:
        predictor(load_models(components))

    found = refresh(
        place.registry(SYSTEM), lake_items(place.store), check, by=getpass.getuser(), least_share=least_share
    )
    if found is None:
        console.print("nothing has changed: the index that serves is of the items in the lake", soft_wrap=True)
        return
    version, rebuilt = found
    console.print(
        f"{version} serves: {rebuilt.documents:,} documents, {rebuilt.fresh:,} vectors made anew", soft_wrap=True
    )


@plainly
def zero_results(
    *, days: Annotated[int, typer.Option(min=1, max=365, help="Days of the log, the latest.")] = 7, most: int = 20
) -> None:
    """Report the searches that found nothing, and words that were taken for others, out of the log of answers."""
    from twinloop.systems.search.zero_results import zero_results as report  # noqa: PLC0415

    told = report(log_lines(deployment().store, days), most=most)
    if not told.searches:
        raise BadInputError("the log holds no search yet; the stream delivers it a minute or two after the answers")
    console.print(
        f"{told.searches:,} searches, {told.zero:,} found nothing ({told.share:.1%}), {told.filtered:,} with filters"
    )
    for query, count in told.queries:
        console.print(f"{count:>7,}  {query}", soft_wrap=True, markup=False)
    for (word, term), count in told.corrected:
        console.print(f"{count:>7,}  {word} -> {term}", soft_wrap=True, markup=False)


def lake_items(store: ObjectStore) -> Iterator[dict[str, Any]]:
    """Yield the latest row of each item in the lake, by id; raises BadInputError where there is none."""
    from twinloop.features import lake  # noqa: PLC0415 - it takes duckdb

    with tempfile.TemporaryDirectory(prefix="reindex-") as folder:
        work = Path(folder)
        if not lake.fetch(store, SYSTEM, "items", work / "items"):
            raise BadInputError(f"the lake has no items of {SYSTEM}; load them first: twinloop load {SYSTEM} PATH")
        with lake.open_database(work / "duckdb", memory_mb=2048, threads=2) as connection:
            lake.load_table(connection, "items", systems.load(SYSTEM).tables["items"], work / "items")
            rows = connection.execute("SELECT item_id, title, text, tags, attributes FROM items ORDER BY item_id")
            names = [column[0] for column in rows.description]
            while batch := rows.fetchmany(10_000):
                yield from (dict(zip(names, row, strict=True)) for row in batch)


def log_lines(store: ObjectStore, days: int) -> Iterator[bytes]:
    """Yield lines of the log of the last days that it has, up to half a gigabyte; files may be gzipped."""
    import gzip  # noqa: PLC0415

    keys = sorted(store.keys(_LOGS))
    dates = sorted({key[len(_LOGS) :][:10] for key in keys})[-days:]
    size = 0
    for key in keys:
        if key[len(_LOGS) :][:10] not in dates:
            continue
        body = store.read(key).body
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        size += len(body)
        if size > _LARGEST_LOG:
            raise BadInputError(f"the log of {days} days is over {_LARGEST_LOG >> 20} MB; ask for fewer --days")
        yield from body.splitlines()
