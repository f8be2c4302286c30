"""An index of the items that the lake holds now, behind the models that serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from twinloop import systems
from twinloop.features.lake import latest_rows
from twinloop.ports import ObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.loading import load_models
from twinloop.training.index_rebuild import LEAST_SHARE, refresh

_COLUMNS = ("item_id", "title", "text", "tags", "attributes")


class Reindexed(NamedTuple):
    """What came of it.

    Attributes:
        version: Of the release that serves from now on; None where there was nothing to do.
        documents: How many its index has.
        fresh: Vectors that had to be made.
        said: The same in words, or why there was nothing to do.
    """

    version: str | None
    documents: int
    fresh: int
    said: str


def reindex(objects: ObjectStore, *, by: str, least_share: float = LEAST_SHARE, memory_mb: int = 2048) -> Reindexed:
    """Build the champion's index of the items in the lake, and let it serve; repeating it is harmless.

    Args:
        objects: Where `lake/` and `registry/` are.
        by: Who does it, for the registry's history.
        least_share: Of the index's documents that must still be there; less is taken for an accident.
        memory_mb: What DuckDB may use; past that it spills to the disk.

    Raises:
        BadInputError: The lake has no items, or too few of the documents are left.
        ConflictError: Somebody else moved the champion meanwhile; their release stays.
        IntegrityError: The champion cannot be read, or a proof fails.
    """
    system = systems.load("search")
    registry = Registry(objects, system.spec.name)
    if registry.alias("champion") is None:
        return Reindexed(None, 0, 0, "nothing was learnt yet, so nothing serves: twinloop learn search")

    def check(components: Mapping[str, Mapping[str, bytes]]) -> None:
        system.predictor(load_models(components))

    items = latest_rows(objects, system, "items", _COLUMNS, memory_mb=memory_mb)
    found = refresh(registry, items, check, by=by, least_share=least_share)
    if found is None:
        return Reindexed(None, 0, 0, "nothing has changed: the index that serves is of the items in the lake")
    version, made = found
    said = f"{version} serves: {made.documents:,} documents, {made.fresh:,} vectors made anew"
    return Reindexed(version, made.documents, made.fresh, said)
