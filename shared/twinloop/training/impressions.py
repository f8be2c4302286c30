"""What was shown and what became of it, of the train and the validation split; a job never opens test."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinloop.contracts.features import Feature
from twinloop.contracts.history import POSITIVE
from twinloop.contracts.segments import segment_value
from twinloop.errors import BadInputError
from twinloop.training.events import Events, Floats32, Ints
from twinloop.training.snapshot import Snapshot

FILE = "impressions.parquet"
_ENOUGH_SHOWN = 100  # impressions with a value of a fact, for it to be told from others
_MOST_VALUES = 1_000
LABELS = ("click", "long_watch", "watch_s")
_LESSON_COLUMNS = ("user_id", "item_id", "time_ms", "strength")


@dataclass(frozen=True)
class Impressions:
    """Impressions ordered by (user, time, item), each once.

    Attributes:
        users, items: Numbers of the snapshot's users and items; -1 where it does not know them.
        times: Epoch milliseconds.
        positions: 0-based; -1 where it is not known.
        situation: int64[n, facts]: places of the facts' values, from 1; 0 for others.
        known: float32[n, features]; NaN where a value is not known.
        click, long_watch: 0 or 1.
        watch_s: Seconds.
    """

    users: Ints
    items: Ints
    times: Ints
    positions: Ints
    situation: Ints
    known: Floats32
    click: Floats32
    long_watch: Floats32
    watch_s: Floats32

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def join(cls, a: Impressions, b: Impressions) -> Impressions:
        """Return the impressions of both splits."""
        return cls(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Lessons:
    """What users thought of items before anything of the impressions: rows that teach tastes alone."""

    users: Ints
    items: Ints
    times: Ints
    liked: Floats32

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Shown:
    """What a job learns engagement from.

    Attributes:
        features: Definitions of the columns of `known`.
        situation: Facts of the moment, each with the values that enough of the train split's impressions have.
        train, validation: Impressions.
        lessons: From before the first impression.
        likes: Positive events of both splits: the history of any moment is what came strictly before it.
    """

    features: tuple[Feature, ...]
    situation: dict[str, tuple[str, ...]]
    train: Impressions
    validation: Impressions
    lessons: Lessons
    likes: Events


def read_impressions(snapshot: Snapshot) -> Shown:
    """Read the impressions of a snapshot that was read from a folder.

    Raises:
        BadInputError: There are none to train on, or a file or value of them is broken.
    """
    manifest, folder = snapshot.manifest, snapshot.folder
    features = tuple(feature for feature in manifest.known_features if feature.kind != "last_n")
    if folder is None or not (folder / "train" / FILE).exists():
        raise nothing_shown(manifest.snapshot_id)
    vocabularies = pa.array(snapshot.user_ids, pa.string()), pa.array(snapshot.items.ids, pa.string())
    facts = manifest.outcomes.context if manifest.outcomes is not None else ()
    situation = _situation(folder / "train" / FILE, facts)
    train, validation = (
        _impressions(folder / part / FILE, features, situation, vocabularies) for part in ("train", "validation")
    )
    if not len(train):
        raise nothing_shown(manifest.snapshot_id)
    first = min(int(part.times.min()) for part in (train, validation) if len(part))
    lessons = _lessons(folder / "train" / "interactions.parquet", vocabularies, first)
    return Shown(features, situation, train, validation, lessons, snapshot.everything)


def nothing_shown(snapshot_id: str) -> BadInputError:
    """Return the error of a snapshot that has no impression to train on."""
    return BadInputError(
        f"this rung learns from impressions; snapshot {snapshot_id} has none to train on: send events of type "
        "'impression' with what users then did, or leave this rung out"
    )


def _situation(path: Path, facts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the facts that have at least two values worth telling apart, or one that some impressions lack."""
    found = {}
    for name in facts:
        column = _read(path, [f"context_{name}"]).column(0)
        told: Counter[str] = Counter()
        for entry in column.value_counts().to_pylist():
            value = _value(entry["values"])
            if value is not None:
                told[value] += entry["counts"]
        often = [value for value, count in told.most_common(_MOST_VALUES) if count >= _ENOUGH_SHOWN]
        if often and (len(told) > 1 or told.total() < len(column)):
            found[name] = tuple(sorted(often))
    return found


def _value(text: str | None) -> str | None:
    """Return a fact that is JSON text by the name that serving gives it."""
    return segment_value(json.loads(text)) if text is not None else None


def _places(column: pa.ChunkedArray, values: Sequence[str]) -> Ints:
    place = {value: number for number, value in enumerate(values, start=1)}
    coded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    of_code = [place.get(_value(text) or "", 0) for text in coded.dictionary.to_pylist()]
    return np.asarray(np.array(of_code or [0], np.int64)[np.asarray(coded.indices)])


def _impressions(
    path: Path,
    features: tuple[Feature, ...],
    situation: Mapping[str, Sequence[str]],
    vocabularies: tuple[pa.Array, pa.Array],
) -> Impressions:
    """Read one split; a file that is not there is a split without impressions."""
    names = [feature.name for feature in features]
    numbers = [*(f"label_{name}" for name in LABELS), *names]
    facts = [f"context_{name}" for name in situation]
    columns = ["user_id", "item_id", "time_ms", "position", *numbers, *facts]
    if not path.exists():
        texts = {"user_id", "item_id", *facts}
        table = pa.table({name: pa.array([], pa.string() if name in texts else pa.float64()) for name in columns})
    else:
        table = _read(path, columns)
    where = f"{path.parent.name}/{path.name}"
    empty = [name for name in columns if name not in (*names, *facts) and table[name].null_count]
    if empty:
        raise BadInputError(f"{where} has rows without a value in {', '.join(empty)}; take a new snapshot")
    users, items = (
        _numbers(table[name], vocabulary) for name, vocabulary in zip(("user_id", "item_id"), vocabularies, strict=True)
    )
    times = table["time_ms"].cast(pa.int64()).to_numpy()
    ids = [table[name].combine_chunks() for name in ("user_id", "item_id")]
    # By ids and not by numbers: those who are not known are still different people.
    order = np.asarray(
        pc.sort_indices(
            pa.table({"u": ids[0], "t": times, "i": ids[1]}),
            [("u", "ascending"), ("t", "ascending"), ("i", "ascending")],
        )
    )
    codes = [np.asarray(pc.dictionary_encode(part).indices)[order] for part in ids]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(codes[0]) != 0) | (np.diff(times[order]) != 0) | (np.diff(codes[1]) != 0)
    kept = order[fresh]
    values = {name: table[name].cast(pa.float32()).to_numpy()[kept] for name in numbers}
    labels = [values[f"label_{name}"] for name in LABELS]
    for name, label in zip(LABELS, labels, strict=True):
        if not np.isfinite(label).all() or (label < 0).any() or (name != "watch_s" and (label > 1).any()):
            raise BadInputError(f"{where}: label_{name} has values that are no outcome; take a new snapshot")
    known = np.stack([values[name] for name in names], axis=1) if names else np.zeros((len(kept), 0), np.float32)
    positions = np.maximum(table["position"].cast(pa.int64()).to_numpy()[kept], -1)
    told = [_places(table[f"context_{name}"], values)[kept] for name, values in situation.items()]
    moments = np.stack(told, axis=1) if told else np.zeros((len(kept), 0), np.int64)
    return Impressions(users[kept], items[kept], times[kept], positions, moments, known, *labels)


def _lessons(path: Path, vocabularies: tuple[pa.Array, pa.Array], before: int) -> Lessons:
    table = _read(path, list(_LESSON_COLUMNS))
    table = table.filter(pc.less(table["time_ms"], before))
    users, items = (
        _numbers(table[name], vocabulary) for name, vocabulary in zip(("user_id", "item_id"), vocabularies, strict=True)
    )
    liked = (table["strength"].to_numpy() >= POSITIVE).astype(np.float32)
    return Lessons(users, items, table["time_ms"].to_numpy(), liked)


def _read(path: Path, columns: list[str]) -> pa.Table:
    where = f"{path.parent.name}/{path.name}"
    try:
        missing = sorted(set(columns) - set(pq.read_schema(path).names))
        if missing:
            raise BadInputError(f"{where} has no column {', '.join(missing)}")
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(f"{where} is not readable Parquet: {error}") from error


def _numbers(column: pa.ChunkedArray, vocabulary: pa.Array) -> Ints:
    """Return places in the vocabulary, -1 for what it does not hold."""
    found = pc.fill_null(pc.index_in(column.cast(pa.string()), vocabulary), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)
