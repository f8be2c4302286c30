"""What stands beside a release's retrieval: its items, new ones, vectors, and what is popular where.

Everything but ids, titles and popularity is optional: releases made before a part was written have none of it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.embeddings import unpack_embeddings
from twinloop.contracts.segments import segment_value
from twinloop.errors import IntegrityError, NotFoundError

ITEMS_FILE, VECTORS_FILE, SEGMENTS_FILE = "items.json.gz", "embeddings.bin", "segments.json.gz"


class Part(NamedTuple):
    """Some items, each part in the same order; None where a part is known of none of them.

    Authors are numbers, -1 unknown; `published_ms` is NaN where unknown; tags are places among the catalogue's names.
    """

    ids: Sequence[str]
    titles: Sequence[str]
    authors: NDArray[np.int64] | None
    published_ms: NDArray[np.float64] | None
    tags: Sequence[Sequence[int]] | None


class Segment(NamedTuple):
    """A request's segment: the fact, its value, and log of how much more its items are liked there."""

    key: str
    value: str
    items: NDArray[np.int64]
    boosts: NDArray[np.float32]


class Catalogue:
    """The items of one release; `index` is the model's.

    Args:
        asset: Name of a file beside the retrieval -> its bytes; raises NotFoundError.

    Raises:
        IntegrityError: The items cannot be read. Vectors and segments are read when they are first asked for.
    """

    def __init__(self, asset: Callable[[str], bytes]) -> None:
        self._asset = asset
        content = _unpacked(asset(ITEMS_FILE), ITEMS_FILE)
        try:
            self.known = _part(content)
            self.new = _part(content["new"]) if "new" in content else _part({"item_ids": [], "titles": []})
            self.popularity = np.array(content["popularity"], dtype=np.float32)
            self.tag_names: Sequence[str] = content.get("tag_names", ())
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise IntegrityError(f"{ITEMS_FILE} of retrieval cannot be read: {error!r}") from error
        ids = self.known.ids
        if not ids or len(ids) != len(self.popularity):
            raise IntegrityError(f"{ITEMS_FILE} of retrieval must list the same, distinct items in each of its parts")
        if not np.isfinite(self.popularity).all():
            raise IntegrityError(f"{ITEMS_FILE} of retrieval has a popularity that is not a number")
        self.index = {item_id: place for place, item_id in enumerate(ids)}
        self.new_index = {item_id: place for place, item_id in enumerate(self.new.ids)}

    def title(self, item_id: str) -> str | None:
        """Return an item's title where it has one."""
        for index, part in ((self.index, self.known), (self.new_index, self.new)):
            if item_id in index:
                return part.titles[index[item_id]] or None
        return None

    def vectors(self, places: Any) -> NDArray[np.float32] | None:
        """Return the vectors of some of the model's items, [n, d]; None where the release has none."""
        return None if self._vectors is None else self._vectors[places].astype(np.float32)

    @cached_property
    def new_vectors(self) -> NDArray[np.float32] | None:
        """The vectors of the new items."""
        return None if self._vectors is None else self._vectors[len(self.known.ids) :].astype(np.float32)

    @cached_property
    def by_popularity(self) -> NDArray[np.int64]:
        """The model's items, the most popular first."""
        return np.argsort(-self.popularity, kind="stable")

    def segment(self, context: Mapping[str, Any]) -> Segment | None:
        """Return the segment of a request that tells most; None where its facts name none that is known."""
        if not context:
            return None
        for key, values in self._segments:
            value = segment_value(context.get(key))
            if value is not None and value in values:
                return Segment(key, value, *values[value])
        return None

    @cached_property
    def _vectors(self) -> NDArray[np.float16] | None:
        data = self._optional(VECTORS_FILE)
        return None if data is None else unpack_embeddings(data, len(self.known.ids) + len(self.new.ids))

    @cached_property
    def _segments(self) -> list[tuple[str, dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]]]:
        data = self._optional(SEGMENTS_FILE)
        if data is None:
            return []
        content = _unpacked(data, SEGMENTS_FILE)
        try:
            found = [
                (str(entry["key"]), {value: _boosts(told) for value, told in entry["values"].items()})
                for entry in content["keys"]
            ]
            places = [items for _, values in found for items, _ in values.values() if len(items)]
            if any(items.min() < 0 or items.max() >= len(self.known.ids) for items in places):
                raise ValueError("an item that is not in the list")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise IntegrityError(f"{SEGMENTS_FILE} of retrieval cannot be read: {error!r}") from error
        return found

    def _optional(self, name: str) -> bytes | None:
        try:
            return self._asset(name)
        except NotFoundError:
            return None


def _unpacked(packed: bytes, name: str) -> dict[str, Any]:
    try:
        content = json.loads(gzip.decompress(packed))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise IntegrityError(f"{name} of retrieval cannot be read: {error!r}") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"{name} of retrieval cannot be read: it is no JSON object")
    return content


def _part(content: Mapping[str, Any]) -> Part:
    ids, titles = content["item_ids"], content["titles"]
    authors, published, tags = (content.get(name) for name in ("authors", "published_ms", "tags"))
    part = Part(
        ids,
        titles,
        None if authors is None else np.array(authors, dtype=np.int64),
        None if published is None else np.array(published, dtype=np.float64),  # null becomes NaN
        tags,
    )
    if any(len(values) != len(ids) for values in part if values is not None) or len(set(ids)) != len(ids):
        raise ValueError("its parts are not of the same, distinct items")
    return part


def _boosts(told: Mapping[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    items, boosts = (
        np.array(told["items"], dtype=np.int64),
        np.array(told["boosts"], dtype=np.float32) / np.float32(1000),
    )
    if items.shape != boosts.shape or items.ndim != 1 or not np.isfinite(boosts).all():
        raise ValueError("boosts that are not of their items")
    return items, boosts
