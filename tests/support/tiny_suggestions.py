"""A release of suggestions small enough to check by hand, and a store that knows something."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tiny_models import manifest

from twinloop.contracts.endpoint import Question
from twinloop.contracts.tally import Happening, Tally, key_of
from twinloop.features.counting import count
from twinloop.features.knowledge import ItemCache, UserKnowledge
from twinloop.features.schema import schema_hash
from twinloop.features.stores import MemoryFeatureStore
from twinloop.serving.loading import load_models
from twinloop.systems.suggestions import catalogue
from twinloop.systems.suggestions.columns import FEATURES
from twinloop.systems.suggestions.endpoint import SuggestionsRequest
from twinloop.systems.suggestions.features import COUNTING
from twinloop.systems.suggestions.serve import SuggestionsPredictor
from twinloop.systems.suggestions.tastes import Tastes
from twinloop.training.grouped import ranking_graph

NOW_MS = 1_780_311_600_000  # Monday, 1 June 2026, 11:00 UTC
HOUR_MS = 3_600_000
BERLIN, TAVEUNI = (52.52, 13.405), (-16.79, 179.97)


class Nearest:
    """Scores: minus the distance, NaN being 50 km; plus ten times the taste."""

    def scores(self, features: Any) -> Any:
        names = list(FEATURES)
        far = np.nan_to_num(features[:, names.index("distance_km")], nan=50.0)
        return (10 * features[:, names.index("taste")] - far).astype(np.float32)

    def add(self, g: Any) -> str:
        names = list(FEATURES)
        km, taste = (g.op("Gather", "features", g.constant(names.index(n)), axis=1) for n in ("distance_km", "taste"))
        km = g.op("Where", g.op("IsNaN", km), g.constant(50.0, np.float32), km)
        return str(g.op("Sub", g.op("Mul", taste, g.constant(10.0, np.float32)), km))


def event(
    item_id: str, *, in_h: float = 48.0, place: tuple[float, float] | None = BERLIN, **more: Any
) -> dict[str, Any]:
    """A row of items as a snapshot has it."""
    lat, lon = place or (None, None)
    row = {"item_id": item_id, "title": f"Event {item_id}", "lat": lat, "lon": lon, "topics": ["jazz"]}
    row |= {"starts_ms": int(NOW_MS + in_h * HOUR_MS), "published_ms": NOW_MS - 48 * HOUR_MS, "price": 0.0}
    return row | {"time_zone": "Europe/Berlin" if place == BERLIN else None} | more


TASTES = Tastes(("hiking", "jazz"), np.array([[1.0, 0.0], [0.6, 0.8]]), 0.5, 0.5, {"o": 0.2})


def files(items: list[dict[str, Any]], *, since_ms: int = NOW_MS - 240 * HOUR_MS, **changes: Any) -> Any:
    """The files of a release that suggests these events."""
    facts = {
        "system": "suggestions",
        "rung": "event_logistic",
        "schema_hash": schema_hash(()),
        "feature_names": tuple(FEATURES),
        "inputs": ["features"],
        "outputs": ["scores"],
    }
    records = {"o": (4.0, 40.0, 1.0, 100.0, 20.0)}
    return {
        "ranking": {
            "model.onnx": ranking_graph(Nearest(), len(FEATURES)),
            "manifest.json": manifest("ranking", **facts | changes),
            catalogue.FILE: catalogue.pack(items, records, since_ms=since_ms),
            "tastes.json.gz": TASTES.pack(),
            "baseline.json": json.dumps({"distance_weight": 1.0}).encode(),
            "metrics.json": b"{}",
        }
    }


def predictor(items: list[dict[str, Any]], **more: Any) -> SuggestionsPredictor:
    return SuggestionsPredictor(load_models(files(items, **more)))


class World:
    """A store, and what happened."""

    def __init__(self, items: list[dict[str, Any]], users: dict[str, dict[str, Any]] | None = None) -> None:
        self.store, self._events = MemoryFeatureStore(), 0
        for row in items:
            attributes = {"topic": (row["topics"] or [None])[0], "organizer_id": row.get("organizer_id")}
            attributes |= {"cancelled": float(bool(row.get("cancelled")))}
            self._settle("item", row["item_id"], attributes)
        for user_id, attributes in (users or {}).items():
            self._settle("user", user_id, attributes)

    def _settle(self, entity: Any, entity_id: str, attributes: dict[str, Any]) -> None:
        told = {name: value for name, value in attributes.items() if value is not None}
        told = {name: json.dumps(value) if isinstance(value, list) else value for name, value in told.items()}
        self.store.settle("suggestions", (entity, entity_id), Tally(), told, COUNTING.layout(entity))

    def happens(self, kind: str, user_id: str, item_id: str, at_ms: int = NOW_MS - HOUR_MS) -> None:
        self._events += 1
        happening = Happening(at_ms, key_of(f"n{self._events}"), COUNTING.amounts({"type": kind}))
        assert not count("suggestions", COUNTING, self.store, [(user_id, item_id, happening)])

    def knowledge(self, user_id: str = "u", *, answers: bool = True, now_ms: int = NOW_MS) -> UserKnowledge:
        def known(entity: Any) -> Any:
            return lambda ids: self.store.known("suggestions", [(entity, of) for of in ids]) if answers else None

        items = ItemCache(COUNTING, known("item"), now_ms=lambda: now_ms)
        user = self.store.known("suggestions", [("user", user_id)])[0] if answers else None
        return UserKnowledge(COUNTING, user, items, users=known("user"))


def question(known: Any = None, *, at_ms: int = NOW_MS, history: Any = (), seed: str = "", **request: Any) -> Question:
    preset = request.pop("preset", None)
    body = {"user_id": "u", "lat": BERLIN[0], "lon": BERLIN[1]} | request
    asked = SuggestionsRequest.model_validate_json(json.dumps(body))
    return Question(asked, history, known, at_ms, preset, seed)
