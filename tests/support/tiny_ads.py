"""A release of ads small enough to check by hand, and a store that knows something."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from tiny_models import _model, _value, manifest

from twinloop.contracts.hashing import Hashed, HashedField
from twinloop.contracts.tally import Happening
from twinloop.features.counting import marks_of
from twinloop.features.schema import chosen, schema_hash
from twinloop.features.stores import Known, MemoryFeatureStore, counted
from twinloop.serving.loading import AssetsOnly, load_models
from twinloop.systems.ads.features import COUNTING

NOW_MS = 1_769_860_800_000
NAMES = ("item_click_rate_30d", "user_item_impressions_1d")
HASHED = Hashed(
    fields=(
        HashedField("ad", ("item_id",)),
        HashedField("who", ("user_id", "users.country")),
        HashedField("ad_device", ("context.device", "items.category")),
    ),
    buckets=64,
)


def click_model(weights: np.ndarray[Any, Any], *, known: int = 0, slope: float = 1.0) -> bytes:
    """p(click) = sigmoid(sum of the ids' weights + slope x first column of `known`)."""
    constants = {"weights": weights.astype(np.float32), "across": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Gather", ["weights", "ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "across"], ["by_ids"], keepdims=0),
    ]
    inputs = [_value("ids", TensorProto.INT64, ["K", len(HASHED.fields)])]
    if known:
        constants["slope"] = np.array([slope] + [0.0] * (known - 1), np.float32)
        nodes += [
            helper.make_node("MatMul", ["known", "slope"], ["by_known"]),
            helper.make_node("Add", ["by_ids", "by_known"], ["logits"]),
        ]
        inputs.append(_value("known", TensorProto.FLOAT, ["K", known]))
    nodes.append(helper.make_node("Sigmoid", ["logits" if known else "by_ids"], ["click"]))
    return _model(nodes, inputs, [_value("click", TensorProto.FLOAT, ["K"])], constants)


def files(
    weights: np.ndarray[Any, Any] | None = None, *, names: tuple[str, ...] = NAMES
) -> dict[str, dict[str, bytes]]:
    """The files of a release whose model takes ids, and features where they are named."""
    weights = np.full(HASHED.buckets, -1.0) if weights is None else weights
    facts = {
        "system": "ads",
        "rung": "logistic",
        "schema_hash": schema_hash(chosen(COUNTING.features, names), HASHED),
        "known_names": names,
        "inputs": ["ids", *(["known"] if names else [])],
        "outputs": ["click"],
        "hashed": HASHED.model_dump(mode="json"),
    }
    return {
        "click": {
            "model.onnx": click_model(weights, known=len(names)),
            "manifest.json": manifest("click", **facts),
            "prior.json": json.dumps({"click": 0.02}).encode(),
            "metrics.json": b"{}",
        }
    }


def models(**more: Any) -> Any:
    """The release, loaded."""
    return load_models(files(**more))


def broken(said: Any, **changes: Any) -> Any:
    """A component that says the same whatever it is asked."""

    class Broken(AssetsOnly):
        def run(self, inputs: Any) -> Any:
            return {"click": np.asarray(said, np.float32)}

    whole = models()["click"]
    return {"click": Broken(whole.manifest.model_copy(update=changes), {})}


def happened(times: int, *, clicks: int = 0, key: int = 0, marks: tuple[int, ...] = (), bid: float = 0.5) -> Any:
    """So many showings in the minutes before, and clicks on them; keys tell them apart from others."""
    kinds: list[dict[str, Any]] = [{"type": "impression"}] * times + [{"type": "click", "bid": bid}] * clicks
    return [
        Happening(NOW_MS - 1000 * (n + 1), 10_000 * key + n, COUNTING.amounts(kind), marks)
        for n, kind in enumerate(kinds)
    ]


def ad(times: int = 0, *, clicks: int = 0, key: int = 0, **attributes: Any) -> Known:
    """An ad that was shown and clicked so often."""
    return counted(Known(b"", attributes), happened(times, clicks=clicks, key=key), COUNTING.layout("item"))


def store(ads: dict[str, Known], seen: dict[str, int], **attributes: Any) -> MemoryFeatureStore:
    """A store of some ads, and of user `u`, who was shown each of `seen` so often."""
    made = MemoryFeatureStore()
    happenings = []
    for key, (item_id, times) in enumerate(seen.items(), 1):
        marks = marks_of(COUNTING, item_id, ads[item_id].attributes)
        happenings += happened(times, key=key, marks=marks)
    for item_id, known in ads.items():
        made._known["ads", "item", item_id] = known
    made._known["ads", "user", "u"] = counted(Known(b"", attributes), happenings, COUNTING.layout("user"))
    return made
