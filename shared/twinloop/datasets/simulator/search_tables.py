"""A simulated search as raw tables of the `search` system, and its truth as a table of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from twinloop.datasets.simulator.searches import Searches, SearchWorld
from twinloop.datasets.simulator.settings import fingerprint
from twinloop.datasets.simulator.video_tables import coded, ids, pieces, times, yes

_KINDS, _TYPES = ("book", "film"), ("query", "click")
_ROWS = 50_000


def item(world: SearchWorld, number: int) -> dict[str, Any]:
    """Return a document as it would be loaded."""
    return {
        "item_id": f"d{number}",
        "title": world.titles[number].title(),
        "text": world.texts[number],
        "tags": [f"topic {world.topic[number]}"],
        "attributes": {"rating": round(float(world.quality[number]) * 10, 2), "kind": _KINDS[number % 2]},
        "simulated": True,
    }


def items(world: SearchWorld) -> Iterator[pa.Table]:
    """Yield the documents, some at a time."""
    for rows in pieces(world.settings.items):
        yield pa.Table.from_pylist([item(world, number) for number in range(rows.start, rows.stop)])


def judgments(world: SearchWorld) -> Iterator[pa.Table]:
    """Yield what people judged, some at a time."""
    told = world.judgments()
    while rows := list(islice(told, _ROWS)):
        query, document, grade = (np.array(column, np.int64) for column in zip(*rows, strict=True))
        yield pa.table(
            {
                "query": _texts(world, query),
                "item_id": ids("d", document),
                "grade": pa.array(grade),
                "simulated": yes(len(rows)),
            }
        )


def stream(world: SearchWorld) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield events, and the truth of what they showed, some at a time."""
    mark = fingerprint(world.settings)
    return ((events(piece, world, mark), truth(piece, world, mark)) for piece in world.searches())


def events(piece: Searches, world: SearchWorld, mark: str) -> pa.Table:
    """Return the searches of a piece, each followed by its clicks. `context` says that nobody searched."""
    search, place = np.nonzero(piece.clicked)
    count = len(piece.number)
    queries = {
        "event_id": _request(mark, piece.number),
        "type": coded(np.zeros(count, np.int8), _TYPES),
        "time": times(piece.time_ms),
        **_asked(piece, np.arange(count), world, mark),
        "item_id": pa.nulls(count, pa.string()),
        "position": pa.nulls(count, pa.int64()),
        "shown": pa.ListArray.from_arrays(
            np.arange(count + 1, dtype=np.int32) * piece.shown.shape[1], ids("d", piece.shown.ravel())
        ),
    }
    clicks = {
        "event_id": ids(f"{mark}-c", piece.number[search] * piece.shown.shape[1] + place),
        "type": coded(np.ones(len(search), np.int8), _TYPES),
        "time": times(piece.time_ms[search] + piece.click_ms(place)),
        **_asked(piece, search, world, mark),
        "item_id": ids("d", piece.shown[search, place]),
        "position": pa.array(place, pa.int64()),
        "shown": pa.nulls(len(search), pa.list_(pa.string())),
    }
    rows = pa.concat_tables([pa.table(queries), pa.table(clicks)]).combine_chunks()
    rows = rows.append_column("context", pa.StructArray.from_arrays([yes(rows.num_rows)], names=["simulated"]))
    return rows.take(np.argsort(np.concatenate([np.arange(count), search]), kind="stable"))


def truth(piece: Searches, world: SearchWorld, mark: str) -> pa.Table:
    """Return of each item that was shown what came of it and how likely it was; `request_id` is the search's."""
    search, place = (of.ravel() for of in np.indices(piece.shown.shape))
    seen, attraction = world.examined[place], piece.attraction.ravel()
    return pa.table(
        {
            **_asked(piece, search, world, mark),
            "time": times(piece.time_ms[search]),
            "item_id": ids("d", piece.shown.ravel()),
            "position": pa.array(place, pa.int32()),
            "clicked": pa.array(piece.clicked.ravel()),
            "p_seen": pa.array(seen, pa.float32()),
            "p_attracts": pa.array(attraction, pa.float32()),
            "p_click": pa.array(seen * attraction, pa.float32()),
        }
    )


def _asked(piece: Searches, search: Any, world: SearchWorld, mark: str) -> dict[str, Any]:
    """Return the columns that say who asked what in some of a piece's searches."""
    return {
        "user_id": ids("u", piece.user[search]),
        "query": _texts(world, piece.query[search]),
        "request_id": _request(mark, piece.number[search]),
    }


def _request(mark: str, number: Any) -> Any:
    return ids(f"{mark}-s", number)


def _texts(world: SearchWorld, query: Any) -> Any:
    return pa.array([world.queries[number][1] for number in query.tolist()], pa.string())
