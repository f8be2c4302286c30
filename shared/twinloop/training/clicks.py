"""Impressions of a snapshot as a click model learns from them: hashed ids, known features, and what was clicked.

Read in pieces, so that the memory is that of the arrays. A job never opens test; what judges may.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.features import Feature
from twinloop.contracts.hashing import Hashed
from twinloop.contracts.outcomes import text_column
from twinloop.contracts.segments import segment_value
from twinloop.errors import BadInputError
from twinloop.features.hashing import Coded, hashed
from twinloop.training.config import JobConfig
from twinloop.training.events import Floats32, Ints
from twinloop.training.impressions import FILE, nothing_shown
from twinloop.training.snapshot import read_manifest

LABEL = "label_click"
_PIECE_ROWS = 100_000

Part = Literal["train", "validation", "test"]


class ClickConfig(JobConfig):
    """What every job that fits a model of clicks can be told."""

    negatives: float = Field(
        1.0, gt=0, le=1, description="Share of the impressions without a click that is learnt from; drawn by the seed."
    )


@dataclass(frozen=True)
class Rows:
    """Impressions by time, and at one moment as the snapshot has them.

    Attributes:
        ids: int64[N, F]: hashed fields.
        known: float32[N, S]; NaN where a value is not known.
        clicked: float32[N], 0 or 1.
        times: int64[N], epoch milliseconds.
        users: int64[N]: a checksum of the user, which is the same in every part.
    """

    ids: Ints
    known: Floats32
    clicked: Floats32
    times: Ints
    users: Ints

    def __len__(self) -> int:
        return len(self.clicked)

    def take(self, chosen: NDArray[Any]) -> Rows:
        """Return some of the rows: a mask, or places."""
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @classmethod
    def join(cls, a: Rows, b: Rows) -> Rows:
        """Return the rows of both, those of `a` first."""
        return cls(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in cls.__dataclass_fields__))

    @property
    def half(self) -> Ints:
        """In which half of the users each row is, 0 or 1; by a hash, so the same ones everywhere."""
        # Not of the checksum itself: its bits are sums of the id's, and of numbered ids one can be the same for all.
        mixed = (self.users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(63)
        return mixed.astype(np.int64)

    def halves(self) -> tuple[Rows, Rows]:
        """Return the rows of one half of the users, and those of the other."""
        return self.take(self.half == 0), self.take(self.half == 1)

    def later(self, until: tuple[int, int]) -> Rows:
        """Return the rows later than a moment, epoch milliseconds, which each half of the users has its own of."""
        return self.take(self.times > np.array(until)[self.half])

    @property
    def marks(self) -> NDArray[np.uint64]:
        """Return a hash of user, moment and ids, by which an impression is known again, uint64[N]."""
        mixed = self.users.astype(np.uint64)
        for column in (self.times, *self.ids.T):
            mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
        return mixed

    def thinned(self, negatives: float, seed: int) -> Rows:
        """Return every click, and that share of the other rows; see `calibration.sampling_offset`."""
        if negatives >= 1:
            return self
        drawn = np.random.default_rng(seed).random(len(self)) < negatives
        return self.take(drawn | (self.clicked > 0))


@dataclass(frozen=True)
class Clicks:
    """A snapshot's impressions, read when a part is asked for.

    Attributes:
        manifest: The snapshot's.
        folder: Where it is.
        features: Definitions of the columns of `Rows.known`.
        hashed: Definitions of the columns of `Rows.ids`; None: there are none.
    """

    manifest: SnapshotManifest
    folder: Path
    features: tuple[Feature, ...]
    hashed: Hashed | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(feature.name for feature in self.features)

    @property
    def buckets(self) -> int:
        """How many values an id can be hashed to; 0 where there are no ids."""
        return self.hashed.buckets if self.hashed is not None else 0

    def read(self, part: Part, *, after: tuple[int, int] = (-1, -1), and_clicked: bool = False) -> Rows:
        """Return the impressions of a part; none where it has no file.

        Args:
            part: Which.
            after: Of the users of each half, only impressions later than this, epoch milliseconds.
            and_clicked: And those of before that were clicked.

        Raises:
            BadInputError: The file or a value of it is broken.
        """
        path = self.folder / part / FILE
        if not path.exists():
            return self._empty(0)
        rows, end = self._empty(_length(path)), 0
        for batch in self._batches(path):
            if max(after) >= 0:  # before anything is made of them: hashing is what takes the time
                wanted = pc.greater(batch["time_ms"], min(after))
                if and_clicked:
                    wanted = pc.or_kleene(wanted, pc.greater(batch[LABEL], 0))
                batch = batch.filter(pc.fill_null(wanted, True))  # noqa: PLW2901
            begin, end = end, end + batch.num_rows
            self._fill(rows, slice(begin, end), batch, f"{part}/{FILE}")
        if max(after) >= 0:
            rows = rows.take(np.arange(end))
            later = rows.times > np.array(after)[rows.half]
            rows = rows.take(later | (rows.clicked > 0) if and_clicked else later)
        if not (np.diff(rows.times) >= 0).all():
            rows = rows.take(np.argsort(rows.times, kind="stable"))
        return rows

    def train(self) -> Rows:
        """Return the part to learn from; raises BadInputError where it is empty."""
        rows = self.read("train")
        if not len(rows):
            raise nothing_shown(self.manifest.snapshot_id)
        return rows

    def parts(self) -> tuple[Rows, Rows, Rows]:
        """Return train to learn from, half of validation's users to choose by, and the other half to calibrate by.

        Raises BadInputError where there is nothing to learn from.
        """
        return self.train(), *self.read("validation").halves()

    def _empty(self, count: int) -> Rows:
        fields = len(self.hashed.fields) if self.hashed is not None else 0
        return Rows(
            np.empty((count, fields), np.int64),
            np.empty((count, len(self.features)), np.float32),
            np.empty(count, np.float32),
            np.empty(count, np.int64),
            np.empty(count, np.int64),
        )

    def _batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        where = f"{path.parent.name}/{path.name}"
        parts = self.hashed.parts if self.hashed is not None else ()
        columns = dict.fromkeys(["user_id", "time_ms", LABEL, *map(_column, parts), *self.names])
        try:
            with pq.ParquetFile(path) as file:
                missing = sorted(columns.keys() - set(file.schema_arrow.names))
                if missing:
                    raise BadInputError(f"{where} has no column {', '.join(missing)}; take a new snapshot")
                yield from file.iter_batches(_PIECE_ROWS, columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise BadInputError(f"{where} is not readable Parquet: {error}") from error

    def _fill(self, rows: Rows, place: slice, batch: pa.RecordBatch, where: str) -> None:
        empty = [name for name in ("user_id", "time_ms", LABEL) if batch[name].null_count]
        if empty:
            raise BadInputError(f"{where} has rows without a value in {', '.join(empty)}; take a new snapshot")
        label = batch[LABEL].cast(pa.float32()).to_numpy(zero_copy_only=False)
        if not np.isin(label, (0.0, 1.0)).all():
            raise BadInputError(f"{where}: {LABEL} has values that are neither 0 nor 1; take a new snapshot")
        rows.clicked[place] = label
        rows.times[place] = batch["time_ms"].cast(pa.int64()).to_numpy()
        users = _coded(batch["user_id"])
        sums = [zlib.crc32((user or "").encode("utf-8", "surrogatepass")) for user in users.values]
        rows.users[place] = np.array(sums or [0], np.int64)[users.codes]
        for column, name in enumerate(self.names):
            rows.known[place, column] = batch[name].cast(pa.float32()).to_numpy(zero_copy_only=False)
        if self.hashed is not None:
            columns = {part: _facts(batch[_column(part)], part) for part in self.hashed.parts}
            rows.ids[place] = hashed(self.hashed.fields, self.hashed.buckets, columns, rows=batch.num_rows)


def open_clicks(folder: Path) -> Clicks:
    """Open a snapshot's impressions.

    Raises:
        BadInputError: It is no snapshot, or has nothing that was shown, or nothing is said of clicks.
    """
    manifest = read_manifest(folder)
    if manifest.outcomes is None:
        raise nothing_shown(manifest.snapshot_id)
    if LABEL.removeprefix("label_") not in manifest.outcomes.labels:
        raise BadInputError(f"snapshot {manifest.snapshot_id} says nothing of clicks: its system has no label 'click'")
    features = tuple(feature for feature in manifest.known_features if feature.kind != "last_n")
    if not features and manifest.outcomes.hashed is None:
        raise BadInputError(f"snapshot {manifest.snapshot_id} has neither features nor ids to tell clicks by")
    return Clicks(manifest, folder, features, manifest.outcomes.hashed)


def base_rate(clicked: NDArray[Any]) -> float:
    """Return (clicks + 1) / (rows + 2), Laplace's rule: never certain."""
    return (float(clicked.sum(dtype=np.float64)) + 1) / (len(clicked) + 2)


def _length(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(f"{path.parent.name}/{path.name} is not readable Parquet: {error}") from error


def _column(part: str) -> str:
    """Return the column of impressions that holds a part of a hashed field."""
    table, _, name = part.partition(".")
    if not name:
        return part
    return f"context_{name}" if table == "context" else text_column(part)


def _coded(column: pa.Array) -> Coded:
    found = column.cast(pa.string()).dictionary_encode(null_encoding="encode")
    return Coded(np.asarray(found.indices.to_numpy(zero_copy_only=False), np.int64), found.dictionary.to_pylist())


def _facts(column: pa.Array, part: str) -> Coded:
    """Return a column of a part; facts of the moment are JSON there, hashed by the names that serving gives them."""
    found = _coded(column)
    if not part.startswith("context."):
        return found
    return Coded(found.codes, [_fact(text) for text in found.values])


def _fact(text: str | None) -> str | None:
    return segment_value(json.loads(text)) if text is not None else None


def describe(rows: Sequence[Rows]) -> str:
    """Return a few words on rows, for a job's progress."""
    return ", ".join(f"{len(part)} impressions with {int(part.clicked.sum())} clicks" for part in rows)
