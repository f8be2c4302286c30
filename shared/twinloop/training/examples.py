"""A snapshot of labelled examples, as a job reads it. A job never opens test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.examples import FILE
from twinloop.errors import BadInputError
from twinloop.training.snapshot import read_manifest

Part = Literal["train", "validation"]


@dataclass(frozen=True)
class ExamplesSnapshot:
    """Where a snapshot's examples are, read when they are asked for.

    Attributes:
        manifest: The snapshot's; `example_columns` says what examples hold.
        folder: Where it is.
    """

    manifest: SnapshotManifest
    folder: Path

    def read(self, part: Part) -> pa.Table:
        """Return a part's examples, by group and id; of validation perhaps none.

        Raises BadInputError where the file is missing or broken, or does not hold what the manifest says.
        """
        table = _read(self.folder / part / FILE)
        names = [column.partition(":")[0] for column in self.manifest.example_columns]
        if table.column_names != names:
            raise BadInputError(f"{part}/{FILE} has not the columns of the manifest; take a new snapshot")
        expected = self.manifest.rows.get(f"{part}/examples")
        if table.num_rows != expected:
            raise BadInputError(f"{part}/{FILE} has {table.num_rows} rows, not {expected}; take a new snapshot")
        return table

    def items(self) -> pa.Table:
        """Return the latest row of each item, by id; raises BadInputError where the file cannot be read."""
        return _read(self.folder / "items" / "items.parquet")

    def users(self) -> pa.Table:
        """Return the latest row of each user, by id; raises BadInputError where the file cannot be read."""
        return _read(self.folder / "users" / "users.parquet")


def open_examples(folder: Path) -> ExamplesSnapshot:
    """Open a snapshot's examples; raises BadInputError where the folder is no snapshot, or has none."""
    manifest = read_manifest(folder)
    if not manifest.example_columns:
        raise BadInputError(
            f"snapshot {manifest.snapshot_id} has no examples: its system, {manifest.system}, learns from none"
        )
    return ExamplesSnapshot(manifest, folder)


def _read(path: Path) -> pa.Table:
    name = f"{path.parent.name}/{path.name}"
    if not path.exists():
        raise BadInputError(f"the snapshot has no {name}")
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(f"{name} is not readable Parquet: {error}") from error
