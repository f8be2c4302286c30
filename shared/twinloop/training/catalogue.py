"""What the catalogue says of items beside their events: who made them, since when they are there, which are new."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MOST_NEW = 5_000


@dataclass(frozen=True)
class Described:
    """Items with what is known of them, each part in the same order; None where nothing is."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    authors: tuple[str | None, ...]
    published_ms: tuple[int | None, ...]


@dataclass(frozen=True)
class Catalogue:
    """The model's items, in its order, and those that nobody has liked: at most MOST_NEW of them, newest first.

    Items without a time of publication count as the oldest; among equals the id decides.
    """

    known: Described
    new: Described


def read_catalogue(snapshot: Path, ids: Sequence[str]) -> Catalogue:
    """Read `items/items.parquet` of a snapshot folder; columns that it lacks are known of no item.

    Args:
        snapshot: The folder.
        ids: The model's items, in its order.
    """
    path = snapshot / "items" / "items.parquet"
    present = set(pq.read_schema(path).names)
    wanted = ["item_id", "title", "tags", "author_id", "published_ms"]
    table = pq.read_table(path, columns=[name for name in wanted if name in present])
    for name, kind in (("author_id", pa.string()), ("published_ms", pa.int64())):
        column = table[name].cast(kind) if name in present else pa.nulls(table.num_rows, kind)
        table = table.drop_columns([name] if name in present else []).append_column(name, column)
    known = table.take(pc.index_in(pa.array(ids, pa.string()), table["item_id"].combine_chunks()))
    others = table.filter(pc.invert(pc.is_in(table["item_id"], pa.array(ids, pa.string()))))
    # What has no title is known from events alone: it is in no catalogue, and nobody could show it.
    others = others.filter(pc.is_valid(others["title"]))
    keys = [("published_ms", "descending"), ("item_id", "ascending")]
    newest = others.take(pc.sort_indices(others, keys)[:MOST_NEW])
    return Catalogue(_described(known, ids), _described(newest, newest["item_id"].to_pylist()))


def packed(catalogue: Catalogue) -> dict[str, Any]:
    """Return the parts of `items.json.gz` that tell of the catalogue; a part of which nothing is known is left out.

    authors: Numbers that only say which items are of the same author, -1 unknown. tag_names, tags: names, and each
    item's places among them. published_ms: epoch milliseconds or null. new: the same of the new items, with their
    item_ids and titles.
    """
    parts = (catalogue.known, catalogue.new)
    names = sorted({tag for part in parts for tags in part.tags for tag in tags})
    people = sorted({author for part in parts for author in part.authors if author is not None})
    tag_place = {name: place for place, name in enumerate(names)}
    author_place = {name: place for place, name in enumerate(people)}

    def told(part: Described) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if any(author is not None for author in part.authors):
            found["authors"] = [-1 if author is None else author_place[author] for author in part.authors]
        if any(moment is not None for moment in part.published_ms):
            found["published_ms"] = list(part.published_ms)
        if any(part.tags):
            found["tags"] = [[tag_place[tag] for tag in tags] for tags in part.tags]
        return found

    body = told(catalogue.known)
    if catalogue.new.ids:
        body["new"] = {
            "item_ids": list(catalogue.new.ids),
            "titles": list(catalogue.new.titles),
            **told(catalogue.new),
        }
    if names:
        body["tag_names"] = names
    return body


def _described(table: pa.Table, ids: Sequence[str]) -> Described:
    titles = [re.sub(r"\s+", " ", title or "").strip() for title in table["title"].to_pylist()]
    return Described(
        ids=tuple(ids),
        titles=tuple(title or name for title, name in zip(titles, ids, strict=True)),
        tags=tuple(tuple(dict.fromkeys(tag for tag in given or () if tag)) for given in table["tags"].to_pylist()),
        authors=tuple(table["author_id"].to_pylist()),
        published_ms=tuple(table["published_ms"].to_pylist()),
    )
