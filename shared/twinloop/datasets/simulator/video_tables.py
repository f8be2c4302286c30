"""The video application's stream as raw tables of the `video` system, and its truth as a table of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.datasets.simulator.people import Array
from twinloop.datasets.simulator.reactions import Impressions
from twinloop.datasets.simulator.video import Events, Piece, VideoApplication
from twinloop.datasets.simulator.vocabulary import AGE_GROUPS, COUNTRIES, DEVICES

TIME = pa.timestamp("ms", tz="UTC")
_PIECE = 50_000


def users(application: VideoApplication) -> Iterator[pa.Table]:
    """Yield any application's users, some at a time; what the contract does not name ends in `extra`, as the marker."""
    people = application.world.users
    for rows in pieces(len(people.joined_ms)):
        yield pa.table(
            {
                "user_id": ids("u", np.arange(rows.start, rows.stop)),
                "updated_at": times(people.joined_ms[rows]),
                "country": coded(people.country[rows], COUNTRIES),
                "age_group": coded(people.age_group[rows], AGE_GROUPS),
                "simulated": yes(rows.stop - rows.start),
            }
        )


def items(application: VideoApplication) -> Iterator[pa.Table]:
    """Yield the items, some at a time."""
    things = application.world.items
    for rows in pieces(len(things.published_ms)):
        numbers = range(rows.start, rows.stop)
        yield pa.table(
            {
                "item_id": ids("v", np.arange(rows.start, rows.stop)),
                "title": pa.array([f"{things.title_of(n)} {n}" for n in numbers], pa.string()),
                "tags": pa.array([things.tags_of(n) for n in numbers], pa.list_(pa.string())),
                "author_id": ids("a", things.author[rows]),
                "duration_s": pa.array(things.duration_s[rows]),
                "published_at": times(things.published_ms[rows]),
                "simulated": yes(len(numbers)),
            }
        )


def events(piece: Piece, application: VideoApplication) -> pa.Table:
    """Return a piece's events. `context` says where somebody was, and that they are none."""
    rows = piece.events
    context = pa.StructArray.from_arrays(
        [
            coded(rows.device, DEVICES),
            coded(application.world.users.country[rows.user], COUNTRIES),
            yes(len(rows.number)),
        ],
        names=["device", "country", "simulated"],
    )
    return pa.table(
        {
            **who_and_what(rows, rows.number, application.mark, item="v"),
            "type": coded(rows.type, application.types),
            "time": times(rows.time_ms),
            "position": pa.array(rows.position, pa.int32()),
            "watch_s": pa.array(rows.watch_s, from_pandas=True),
            "duration_s": pa.array(rows.duration_s, from_pandas=True),
            "context": context,
        }
    )


def truth(piece: Piece, application: VideoApplication) -> pa.Table:
    """Return what came of a piece's impressions and how likely it was; `event_id` is the impression's."""
    shown, true, came, world = piece.shown, piece.truth, piece.outcomes, application.world
    return pa.table(
        {
            **who_and_what(shown, piece.number, application.mark, item="v"),
            "time": times(shown.time_ms),
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


def who_and_what(rows: Events | Impressions, number: Array, mark: str, *, item: str) -> dict[str, Any]:
    """Return the columns of ids; those of items begin with `item`, those of events and requests with `mark`."""
    return {
        "event_id": ids(f"{mark}-", number),
        "user_id": ids("u", rows.user),
        "item_id": ids(item, rows.item),
        "request_id": ids(f"{mark}-r", rows.request),
    }


def pieces(count: int) -> Iterator[slice]:
    """Return the rows of so many, some at a time."""
    return (slice(first, min(count, first + _PIECE)) for first in range(0, count, _PIECE))


def ids(prefix: str, numbers: Array) -> Any:
    """Return numbers as texts that begin with a prefix."""
    return pc.binary_join_element_wise(prefix, pa.array(numbers, pa.int64()).cast(pa.string()), "")


def times(milliseconds: Array) -> Any:
    """Return epoch milliseconds as times."""
    return pa.array(milliseconds, pa.int64()).cast(TIME)


def coded(codes: Array, words: Sequence[str]) -> Any:
    """Return places among some words as these words."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(words))


def yes(count: int) -> Any:
    """Return that many times true."""
    return pa.array(np.ones(count, bool))
