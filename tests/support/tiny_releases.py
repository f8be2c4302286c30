"""A release of each system but video, small enough to make at once, as the objects of a registry that serves it."""

from __future__ import annotations

import time
from collections.abc import Mapping

import tiny_ads
import tiny_moderation
import tiny_suggestions
from tiny_models import manifest

from twinloop.contracts.artefacts import ComponentManifest, release_schema
from twinloop.features.schema import schema_hash
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.training import lexical_index
from twinloop.training.corpus import corpus_of_rows

Components = Mapping[str, Mapping[str, bytes]]


def _search() -> Components:
    rows = [
        {"item_id": "p-10", "title": "Walking shoes, red", "attributes": {"brand": "Alder", "price": 59.9}},
        {"item_id": "p-11", "title": "Rain jacket", "attributes": {"brand": "Birch", "price": 120}},
    ]
    corpus = corpus_of_rows(rows)
    index = lexical_index.build_index(corpus)
    facts = {"system": "search", "rung": "bm25", "schema_hash": schema_hash(()), "context_names": ()}
    facts |= {"inputs": ["documents", "impacts"], "outputs": ["scores"], "feature_names": ()}
    files = {"model.onnx": lexical_index.scoring_graph(index.size), "metrics.json": b"{}"}
    files |= lexical_index.index_files(corpus, index)
    return {"index": files | {"manifest.json": manifest("index", **facts)}}


def _suggestions() -> Components:
    ahead_h = (time.time() * 1000 - tiny_suggestions.NOW_MS) / tiny_suggestions.HOUR_MS + 48  # of this very day
    made: Components = tiny_suggestions.files([tiny_suggestions.event("e7", in_h=ahead_h)])
    return made


FILES = {"ads": tiny_ads.files, "search": _search, "moderation": tiny_moderation.files, "suggestions": _suggestions}


def serving(system: str) -> MemoryObjectStore:
    """Return a bucket with the registry of one of these systems, whose champion is its release."""
    store, parts = MemoryObjectStore(), FILES[system]()
    registry = Registry(store, system)
    versions = {name: registry.register_component(name, dict(files)) for name, files in parts.items()}
    told = [ComponentManifest.model_validate_json(files["manifest.json"]) for files in parts.values()]
    draft = registry.draft_release(
        rung=told[0].rung, snapshot_id=told[0].snapshot_id, schema_hash=release_schema(told), components=versions
    )
    registry.register_release(draft, {})
    registry.promote(draft.version, why="tests", by="tests")
    return store
