"""The ads application's stream as raw tables of the `ads` system, and its truth as a table of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from twinloop.datasets.simulator.ads import SLOTS, AdsApplication
from twinloop.datasets.simulator.video import Piece
from twinloop.datasets.simulator.video_tables import coded, ids, pieces, times, users, who_and_what, yes
from twinloop.datasets.simulator.vocabulary import DEVICES, TAGS

__all__ = ["events", "items", "truth", "users"]


def items(application: AdsApplication) -> Iterator[pa.Table]:
    """Yield the ads, some at a time."""
    things = application.world.items
    for rows in pieces(len(things.published_ms)):
        count = rows.stop - rows.start
        attributes = pa.StructArray.from_arrays(
            [coded(things.tags[rows, 0], tuple(TAGS)), pa.array(application.budgets[rows])],
            names=["category", "daily_budget"],
        )
        yield pa.table(
            {
                "item_id": ids("ad", np.arange(rows.start, rows.stop)),
                "advertiser_id": ids("adv", things.author[rows]),
                "campaign_id": ids("c", application.campaign[rows]),
                "attributes": attributes,
                "simulated": yes(count),
            }
        )


def events(piece: Piece, application: AdsApplication) -> pa.Table:
    """Return a piece's events. `context` says where an ad was, and that it was not."""
    rows = piece.events
    slot = np.minimum(rows.position, len(SLOTS) - 1)
    context = pa.StructArray.from_arrays(
        [coded(slot, SLOTS), coded(rows.device, DEVICES), yes(len(rows.number))],
        names=["slot", "device", "simulated"],
    )
    return pa.table(
        {
            **who_and_what(rows, rows.number, application.mark, item="ad"),
            "type": coded(rows.type, application.types),
            "time": times(rows.time_ms),
            "position": pa.array(rows.position, pa.int32()),
            "bid": pa.array(application.bids[rows.item]),
            "context": context,
        }
    )


def truth(piece: Piece, application: AdsApplication) -> pa.Table:
    """Return what came of a piece's impressions and how likely it was; `event_id` is the impression's."""
    shown, world = piece.shown, application.world
    return pa.table(
        {
            **who_and_what(shown, piece.number, application.mark, item="ad"),
            "time": times(shown.time_ms),
            "position": pa.array(shown.position, pa.int32()),
            "bid": pa.array(application.bids[shown.item]),
            "clicked": pa.array(piece.outcomes.clicked),
            "p_seen": pa.array(piece.truth.p_seen, pa.float32()),
            "p_click": pa.array(piece.truth.p_click, pa.float32()),
            "cold_user": pa.array(world.is_cold_user(shown.user)),
            "cold_item": pa.array(world.is_cold_item(shown.item)),
        }
    )
