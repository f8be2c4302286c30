"""A release with an engagement component, small enough to check by hand, and a store that knows something."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper
from tiny_models import _model, _value, manifest, video_files

from twinloop.contracts.artefacts import ComponentManifest, release_schema
from twinloop.contracts.tally import Happening
from twinloop.features.schema import chosen, schema_hash
from twinloop.features.stores import Known, counted
from twinloop.systems.video.features import COUNTING

NAMES = ("item_impressions_7d", "user_clicks_7d", "user_author_click_rate_30d", "item_duration_s")
SCHEMA = schema_hash(chosen(COUNTING.features, NAMES))  # of the engagement alone
DAY = 86_400_000
NOW_MS = 1_769_860_800_000


def engagement(width: int, *, click: float = 0.1, more: tuple[str, ...] = ("items", "history", "times", "at")) -> bytes:
    """p(click) = sigmoid(`click` x first column), the same for a long watch; seconds = the last column, at least 0."""
    constants = {
        "first": np.array([click] + [0.0] * (width - 1), np.float32),
        "last": np.array([0.0] * (width - 1) + [1.0], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["known", "first"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["click"]),
        helper.make_node("Sigmoid", ["raw"], ["long_watch"]),
        helper.make_node("MatMul", ["known", "last"], ["seconds"]),
        helper.make_node("Relu", ["seconds"], ["watch_s"]),
        *(helper.make_node("Identity", [name], [f"unused {name}"]) for name in more),
    ]
    shapes: dict[str, list[str | int]] = {"items": ["K"], "history": ["H"], "times": ["H"], "at": [1]}
    inputs = [_value("known", TensorProto.FLOAT, ["K", width])]
    inputs += [_value(name, TensorProto.INT64, shapes[name]) for name in more]
    outputs = [_value(name, TensorProto.FLOAT, ["K"]) for name in ("click", "long_watch", "watch_s")]
    return _model(nodes, inputs, outputs, constants)


def files(n: int = 6, *, names: tuple[str, ...] = NAMES, **more: Any) -> dict[str, dict[str, bytes]]:
    """A release of `tiny_models.video_files` with an engagement that is asked with these features."""
    facts = {"schema_hash": schema_hash(chosen(COUNTING.features, names)), "known_names": names}
    inputs = ("items", "history", "times", "at")
    made = video_files(n, schema_hash=schema_hash(()), **more)
    made["engagement"] = {
        "model.onnx": engagement(len(names), more=inputs),
        "manifest.json": manifest(
            "engagement", inputs=["known", *inputs], outputs=["click", "long_watch", "watch_s"], **facts
        ),
        "metrics.json": b"{}",
    }
    return made


def schema_of(parts: dict[str, dict[str, bytes]]) -> str:
    """The feature schema of a release of these components."""
    return release_schema(ComponentManifest.model_validate_json(part["manifest.json"]) for part in parts.values())


def shown(times: int, *, clicks: int = 0, before_ms: int = NOW_MS, author: str = "", key: int = 0) -> list[Happening]:
    """That many impressions in the hours before, the last of them clicked; keys tell them apart from others."""
    kinds = ["impression"] * times + ["click"] * clicks
    marks = (1, len(author), 0) if author else ()
    return [
        Happening(before_ms - 1000 * (n + 1), 10_000 * key + n, COUNTING.amounts({"type": kind}), marks)
        for n, kind in enumerate(kinds)
    ]


def item(times: int, *, duration_s: float = 10.0, key: int = 0, author: str = "x") -> Known:
    """An item that was shown so often."""
    attributes = {"author_id": author, "duration_s": duration_s}
    return counted(Known(b"", attributes), shown(times, key=key), COUNTING.layout("item"))
