"""Writes the folder of a snapshot with impressions, as `snapshot_folder` does without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import snapshot_folder

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.features import Feature
from twinloop.contracts.outcomes import OutcomesTold

START_MS = 1_700_000_000_000
LABELS = ("click", "long_watch", "watch_s")
KNOWN = (
    Feature(name="item_rate", entity="item", kind="rate", of="clicks", per="impressions", description="Of clicks."),
    Feature(name="item_duration_s", entity="item", kind="attribute", attribute="duration_s", description="Length."),
    Feature(name="user_last", entity="user", kind="last_n", length=3, description="No number: not asked with."),
)
NAMES = ("item_rate", "item_duration_s")

Rows = dict[str, Any]


def draw(users: int = 40, items: int = 30, each: int = 30, seed: int = 3) -> Rows:
    """Impressions of users of two tastes, who click what is of theirs; half of the videos are ten times as long."""
    rng = np.random.default_rng(seed)
    count = users * each
    user, item = np.repeat(np.arange(users), each), rng.integers(0, items, count)
    time = START_MS + 3_600_000 + np.tile(np.arange(each), users) * 60_000
    mine = user % 2 == item % 2
    click = (rng.random(count) < np.where(mine, 0.8, 0.1)).astype(np.float32)
    duration = np.where(item < items // 2, 10.0, 100.0)
    watch = np.where(click > 0, rng.random(count) * duration, 0)
    return {
        "user_id": [f"u{n}" for n in user],
        "item_id": [f"i{n:02}" for n in item],
        "time_ms": time,
        "position": rng.integers(0, 10, count).astype(np.int32),
        "label_click": click,
        "label_long_watch": (watch >= duration / 2).astype(np.float32) * (watch > 0),
        "label_watch_s": watch,
        "item_rate": rng.random(count),
        "item_duration_s": duration,
    }


def write(
    folder: Path,
    shown: Mapping[str, Rows | pa.Table],
    *,
    users: int = 40,
    items: int = 30,
    change: Callable[[SnapshotManifest], SnapshotManifest] = lambda manifest: manifest,
) -> Path:
    """Write a snapshot: what each user liked before the impressions, and the impressions of each split in `shown`."""
    train: list[snapshot_folder.Row] = []
    validation: list[snapshot_folder.Row] = []
    rng = np.random.default_rng(1)
    for user in range(users):
        mine = rng.permutation(np.arange(user % 2, items, 2))[:12]
        rows = [(f"u{user}", f"i{item:02}", START_MS + 1000 * step, 1.0) for step, item in enumerate(mine)]
        other = (int(mine[0]) + 1) % items
        train += [*rows[:9], (f"u{user}", f"i{other:02}", START_MS + 500, 0.0)]
        validation += [(who, what, when + 90_000_000, liked) for who, what, when, liked in rows[9:]]
    titles = {f"i{item:02}": f"Title {item}" for item in range(items)}
    tags = {f"i{item:02}": [f"t{item % 2}"] for item in range(items)}
    snapshot_folder.write(folder, train, validation, titles=titles, tags=tags)
    for split, rows in shown.items():
        table = rows if isinstance(rows, pa.Table) else table_of(rows)
        pq.write_table(table, folder / split / "impressions.parquet")
    path = folder / "manifest.json"
    manifest = SnapshotManifest.model_validate_json(path.read_bytes())
    facts = tuple(sorted(name.removeprefix("context_") for rows in shown.values() for name in _named(rows)))
    told = OutcomesTold(labels=LABELS, window_minutes=60, item_facts=(), context=tuple(dict.fromkeys(facts)))
    manifest = manifest.model_copy(update={"outcomes": told, "known_features": KNOWN})
    path.write_text(change(manifest).model_dump_json())
    return folder


def _named(rows: Rows | pa.Table) -> list[str]:
    names = rows.column_names if isinstance(rows, pa.Table) else rows
    return [name for name in names if name.startswith("context_")]


def table_of(rows: Rows) -> pa.Table:
    """Return impressions as a snapshot has them: sorted, and with its types."""
    table = pa.table(rows)
    floats = {name: pa.float32() for name in table.column_names if name.startswith("label_") or name in NAMES}
    schema = pa.schema([(name, floats.get(name, table.schema.field(name).type)) for name in table.column_names])
    return table.cast(schema).sort_by([("user_id", "ascending"), ("time_ms", "ascending"), ("item_id", "ascending")])


def part(rows: Rows, mask: np.ndarray) -> Rows:
    """Return some of the rows."""
    return {name: np.asarray(values)[mask] for name, values in rows.items()}


def halves(rows: Rows, share: float = 0.8) -> dict[str, Rows]:
    """Return the earlier impressions as train and the later ones as validation."""
    times = np.asarray(rows["time_ms"])
    early = times < np.quantile(times, share)
    return {"train": part(rows, early), "validation": part(rows, ~early)}
