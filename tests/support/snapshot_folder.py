"""Writes the folder of a snapshot, as the snapshot function does and as a job finds it in its channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.features import Feature
from twinloop.features.offline import compute
from twinloop.features.schema import feature_versions, schema_hash

Row = tuple[str, str, int, float]
"""user, item, milliseconds, strength"""

HISTORY_LENGTH = 50
FEATURES = (
    Feature(name="likes", entity="user", kind="count", description="Everything liked before."),
    Feature(name="idle", entity="user", kind="recency", description="Days since the last event.", default=9.0),
    Feature(name="seen", entity="user", kind="last_n", description="No number: no model is asked with it.", length=3),
    Feature(name="fame", entity="item", kind="count", description="Of an item: not known of users."),
)
_EVENTS = pa.schema(
    {"user_id": pa.string(), "item_id": pa.string(), "time_ms": pa.int64(), "strength": pa.float32()}.items()
)
_ITEMS = pa.schema({"item_id": pa.string(), "title": pa.string(), "tags": pa.list_(pa.string())}.items())


def write(
    folder: Path,
    train: Sequence[Row],
    validation: Sequence[Row] = (),
    *,
    titles: Mapping[str, str | None] | None = None,
    tags: Mapping[str, list[str] | None] | None = None,
) -> Path:
    """Write a snapshot. Its test split is not readable: a job that opens it fails."""

    def table(rows: Sequence[Row]) -> pa.Table:
        return pa.table([[row[place] for row in rows] for place in range(4)], schema=_EVENTS)

    every = table([*train, *validation])
    for split, rows in (("train", train), ("validation", validation)):
        (folder / split).mkdir(parents=True)
        described = compute(every, table(rows), FEATURES, length=HISTORY_LENGTH)
        pq.write_table(described.sort_by("user_id"), folder / split / "interactions.parquet")
    (folder / "test").mkdir()
    (folder / "test" / "interactions.parquet").write_bytes(b"no job reads this")
    titles, tags = titles or {}, tags or {}
    ids = sorted({*titles, *tags})
    described = [ids, [titles.get(item) for item in ids], [tags.get(item) for item in ids]]
    (folder / "items").mkdir()
    pq.write_table(pa.table(described, schema=_ITEMS), folder / "items" / "items.parquet")
    manifest = SnapshotManifest(
        snapshot_id="0123456789abcdef",
        system="video",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        lake_files=(),
        files=(),
        rows={"train": len(train), "validation": len(validation)},
        first_event=datetime(2025, 1, 1, tzinfo=UTC),
        last_event=datetime(2026, 1, 1, tzinfo=UTC),
        split={"strategy": "per_user"},
        feature_versions=feature_versions(FEATURES),
        schema_hash=schema_hash(FEATURES),
        features=FEATURES,
        history_length=HISTORY_LENGTH,
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder
