"""The video application's stream as raw tables of the `video` system, and its truth as a table of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.datasets.simulator.people import Array
from twinloop.datasets.simulator.reactions import Impressions
from twinloop.datasets.simulator.video import TYPES, Events, Piece
from twinloop.datasets.simulator.vocabulary import AGE_GROUPS, COUNTRIES, DEVICES
from twinloop.datasets.simulator.world import World

TIME = pa.timestamp("ms", tz="UTC")
_PIECE = 50_000


def users(world: World) -> Iterator[pa.Table]:
    """Yield the users, some at a time; what the contract does not name ends in `extra`, the marker too."""
    people = world.users
    for rows in _pieces(len(people.joined_ms)):
        yield pa.table(
            {
                "user_id": _ids("u", np.arange(rows.start, rows.stop)),
                "updated_at": _times(people.joined_ms[rows]),
                "country": _coded(people.country[rows], COUNTRIES),
                "age_group": _coded(people.age_group[rows], AGE_GROUPS),
                "simulated": _yes(rows.stop - rows.start),
            }
        )


def items(world: World) -> Iterator[pa.Table]:
    """Yield the items, some at a time."""
    things = world.items
    for rows in _pieces(len(things.published_ms)):
        numbers = range(rows.start, rows.stop)
        yield pa.table(
            {
                "item_id": _ids("v", np.arange(rows.start, rows.stop)),
                "title": pa.array([f"{things.title_of(n)} {n}" for n in numbers], pa.string()),
                "tags": pa.array([things.tags_of(n) for n in numbers], pa.list_(pa.string())),
                "author_id": _ids("a", things.author[rows]),
                "duration_s": pa.array(things.duration_s[rows]),
                "published_at": _times(things.published_ms[rows]),
                "simulated": _yes(len(numbers)),
            }
        )


def events(piece: Piece, world: World, mark: str) -> pa.Table:
    """Return a piece's events. `context` says where somebody was, and that they are none."""
    rows = piece.events
    context = pa.StructArray.from_arrays(
        [
            _coded(rows.device, DEVICES),
            _coded(world.users.country[rows.user], COUNTRIES),
            _yes(len(rows.number)),
        ],
        names=["device", "country", "simulated"],
    )
    return pa.table(
        {
            **_who_and_what(rows, rows.number, mark),
            "type": _coded(rows.type, TYPES),
            "time": _times(rows.time_ms),
            "position": pa.array(rows.position, pa.int32()),
            "watch_s": pa.array(rows.watch_s, from_pandas=True),
            "duration_s": pa.array(rows.duration_s, from_pandas=True),
            "context": context,
        }
    )


def truth(piece: Piece, world: World, mark: str) -> pa.Table:
    """Return what came of a piece's impressions and how likely it was; `event_id` is the impression's."""
    shown, true, came = piece.shown, piece.truth, piece.outcomes
    return pa.table(
        {
            **_who_and_what(shown, piece.number, mark),
            "time": _times(shown.time_ms),
            "position": pa.array(shown.position, pa.int32()),
            "clicked": pa.array(came.clicked),
            "long_view": pa.array(came.long_view),
            "watch_s": pa.array(came.watch_ms / 1000, pa.float32()),
            "p_seen": pa.array(true.p_seen, pa.float32()),
            "p_click": pa.array(true.p_click, pa.float32()),
            "p_long_view": pa.array(true.p_long_view, pa.float32()),
            "expected_watch_s": pa.array(true.watch_s, pa.float32()),
            "cold_user": pa.array(world.is_cold_user(shown.user)),
            "cold_item": pa.array(world.is_cold_item(shown.item)),
        }
    )


def _who_and_what(rows: Events | Impressions, number: Array, mark: str) -> dict[str, Any]:
    return {
        "event_id": _ids(f"{mark}-", number),
        "user_id": _ids("u", rows.user),
        "item_id": _ids("v", rows.item),
        "request_id": _ids(f"{mark}-r", rows.request),
    }


def _pieces(count: int) -> Iterator[slice]:
    return (slice(first, min(count, first + _PIECE)) for first in range(0, count, _PIECE))


def _ids(prefix: str, numbers: Array) -> Any:
    return pc.binary_join_element_wise(prefix, pa.array(numbers, pa.int64()).cast(pa.string()), "")


def _times(milliseconds: Array) -> Any:
    return pa.array(milliseconds, pa.int64()).cast(TIME)


def _coded(codes: Array, words: Sequence[str]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(words))


def _yes(count: int) -> Any:
    return pa.array(np.ones(count, bool))
