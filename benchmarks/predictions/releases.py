"""Releases of such models, in a registry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from benchmarks.predictions.models import linear_retrieval, trees
from benchmarks.predictions.world import CONTEXT, FEATURES, ITEMS, NEW, RNG

from twinloop import systems
from twinloop.contracts.artefacts import ComponentManifest, Parity, release_schema
from twinloop.contracts.embeddings import pack_embeddings
from twinloop.contracts.hashing import Hashed
from twinloop.features.schema import chosen, schema_hash
from twinloop.ports import ObjectStore
from twinloop.registry.registry import Registry


def component(
    name: str,
    model: bytes,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    context: tuple[str, ...] = (),
    *,
    columns: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
    system: str = "video",
    of: Hashed | None = None,
) -> dict[str, bytes]:
    """Return a component's files around a model that is asked with these features of the user."""
    manifest = ComponentManifest(
        system=system,
        component=name,
        rung="xgboost_trees",
        framework="benchmark",
        snapshot_id="benchmark",
        schema_hash=schema_hash(chosen(systems.load(system).definitions, (*context, *known)), of),
        feature_versions={},
        seed=7,
        code_version="",
        library_versions={},
        hyperparameters={},
        inputs=inputs,
        outputs=outputs,
        feature_names=columns,
        context_names=context,
        known_names=known,
        hashed=of,
        parity=Parity(max_abs_diff=0, rows=1),
        trained_seconds=0,
    )
    return {"model.onnx": model, "manifest.json": manifest.model_dump_json().encode(), "metrics.json": b"{}"}


def release_files() -> dict[str, dict[str, bytes]]:
    """A release as video's: an item x item retrieval, and trees that rank its candidates."""
    asked, found = ("history", "times", "exclude", "context"), ("items", "scores", "features")
    retrieval_files = component("retrieval", linear_retrieval(), asked, found, CONTEXT)
    retrieval_files |= beside()
    return {
        "retrieval": retrieval_files,
        "ranking": component("ranking", trees(200, 5, FEATURES), ("features",), ("scores",), CONTEXT),
    }


def beside() -> dict[str, bytes]:
    """What stands beside a retrieval: the catalogue with authors, times, tags and new items, and their vectors."""

    def part(prefix: str, count: int) -> dict[str, Any]:
        return {
            "item_ids": [f"{prefix}{place}" for place in range(count)],
            "titles": [f"Title {place}" for place in range(count)],
            "authors": RNG.integers(0, 300, count).tolist(),
            "published_ms": RNG.integers(0, 10**12, count).tolist(),
            "tags": RNG.integers(0, 18, (count, 2)).tolist(),
        }

    popularity = RNG.integers(1, 500, ITEMS).tolist()
    items = part("i", ITEMS) | {
        "popularity": popularity, "tag_names": [f"t{n}" for n in range(18)], "new": part("n", NEW)
    }  # fmt: skip
    vectors = RNG.normal(size=(ITEMS + NEW, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {"items.json.gz": gzip.compress(json.dumps(items).encode()), "embeddings.bin": pack_embeddings(vectors)}


def promoted(store: ObjectStore, files: Mapping[str, Mapping[str, bytes]], system: str = "video") -> None:
    """Register the release and let it serve."""
    registry = Registry(store, system)
    components = {name: registry.register_component(name, parts) for name, parts in files.items()}
    schema = release_schema(ComponentManifest.model_validate_json(parts["manifest.json"]) for parts in files.values())
    draft = registry.draft_release(rung="b", snapshot_id="b", schema_hash=schema, components=components)
    registry.promote(registry.register_release(draft, {"metrics.json": b"{}"}), why="benchmark", by="benchmark")
