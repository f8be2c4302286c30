"""A simulated forum as raw tables of the `moderation` system, and its truth as a table of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa

from twinloop.datasets.simulator.settings import fingerprint
from twinloop.datasets.simulator.texts import TextWorld
from twinloop.datasets.simulator.video_tables import coded, ids, pieces, times, yes

_TYPES = ("view", "report")
_ROWS = 50_000


def items(world: TextWorld) -> Iterator[pa.Table]:
    """Yield the texts, some at a time."""
    for rows in pieces(len(world.texts)):
        some = world.texts[rows]
        yield pa.table(
            {
                "item_id": ids("t", np.arange(rows.start, rows.stop)),
                # As a dictionary: its texts are escaped.
                "text": pa.array([one.text for one in some]).dictionary_encode(),
                "author_id": ids("a", np.array([one.author for one in some], np.int64)),
                "created_at": times(np.array([one.time_ms for one in some], np.int64)),
                "simulated": yes(len(some)),
            }
        )


def labels(world: TextWorld) -> Iterator[pa.Table]:
    """Yield what people said, some at a time."""
    for table in _answers(world):
        yield table.select(["item_id", "label", "value", "source", "reviewer_id", "time", "simulated"])


def stream(world: TextWorld) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield events, all of them first, and then the truth of what people said, some at a time."""
    events = _events(world)
    for number, told in enumerate(_answers(world)):
        truth = told.select(["time", "item_id", "label", "reviewer_id", "flagged", "p_flagged"])
        yield events if number == 0 else events.slice(0, 0), truth


def _answers(world: TextWorld) -> Iterator[pa.Table]:
    told = world.answers()
    while some := list(islice(told, _ROWS)):
        item, label, reviewer, time_ms, flagged, p = zip(*some, strict=True)
        yield pa.table(
            {
                "item_id": ids("t", np.array(item, np.int64)),
                "label": pa.array(label),
                "value": pa.array(np.array(flagged, np.int64)),
                "source": pa.array(["reviewer"] * len(some)),
                "reviewer_id": ids("r", np.array(reviewer, np.int64)),
                "time": times(np.array(time_ms, np.int64)),
                "simulated": yes(len(some)),
                "flagged": pa.array(flagged),
                "p_flagged": pa.array(p, pa.float32()),
            }
        )


def _events(world: TextWorld) -> pa.Table:
    """Return a view of every text, by nobody in particular, and the reports, in the order of time."""
    mark, count = fingerprint(world.settings), len(world.texts)
    reported = np.array(list(world.reports()), np.int64).reshape(-1, 3)
    item = np.concatenate([np.arange(count), reported[:, 0]])
    actor = np.concatenate([np.full(count, -1), reported[:, 1]])
    seen = np.array([one.time_ms for one in world.texts], np.int64)
    time_ms = np.concatenate([seen, reported[:, 2]])
    author = np.array([one.author for one in world.texts], np.int64)[item]
    order = np.argsort(time_ms, kind="stable")
    rows = pa.table(
        {
            "event_id": ids(f"{mark}-", np.arange(len(item))),
            "type": coded((actor >= 0).astype(np.int8), _TYPES),
            "time": times(time_ms),
            "user_id": ids("a", author),
            "item_id": ids("t", item),
            "actor_id": pa.array([f"u{who}" if who >= 0 else None for who in actor.tolist()]),
            "context": pa.StructArray.from_arrays([yes(len(item))], names=["simulated"]),
        }
    )
    return rows.take(order)
