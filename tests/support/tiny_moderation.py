"""Releases of moderation small enough to check by hand, and a world of harmless texts in which some are spam."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto
from tiny_models import manifest

from twinloop.contracts.text import TextInputs
from twinloop.contracts.thresholds import LABELS, LabelTold, TextTold, Threshold
from twinloop.features.schema import schema_hash
from twinloop.features.snapshot import Resources, build_snapshot
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.systems.moderation.system import SYSTEM
from twinloop.text.ngrams import word_id
from twinloop.training.graphs import Graph
from twinloop.training.text_linear import LexiconModel, LinearModel
from twinloop.training.text_release import Calibrated

NOW = datetime(2025, 7, 1, tzinfo=UTC)
INPUTS = TextInputs(words=1, window=100, overlap=20, buckets=2**12)
PLAIN = ("garden", "weather", "train", "music", "bread", "river", "window", "winter", "letter", "bicycle")
SPAM = ("jackpot", "megadeal", "clicknow")


def files(*, inputs: TextInputs = INPUTS, **beside: bytes) -> dict[str, dict[str, bytes]]:
    """A release: a text with `jackpot` has the label spam at .95, one with `megadeal` also scam at .6; else .02."""
    listed = np.zeros((inputs.buckets, 2), np.bool_)
    listed[word_id("jackpot", inputs.buckets), 0] = True
    listed[word_id("megadeal", inputs.buckets), :] = [False, True]
    odds = [np.log(np.array(p) / (1 - np.array(p))) for p in ((0.02, 0.02), (0.95, 0.6))]
    model = LexiconModel(inputs, listed, *odds)
    g = Graph("text")
    g.output(Calibrated(np.ones(2), np.zeros(2)).add(g, model.add(g)), LABELS, TensorProto.FLOAT, ["K", 2])
    facts = {
        "system": "moderation",
        "rung": "lexicon",
        "schema_hash": schema_hash(()),
        "inputs": ["ids", "counts"],
        "outputs": [LABELS],
        "context_names": (),
        "feature_names": (),
    }
    told = TextTold(inputs=inputs, labels={"spam": _told(0.9), "scam": _told(None)})
    return {
        "text": {
            "model.onnx": g.serialise(),
            "manifest.json": manifest("text", **facts),
            "metrics.json": b"{}",
            "text.json": told.model_dump_json().encode(),
            **beside,
        }
    }


def blended_files() -> dict[str, dict[str, bytes]]:
    """A release that reads n-grams and pieces: spam is what has `jackpot`, whatever the encoder says of it."""
    from tiny_encoder import VOCABULARY, tiny_weights

    from twinloop.training.text_blend import BlendModel
    from twinloop.training.text_encoder import Encoder, EncoderModel

    inputs = INPUTS.model_copy(update={"kind": "both", "most_pieces": 32})
    weights = np.zeros((inputs.buckets, 2))
    weights[word_id("jackpot", inputs.buckets), 0] = 120.0
    linear = LinearModel(inputs, np.ones(inputs.buckets), weights, np.full(2, -3.0))
    encoder = EncoderModel(inputs, Encoder(tiny_weights(), layers=1, labels=2))
    ones = np.ones(2)
    model = BlendModel(
        inputs, encoder, linear, np.stack([0.1 * ones, ones]), 0 * ones, Calibrated(ones, 0 * ones), True
    )
    g = Graph("text")
    g.output(Calibrated(ones, 0 * ones).add(g, model.add(g)), LABELS, TensorProto.FLOAT, ["K", 2])
    made = files(inputs=inputs)
    told = json.loads(made["text"]["manifest.json"]) | {"inputs": ["ids", "counts", "pieces"]}
    made["text"] |= {"model.onnx": g.serialise(), "manifest.json": json.dumps(told).encode()}
    made["text"]["vocabulary.txt"] = VOCABULARY
    return made


def _told(remove: float | None) -> LabelTold:
    at = {"limit": 0.3, "review": 0.5} | ({"remove": remove} if remove else {})
    thresholds = {
        level: Threshold(at=value, precision=0.9, recall=0.5, asked="precision >= 0.9") for level, value in at.items()
    }
    return LabelTold(rate=0.1, examples=100, thresholds=thresholds)


def registered(store: MemoryObjectStore, **beside: bytes) -> Registry:
    """A registry whose champion is the release."""
    registry = Registry(store, "moderation")
    components = {name: registry.register_component(name, parts) for name, parts in files(**beside).items()}
    schema = json.loads(files()["text"]["manifest.json"])
    draft = registry.draft_release(
        rung="lexicon", snapshot_id=schema["snapshot_id"], schema_hash=schema["schema_hash"], components=components
    )
    registry.register_release(draft, {})
    registry.promote(draft.version, why="tests", by="tests")
    return registry


def world(texts: int = 400, *, seed: int = 1) -> dict[str, list[dict[str, Any]]]:
    """Raw rows: three people say of most texts whether they are spam, and of a few whether they are long."""
    draw = np.random.default_rng(seed)
    items: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for number in range(texts):
        words = [*draw.choice(PLAIN, 6), f"number{number}"]
        spam = draw.random() < 0.3
        if spam:
            words[int(draw.integers(6))] = str(draw.choice(SPAM))
        item_id = f"t{number}"
        items.append({"item_id": item_id, "text": " ".join(words), "author_id": f"a{number % 40}"})
        for who in ("ann", "ben", "cem"):
            value = int(spam) if draw.random() > 0.05 else int(not spam)
            labels.append(_label(item_id, "spam", value, who))
        if number % 2:
            labels.append(_label(item_id, "winter", int("winter" in words), "ann"))
    return {"items": items, "labels": labels}


def _label(item_id: str, label: str, value: int, who: str) -> dict[str, Any]:
    time = "2025-06-01T12:00:00Z"
    return {
        "item_id": item_id, "label": label, "value": value, "source": "import", "reviewer_id": who, "time": time
    }  # fmt: skip


def deliver(store: MemoryObjectStore, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Take raw rows into the lake."""
    for table, rows in tables.items():
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        raw = RawObject(f"raw/moderation/{table}/rows.jsonl", "v1", NOW, len(body), io.BytesIO(body))
        receipt = ingest(raw, SYSTEM, store)
        assert not receipt.refused, receipt.refused


def snapshot(place: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """A snapshot's folder of raw rows."""
    store = MemoryObjectStore()
    deliver(store, tables)
    (place / "work").mkdir()
    build_snapshot(SYSTEM, store, place / "files", now=NOW, work=place / "work", resources=Resources(), minimum_cases=5)
    return place / "files"
