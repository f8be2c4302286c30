"""The identity of a feature set: what must be equal for a model and its serving code to understand each other.

A snapshot's identity covers all its features, a model's those that it is asked with: a definition that no release uses
may change without a release being refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from twinloop.contracts.features import Feature
from twinloop.contracts.hashing import Hashed
from twinloop.errors import IntegrityError

INTERACTION_COLUMNS = {"user_id": "string", "item_id": "string", "time_ms": "int64", "strength": "float32"}


def column_type(feature: Feature) -> str:
    """Return the Arrow type, by name, of a feature's column."""
    return "list<string>" if feature.kind == "last_n" else "float64"


def interaction_columns(features: Iterable[Feature]) -> dict[str, str]:
    """Return the columns of a snapshot's interactions: name -> type, in order."""
    return INTERACTION_COLUMNS | {feature.name: column_type(feature) for feature in features}


# What definitions have said from the first version on. Whatever came later counts only where it says something, so that
# releases from before it stay what they are.
_FIRST = frozenset({"name", "entity", "kind", "window_days", "length", "default", "time_to_live_days", "version"})


def schema_hash(features: Iterable[Feature], hashed: Hashed | None = None) -> str:
    """Return a hash of the definitions in their order and of the columns they become; words for people do not count.

    Args:
        features: The definitions.
        hashed: The ids that a model is asked with besides, if any.
    """
    features = tuple(features)
    facts: dict[str, Any] = {
        "features": [_definition(feature) for feature in features],
        "columns": list(interaction_columns(features).items()),
    }
    if hashed is not None:
        facts["hashed"] = hashed.model_dump(mode="json")
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _definition(feature: Feature) -> dict[str, Any]:
    said = feature.model_dump(exclude={"description", "owner"})
    return {
        name: value
        for name, value in said.items()
        if name in _FIRST or value != Feature.model_fields[name].get_default()
    }


def feature_versions(features: Iterable[Feature]) -> dict[str, str]:
    """Return name -> version of every definition."""
    return {feature.name: str(feature.version) for feature in features}


def chosen(features: Iterable[Feature], names: Iterable[str]) -> tuple[Feature, ...]:
    """Return the definitions of these names, in the names' order; raises IntegrityError where there is none."""
    known = {feature.name: feature for feature in features}
    wanted = tuple(names)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise IntegrityError(f"no feature is called {', '.join(missing)}; known: {', '.join(known) or 'none'}")
    return tuple(known[name] for name in wanted)
