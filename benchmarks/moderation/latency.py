"""How long one text takes, from API Gateway's event to its answer."""

from __future__ import annotations

import gc
import json
import logging
import time

import numpy as np
from benchmarks.moderation.texts import Row

from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.lambdas import answer
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app
from twinloop.systems.moderation.system import SYSTEM


def latency(files: dict[str, dict[str, bytes]], texts: list[str]) -> Row:
    """Return milliseconds of one text at a time, from API Gateway's event to its answer."""
    store = MemoryObjectStore()
    registry = Registry(store, "moderation")
    components = {name: registry.register_component(name, parts) for name, parts in files.items()}
    manifest = load_models(files)["text"].manifest
    draft = registry.draft_release(
        rung=manifest.rung, snapshot_id=manifest.snapshot_id, schema_hash=manifest.schema_hash, components=components
    )
    registry.register_release(draft, {})
    registry.promote(draft.version, why="measured", by="benchmarks.moderation")
    app = make_app(SYSTEM, store, None, None, logger=logging.getLogger("quiet"))

    def ask(text: str) -> tuple[float, float]:
        event = {"httpMethod": "POST", "path": "/v1/moderation/decisions", "body": json.dumps({"text": text})}
        started, spent = time.perf_counter(), time.thread_time()
        told, _ = answer(event, lambda: app)
        took = (time.perf_counter() - started) * 1000, (time.thread_time() - spent) * 1000
        if told["statusCode"] != 200:
            raise RuntimeError(told["body"])
        return took

    gc.disable()
    try:
        for text in texts[:20]:
            ask(text)
        took, spent = zip(*(ask(text) for text in texts), strict=True)
        long = (" ".join(texts) * 100)[:100_000]
        longest, long_spent = zip(*(ask(long) for _ in range(5)), strict=True)
    finally:
        gc.enable()
    return {
        "p50_ms": round(float(np.percentile(took, 50)), 3),
        "p99_ms": round(float(np.percentile(took, 99)), 3),
        "p50_cpu_ms": round(float(np.percentile(spent, 50)), 3),
        "100_kb_ms": round(float(np.median(longest)), 1),
        "100_kb_cpu_ms": round(float(np.median(long_spent)), 1),
    }
