"""An index of the items that the lake holds now, behind the models that serve."""

from __future__ import annotations

from collections.abc import Mapping

from twinloop import systems
from twinloop.contracts.system import Refresh, Refreshed
from twinloop.features.lake import latest_rows
from twinloop.ports import ObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.loading import load_models
from twinloop.training import index_rebuild

_COLUMNS = ("item_id", "title", "text", "tags", "attributes", "deleted")


def refresh(objects: ObjectStore, asked: Refresh) -> Refreshed:
    """Build the index of the items in the lake behind the models of a release that serves, and let it serve.

    Texts that have not changed keep their vectors; `Refreshed.fresh` counts those that were made. Raises as
    `registry.refresh.refresh`.
    """
    system = systems.load("search")

    def check(components: Mapping[str, Mapping[str, bytes]]) -> None:
        system.predictor(load_models(components))

    items = latest_rows(objects, system, "items", _COLUMNS, memory_mb=asked.memory_mb)
    registry = Registry(objects, system.spec.name)
    found = index_rebuild.refresh(registry, items, check, by=asked.by, least_share=asked.least_share, alias=asked.alias)
    if found is None:
        return Refreshed(None, 0, 0, "nothing has changed: the index that serves is of the items in the lake")
    version, made = found
    said = f"{version} serves: {made.documents:,} documents, {made.fresh:,} vectors made anew"
    return Refreshed(version, made.documents, made.fresh, said)
