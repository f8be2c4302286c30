"""The suggestions application's stream as raw tables of the `suggestions` system, and its truth beside them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.datasets.simulator.people import Array
from twinloop.datasets.simulator.suggestions import NOBODY, Piece, SuggestionsApplication
from twinloop.datasets.simulator.towns import ONLINE, TOWNS
from twinloop.datasets.simulator.video_tables import coded, ids, pieces, times, yes
from twinloop.datasets.simulator.vocabulary import DEVICES

_TEXTS = pa.list_(pa.string())


def users(application: SuggestionsApplication) -> Iterator[pa.Table]:
    """Yield the users, some at a time."""
    people, joined = application.people, application.world.users.joined_ms
    for rows in pieces(len(joined)):
        numbers = range(rows.start, rows.stop)
        yield pa.table(
            {
                "user_id": ids("u", np.arange(rows.start, rows.stop)),
                "updated_at": times(joined[rows]),
                "lat": pa.array(people.lat[rows]),
                "lon": pa.array(people.lon[rows]),
                "topics": pa.array([list(people.topics[n]) for n in numbers], _TEXTS),
                "friends": pa.array([[f"u{friend}" for friend in people.friends[n]] for n in numbers], _TEXTS),
                "simulated": yes(len(numbers)),
            }
        )


def items(application: SuggestionsApplication) -> Iterator[pa.Table]:
    """Yield the events that people may go to, some at a time. One that is online has no place."""
    things, about = application.world.items, application.happenings
    for rows in pieces(len(things.published_ms)):
        numbers = range(rows.start, rows.stop)
        zone = pa.array([None if n == ONLINE else TOWNS[n].zone for n in about.town[rows].tolist()], pa.string())
        yield pa.table(
            {
                "item_id": ids("e", np.arange(rows.start, rows.stop)),
                "title": pa.array([f"{things.title_of(n)} {n}" for n in numbers], pa.string()),
                "lat": pa.array(about.lat[rows], from_pandas=True),
                "lon": pa.array(about.lon[rows], from_pandas=True),
                "starts_at": times(about.starts_ms[rows]),
                "topics": pa.array([things.tags_of(n) for n in numbers], _TEXTS),
                "organizer_id": ids("o", things.author[rows]),
                "price": pa.array(about.price[rows]),
                "capacity": pa.array(about.capacity[rows], from_pandas=True).cast(pa.int64()),
                "time_zone": zone.dictionary_encode(),
                "published_at": times(things.published_ms[rows]),
                "simulated": yes(len(numbers)),
            }
        )


def events(piece: Piece, application: SuggestionsApplication) -> pa.Table:
    """Return a piece's events. `context` says where somebody was, where they told, and that they are none."""
    rows = piece.events
    context = pa.StructArray.from_arrays(
        [
            coded(rows.device, DEVICES),
            yes(len(rows.number)),
            pa.array(rows.lat, from_pandas=True),
            pa.array(rows.lon, from_pandas=True),
        ],
        names=["device", "simulated", "lat", "lon"],
    )
    return pa.table(
        {
            "event_id": ids(f"{application.mark}-", rows.number),
            "user_id": _who(rows.user),
            "item_id": ids("e", rows.item),
            "request_id": _where(rows.request != NOBODY, ids(f"{application.mark}-r", rows.request)),
            "type": coded(rows.type, application.types),
            "time": times(rows.time_ms),
            "position": _where(rows.position != NOBODY, pa.array(rows.position, pa.int32())),
            "context": context,
        }
    )


def truth(piece: Piece, application: SuggestionsApplication) -> pa.Table:
    """Return what came of a piece's views and how likely it was; `event_id` is the view's."""
    shown = piece.shown
    return pa.table(
        {
            "event_id": ids(f"{application.mark}-", shown.number),
            "user_id": ids("u", shown.user),
            "item_id": ids("e", shown.item),
            "request_id": ids(f"{application.mark}-r", shown.request),
            "time": times(shown.time_ms),
            "position": pa.array(shown.position, pa.int32()),
            "rsvp": pa.array(shown.rsvp),
            "p_seen": pa.array(shown.p_seen, pa.float32()),
            "p_rsvp": pa.array(shown.p_rsvp, pa.float32()),
            "cold_user": pa.array(application.world.is_cold_user(shown.user)),
            "cold_item": pa.array(application.world.is_cold_item(shown.item)),
        }
    )


def _who(user: Array) -> pa.Array:
    """Return ids of users, and of organisers, who are told by numbers from -2 down."""
    organiser = user < NOBODY
    return pc.if_else(pa.array(organiser), ids("o", -2 - user), ids("u", user))


def _where(there: Array, values: pa.Array) -> pa.Array:
    """Return values, null where there is none."""
    return pc.if_else(pa.array(there), values, pa.nulls(len(values), values.type))
