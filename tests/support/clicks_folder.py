"""Writes the folder of a snapshot of ads: impressions by part, with texts, context and features, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.features import Feature
from twinloop.contracts.outcomes import OutcomesTold
from twinloop.features.hashing import Field, Hashed
from twinloop.features.schema import feature_versions, schema_hash

START_MS = 1_700_000_000_000
KNOWN = (
    Feature(name="item_click_rate", entity="item", kind="rate", of="clicks", per="impressions", description="Rate."),
    Feature(name="user_shown", entity="user", kind="total", of="impressions", description="Times."),
    Feature(name="user_last", entity="user", kind="last_n", length=3, description="No number: not asked with."),
)
NAMES = ("item_click_rate", "user_shown")
HASHED = Hashed(
    fields=(
        Field("user", ("user_id",)),
        Field("item", ("item_id",)),
        Field("advertiser", ("items.advertiser_id",)),
        Field("page", ("context.page",)),
        Field("advertiser_page", ("items.advertiser_id", "context.page")),
    ),
    buckets=2**12,
)
PARTS = ("train", "validation", "test")

Columns = dict[str, Any]


def draw(count: int = 6000, *, users: int = 200, items: int = 40, seed: int = 3) -> tuple[Columns, np.ndarray]:
    """Impressions in order of time whose click depends on advertiser and page together, and the true chances."""
    rng = np.random.default_rng(seed)
    user, item, page = rng.integers(0, users, count), rng.integers(0, items, count), rng.integers(0, 4, count)
    advertiser = item % 8
    told_rate = rng.random(count)
    # A cross that neither part says alone, a main effect of the advertiser, and a feature.
    at = -2.0 + 1.6 * (((advertiser + page) % 2 == 0) * 2.0 - 1) + 0.2 * (advertiser - 3.5) + 1.5 * (told_rate - 0.5)
    chance = 1 / (1 + np.exp(-at))
    known = told_rate.astype(np.float32)
    known[rng.random(count) < 0.02] = np.nan
    rows: Columns = {
        "user_id": [f"u{n}" for n in user],
        "item_id": [f"i{n}" for n in item],
        "time_ms": START_MS + np.arange(count) * 1000,
        "position": np.full(count, -1, np.int32),
        "context_page": [None if n == 3 else json.dumps(f"Page {n}") for n in page],
        "text_items_advertiser_id": [None if n == 7 else f"a{n}" for n in advertiser],
        "label_click": (rng.random(count) < chance).astype(np.float32),
        "item_click_rate": known,
        "user_shown": rng.integers(0, 100, count).astype(np.float32),
    }
    return rows, chance


def part_of(rows: Columns, share: tuple[float, float] = (0.6, 0.8)) -> dict[str, Columns]:
    """Return train, validation and test by time."""
    count = len(rows["user_id"])
    edges = [0, int(count * share[0]), int(count * share[1]), count]
    return {
        part: {name: values[begin:end] for name, values in rows.items()}
        for part, begin, end in zip(PARTS, edges[:-1], edges[1:], strict=True)
    }


def write(
    folder: Path,
    parts: dict[str, Columns],
    change: Callable[[SnapshotManifest], SnapshotManifest] = lambda manifest: manifest,
) -> Path:
    """Write a snapshot, its rows ordered as snapshots are."""
    for part, rows in parts.items():
        (folder / part).mkdir(parents=True)
        table = pa.table(rows).sort_by([("user_id", "ascending"), ("time_ms", "ascending"), ("item_id", "ascending")])
        pq.write_table(table, folder / part / "impressions.parquet", row_group_size=700)
    manifest = SnapshotManifest(
        snapshot_id="0123456789abcdef",
        system="ads",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        lake_files=(),
        files=(),
        rows={},
        first_event=datetime(2025, 1, 1, tzinfo=UTC),
        last_event=datetime(2026, 1, 1, tzinfo=UTC),
        split={"strategy": "global"},
        feature_versions=feature_versions(KNOWN),
        schema_hash=schema_hash(KNOWN),
        features=(),
        history_length=50,
        outcomes=OutcomesTold(labels=("click",), window_minutes=60, context=("page",), hashed=HASHED),
        known_features=KNOWN,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(change(manifest).model_dump_json())
    return folder


def simple(folder: Path, count: int = 6000, **how: Any) -> Path:
    """Write what `draw` draws."""
    return write(folder, part_of(draw(count, **how)[0]))
