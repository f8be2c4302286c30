"""A snapshot folder -> arrays. Positives only, of the train and the validation split; a job never opens test."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.history import POSITIVE
from twinloop.errors import BadInputError
from twinloop.training.events import Events, Floats32, Ints

_COLUMNS = ["user_id", "item_id", "time_ms", "strength"]
_PIECE_ROWS = 100_000


@dataclass(frozen=True)
class Moments:
    """What the snapshot's features said of users at the moments of their events, before anything of that moment.

    Attributes:
        names: The features: every single number that is known of users.
        users, times: Of each moment, in the order of (user, time); epoch milliseconds.
        values: float32[moments, names].
    """

    names: tuple[str, ...]
    users: Ints
    times: Ints
    values: Floats32

    def at(self, user: int, time_ms: int) -> Floats32:
        """Return the features of a user at the moment of one of their events, float32[names]."""
        begin, end = np.searchsorted(self.users, (user, user + 1))
        place = begin + int(np.searchsorted(self.times[begin:end], time_ms))
        if place == end or self.times[place] != time_ms:
            raise BadInputError(f"the snapshot holds no event of user {user} at {time_ms}")
        return np.asarray(self.values[place])


@dataclass(frozen=True)
class Items:
    """The model's vocabulary: items with at least one positive event, ordered by id. Index = the model's item index."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Snapshot:
    """What a job fits: `train` alone while it chooses, `everything` (train + validation) for what is served.

    `user_ids` are in the order of the events' user numbers; `folder` is where all this was read.
    """

    manifest: SnapshotManifest
    items: Items
    train: Events
    validation: Events
    moments: Moments
    user_ids: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def everything(self) -> Events:
        """Train and validation events together."""
        return Events.join(self.train, self.validation)


def read_snapshot(folder: Path) -> Snapshot:
    """Read what jobs may see.

    Raises:
        BadInputError: A file or column is missing or broken, or there is not one positive event to learn from.
    """
    manifest = read_manifest(folder)
    names = context_names(manifest)
    splits = {name: _positives(folder / name / "interactions.parquet", names) for name in ("train", "validation")}
    both = pa.concat_tables(splits.values())
    if not splits["train"].num_rows:
        raise BadInputError(
            f"snapshot {manifest.snapshot_id} has no positive event to train on: load events "
            "(`twinloop load`), look at what was rejected (`twinloop lake`), then take a new snapshot"
        )
    item_ids = _vocabulary(both["item_id"])
    user_ids = _vocabulary(both["user_id"])
    events = [
        Events.sort(
            users=_indices(table["user_id"], user_ids),
            items=_indices(table["item_id"], item_ids),
            times=table["time_ms"].to_numpy(),
            n_users=len(user_ids),
            n_items=len(item_ids),
        )
        for table in splits.values()
    ]
    train, validation = events
    items = _items(folder / "items" / "items.parquet", item_ids)
    moments = _moments(both, user_ids, names)
    return Snapshot(manifest, items, train, validation, moments, tuple(user_ids.to_pylist()), folder)


def context_names(manifest: SnapshotManifest) -> tuple[str, ...]:
    """Return the features that a model can be asked with: single numbers that are known of users, also online."""
    return tuple(f.name for f in manifest.features if f.entity == "user" and f.kind != "last_n")


def _moments(rows: pa.Table, user_ids: pa.Array, names: tuple[str, ...]) -> Moments:
    users, times = _indices(rows["user_id"], user_ids), rows["time_ms"].to_numpy()
    order = np.lexsort((times, users))
    users, times = users[order], times[order]
    fresh = np.ones(len(users), dtype=bool)
    fresh[1:] = (np.diff(users) != 0) | (np.diff(times) != 0)  # rows of one moment say the same
    kept = order[fresh]
    values = np.empty((len(kept), len(names)), np.float32)
    for place, name in enumerate(names):  # one at a time: of many rows, copies of all columns are most of the memory
        values[:, place] = rows[name].to_numpy()[kept]
        if not np.isfinite(values[:, place]).all():
            raise BadInputError("a feature of the snapshot has values that are not finite numbers; take a new snapshot")
    return Moments(names, users[fresh], times[fresh], values)


def read_manifest(folder: Path) -> SnapshotManifest:
    """Return a snapshot's manifest; raises BadInputError where there is none that can be read."""
    path = folder / "manifest.json"
    if not path.exists():
        raise BadInputError(f"{folder} is no snapshot: it has no manifest.json")
    try:
        return SnapshotManifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInputError(f"manifest.json of the snapshot: {first['loc']}: {first['msg']}") from error


def _pieces(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield a file's rows in pieces that bound the memory, an empty one first."""
    if not path.exists():
        raise BadInputError(f"the snapshot has no {path.parent.name}/{path.name}")
    try:
        with pq.ParquetFile(path) as file:
            missing = sorted(set(columns) - set(file.schema_arrow.names))
            if missing:
                raise BadInputError(f"{path.parent.name}/{path.name} has no column {', '.join(missing)}")
            yield file.schema_arrow.empty_table().select(list(columns))
            for batch in file.iter_batches(_PIECE_ROWS, columns=list(columns)):
                yield pa.Table.from_batches([batch]).select(list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(f"{path.parent.name}/{path.name} is not readable Parquet: {error}") from error


def _positives(path: Path, features: Sequence[str]) -> pa.Table:
    columns = [*_COLUMNS, *features]
    types = {"user_id": pa.string(), "item_id": pa.string(), "time_ms": pa.int64()}
    types |= dict.fromkeys(features, pa.float32())
    chosen = []
    for piece in _pieces(path, columns):
        if any(piece[name].null_count for name in columns):
            raise BadInputError(
                f"{path.parent.name}/{path.name} has rows without a value in one of {', '.join(columns)}"
            )
        positive = piece.filter(pc.greater_equal(piece["strength"], POSITIVE)).drop_columns(["strength"])
        chosen.append(positive.cast(pa.schema(list(types.items()))))
    return pa.concat_tables(chosen)


def _vocabulary(column: pa.ChunkedArray) -> pa.Array:
    values = column.unique()
    return values.take(pc.sort_indices(values))


def _indices(column: pa.ChunkedArray, vocabulary: pa.Array) -> Ints:
    return np.asarray(pc.index_in(column, vocabulary).to_numpy(), dtype=np.int64)


def _items(path: Path, ids: pa.Array) -> Items:
    """Attach titles and tags; an item that events name and the catalogue does not is known by its id."""
    table = pa.concat_tables(_pieces(path, ["item_id", "title", "tags"]))
    place = pc.index_in(ids, table["item_id"].combine_chunks())
    titles = table["title"].take(place).to_pylist()
    tags = table["tags"].take(place).to_pylist()
    names = ids.to_pylist()
    return Items(
        tuple(names),
        tuple(_clean(title) or name for name, title in zip(names, titles, strict=True)),
        tuple(tuple(tag for tag in given or () if tag) for given in tags),
    )


def _clean(title: str | None) -> str:
    return re.sub(r"\s+", " ", title or "").strip()
