"""What was known when the gate's cases were asked: beside a snapshot's cases, because the gate has no store.

`cases/known.jsonl.gz` holds the users' counters just before their case, packed as the store has them. `items/known.npz`
holds the values of items as of a few moments: a case is asked with those of the latest one that is not after it, so
with nothing that came later, and with what is old by as much as the moments lie apart. So few moments keep the values
within `MOST_BYTES`. What users' and items' rows say (`attributes`, marks) is that of their latest row.
`cases/impressions.jsonl.gz` holds impressions of the test part with what was known just before them, exactly.

This module reads; `judged_write.py` and `judged_shown.py` write, and need DuckDB.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.artefacts import Case
from twinloop.contracts.features import Counting
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features.knowledge import About, Objects, UserKnowledge, about, of_item
from twinloop.features.stores import Known

USERS_FILE, ITEMS_FILE = "cases/known.jsonl.gz", "items/known.npz"
SHOWN_FILE = "cases/impressions.jsonl.gz"
MOST_JUDGED = 5_000  # cases that the gate replays
BUNDLE = 20  # impressions of a case, where a system is judged by impressions
MOST_MOMENTS = 16
MOST_BYTES = 32_000_000


class ItemsAsOf:
    """`knowledge.ItemsKnown` of a snapshot.

    Args:
        counting: What the system counts.
        body: Of `items/known.npz`.

    Raises:
        BadInputError: The file cannot be read, or is of other features.
    """

    def __init__(self, counting: Counting, body: bytes) -> None:
        self._counting = counting
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as file:
                names, ids = json.loads(file["names"].tobytes()), json.loads(file["ids"].tobytes())
                self._moments: NDArray[np.int64] = file["moments"]
                self._values: NDArray[np.float32] = file["values"]
                self._marks = file["marks"].astype(np.int64)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BadInputError(f"{ITEMS_FILE} of the snapshot cannot be read: {error!r}") from error
        expected = [feature.name for feature in of_item(counting)]
        if names != expected or self._values.shape != (len(self._moments), len(ids), len(expected)):
            raise BadInputError(f"{ITEMS_FILE} of the snapshot is of other features; take a new snapshot")
        self._index = {item_id: place for place, item_id in enumerate(ids)}

    def about(self, item_ids: Sequence[str], at_ms: int) -> tuple[About, bool]:
        """Return what was known of items at the latest of the moments up to this one; the defaults before the first."""
        found = about(self._counting, dict.fromkeys(item_ids, Known()), at_ms)
        moment = int(np.searchsorted(self._moments, at_ms, side="right")) - 1
        places = np.array([self._index.get(item_id, -1) for item_id in item_ids], np.int64)
        here = places >= 0
        found.marks[here] = self._marks[places[here]]
        if moment >= 0:
            found.values[here] = self._values[moment, places[here]]
        return found, False

    def texts(self, item_ids: Sequence[str]) -> tuple[Objects, bool]:
        """Raise IntegrityError: the file has none."""
        raise IntegrityError(f"no case of a list knows texts of its items, and {len(item_ids)} were asked about")


def packed_user(case_id: str, known: Known) -> dict[str, object]:
    """Return a line of `cases/known.jsonl.gz`."""
    return {
        "case_id": case_id,
        "counters": base64.b64encode(known.counters).decode(),
        "attributes": dict(sorted(known.attributes.items())),
    }


def read_users(body: bytes) -> dict[str, Known]:
    """Return what was known of the cases' users, by case; raises BadInputError for a file that cannot be read."""
    users = {}
    try:
        for line in gzip.decompress(body).splitlines():
            row = json.loads(line)
            users[row["case_id"]] = Known(base64.b64decode(row["counters"], validate=True), row["attributes"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, binascii.Error) as error:
        raise BadInputError(f"{USERS_FILE} of the snapshot cannot be read: {error!r}") from error
    return users


def with_knowledge(
    cases: Iterable[Case], counting: Counting, users: Mapping[str, Known], items: ItemsAsOf
) -> list[Case]:
    """Return cases whose request has what was known at its moment, as `known`, a Knowledge. Lives in memory only."""
    return [
        case.model_copy(
            update={
                "request": {**case.request, "known": UserKnowledge(counting, users.get(case.case_id, Known()), items)}
            }
        )
        for case in cases
    ]


@dataclass(frozen=True)
class KnownThen:
    """`contracts.system.Knowledge` of one user and one item just before it was shown; None: not known."""

    values: Mapping[str, float | None]
    degraded: bool = False
    known_texts: Mapping[str, str | None] = field(default_factory=dict)

    def tensor(self, names: Sequence[str], item_ids: Sequence[str], at_ms: int) -> NDArray[np.float32]:
        """Return the values, float32[items, names]; there is one item, and one moment."""
        del at_ms
        missing = [name for name in names if name not in self.values]
        if missing:
            raise IntegrityError(f"no model can be asked with {missing[0]!r}: no impression of the snapshot has it")
        row = [np.nan if self.values[name] is None else self.values[name] for name in names]
        return np.array([row] * len(item_ids), np.float32).reshape(len(item_ids), len(names))

    def texts(self, names: Sequence[str], item_ids: Sequence[str]) -> list[tuple[str | None, ...]]:
        """Return the texts, the same for every id; there is one item."""
        missing = [name for name in names if name not in self.known_texts]
        if missing:
            raise IntegrityError(f"no model can be asked with {missing[0]!r}: no impression of the snapshot has it")
        return [tuple(self.known_texts[name] for name in names)] * len(item_ids)


def with_values(shown: Iterable[Case]) -> list[Case]:
    """Return cases of impressions whose request has what was known, as `known`, a Knowledge. Lives in memory only."""
    return [case.model_copy(update={"request": {**case.request, "known": _known_then(case.request)}}) for case in shown]


def _known_then(request: Mapping[str, Any]) -> KnownThen:
    return KnownThen(request.get("known") or {}, known_texts=request.get("texts") or {})
