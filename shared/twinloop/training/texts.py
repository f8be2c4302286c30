"""Labelled texts of a snapshot, as jobs learn from them: normalised, with what is known of each label and no more."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.examples import SLICES
from twinloop.contracts.text import TextInputs
from twinloop.errors import BadInputError
from twinloop.text.disguises import normalise, windows
from twinloop.text.ngrams import Counted, counted
from twinloop.training.config import JobConfig
from twinloop.training.examples import ExamplesSnapshot, Part, open_examples

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

POSITIVE = 0.5  # a label is there where at least half of those who were asked say so


class TextConfig(JobConfig):
    """What every job that learns to tell labels of texts can be told."""

    least_positives: int = Field(
        10, ge=1, description="Examples that must have a label for it to be learnt; others are left out."
    )
    limit_recall: float = Field(0.8, gt=0, le=1, description="Of the threshold of `limit`, on held-out texts.")
    review_precision: float = Field(0.6, gt=0, le=1, description="Of the threshold of `review`.")
    remove_precision: float = Field(0.9, gt=0, le=1, description="Of the threshold of `remove`.")
    most_false: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Of held-out examples without the label, the most that `limit` or `review` reaches.",
    )
    most_removed: float = Field(0.02, gt=0, le=1, description="The same of `remove`.")


@dataclass(frozen=True)
class Labelled:
    """Texts and what is known of them.

    Attributes:
        texts: Normalised.
        targets: float64[N, L]: share of those who were asked that saw the label; NaN where nobody was asked.
        groups: int64[N]: texts of one group are not to be divided.
        slices: Of each text, those of the slices in `contracts.examples` that it is in; empty: of none.
    """

    texts: tuple[str, ...]
    targets: Floats
    groups: Ints
    slices: tuple[frozenset[str], ...] = ()

    def __post_init__(self) -> None:
        """Take texts of which no slices are told for texts in none."""
        if not self.slices:
            object.__setattr__(self, "slices", (frozenset(),) * len(self.texts))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def clean(self) -> Flags:
        """Which texts have none of the labels that people were asked about, bool[N]; none where nobody was asked."""
        known = ~np.isnan(self.targets)
        return np.asarray(known.any(1) & ~(known & (np.nan_to_num(self.targets) >= POSITIVE)).any(1))

    def take(self, chosen: NDArray[np.int64]) -> Labelled:
        """Return the rows at these places."""
        return Labelled(
            tuple(self.texts[place] for place in chosen),
            self.targets[chosen],
            self.groups[chosen],
            tuple(self.slices[place] for place in chosen),
        )

    def join(self, other: Labelled) -> Labelled:
        """Return the rows of both, these first."""
        targets = np.concatenate([self.targets, other.targets])
        groups = np.concatenate([self.groups, other.groups])
        return Labelled(self.texts + other.texts, targets, groups, self.slices + other.slices)

    def folds(self, count: int) -> Ints:
        """Return which of `count` folds each row is in; a group is in one, the same one always."""
        return (self.groups * 2_654_435_761 >> 7) % count


@dataclass(frozen=True)
class Texts:
    """A snapshot of labelled texts: `labels` by name, in the order of the columns of targets."""

    snapshot: ExamplesSnapshot
    labels: tuple[str, ...]
    train: Labelled
    validation: Labelled

    @property
    def manifest(self) -> SnapshotManifest:
        """The snapshot's."""
        return self.snapshot.manifest


def open_texts(folder: Path, *, least_positives: int) -> Texts:
    """Read what jobs may see of a snapshot of labelled texts.

    Raises:
        BadInputError: It cannot be read, or no label has as many positive examples.
    """
    snapshot = open_examples(folder)
    parts: tuple[Part, ...] = ("train", "validation")
    tables = {part: _checked(snapshot.read(part), part) for part in parts}
    given: dict[str, int] = {}
    for labels, values in zip(
        tables["train"]["labels"].to_pylist(), tables["train"]["values"].to_pylist(), strict=True
    ):
        for label, value in zip(labels, values, strict=True):
            given[label] = given.get(label, 0) + (value >= POSITIVE)
    names = tuple(sorted(label for label, count in given.items() if count >= least_positives))
    if not names:
        raise BadInputError(
            f"no label has {least_positives} positive examples to learn from ({given or 'there is no label'}); load "
            "more labels, or set least_positives lower"
        )
    return Texts(snapshot, names, *(_labelled(tables[part], names) for part in parts))


def _checked(table: pa.Table, part: str) -> pa.Table:
    missing = {"text", "labels", "values", "group_id"} - set(table.column_names)
    if missing:
        raise BadInputError(f"{part}/examples.parquet has no column {', '.join(sorted(missing))}")
    return table


def _labelled(table: pa.Table, names: Sequence[str]) -> Labelled:
    places = {name: place for place, name in enumerate(names)}
    targets = np.full((table.num_rows, len(names)), np.nan)
    rows = zip(table["labels"].to_pylist(), table["values"].to_pylist(), strict=True)
    for row, (labels, values) in enumerate(rows):
        for label, value in zip(labels, values, strict=True):
            if label in places:
                targets[row, places[label]] = value
    texts = tuple(normalise(text or "") for text in table["text"].to_pylist())
    groups = np.array([zlib.crc32(group.encode()) for group in table["group_id"].to_pylist()], np.int64)
    told = table[SLICES].to_pylist() if SLICES in table.column_names else []
    return Labelled(texts, targets, groups, tuple(frozenset(one or ()) for one in told))


def first_windows(texts: Sequence[str], inputs: TextInputs) -> list[str]:
    """Return what is learnt from of each text: nobody said which part of a long one a label is of."""
    return [windows(text, inputs)[0] for text in texts]


def ngrams(texts: Sequence[str], inputs: TextInputs) -> list[Counted]:
    """Return the n-grams of each text."""
    return [counted(text, inputs) for text in first_windows(texts, inputs)]


def as_matrix(rows: Sequence[Counted], buckets: int) -> sp.csr_matrix:
    """Return counts as a sparse matrix, float64[N, buckets]."""
    ends = np.cumsum([0, *(len(row.ids) for row in rows)])
    if not rows:
        return sp.csr_matrix((0, buckets))
    data = np.concatenate([row.counts for row in rows]).astype(np.float64)
    return sp.csr_matrix((data, np.concatenate([row.ids for row in rows]), ends), shape=(len(rows), buckets))
