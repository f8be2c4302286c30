"""What is kept of documents to be told and to be filtered by: ids, titles, texts, categories and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import BadInputError, IntegrityError
from twinloop.text.analysis import fold
from twinloop.text.packing import pack, unpack

Mask = NDArray[np.bool_]
_TEXTS = ("ids", "titles", "texts")
LONGEST_TEXT = 2000
"""Characters of a text that are kept for passages."""


@dataclass(frozen=True)
class Category:
    """An attribute with few values, of which a document may have several.

    Attributes:
        values: As they were written.
        starts: int32[N + 1].
        codes: int32[M], the values of the documents one after the other, each once a document.
    """

    values: tuple[str, ...]
    starts: NDArray[np.int32]
    codes: NDArray[np.int32]

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Folded value -> codes: case and accents do not matter."""
        found: dict[str, list[int]] = {}
        for code, value in enumerate(self.values):
            found.setdefault(fold(value), []).append(code)
        return found

    def holding(self, wanted: Sequence[str]) -> Mask:
        """Return which documents have any of the values, bool[N]."""
        codes = [code for value in wanted for code in self.places.get(fold(value), ())]
        flags = np.zeros(len(self.values), np.bool_)
        flags[codes] = True
        made = np.zeros(len(self.starts) - 1, np.bool_)
        made[self._documents[flags[self.codes]]] = True
        return made

    def counts(self, chosen: Mask, *, most: int) -> list[tuple[str, int]]:
        """Return the most frequent values of the chosen documents with how many have them."""
        found = np.bincount(self.codes[chosen[self._documents]], minlength=len(self.values))
        order = np.argsort(-found, kind="stable")[:most]
        return [(self.values[code], int(found[code])) for code in order.tolist() if found[code]]

    @cached_property
    def _documents(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


class Documents:
    """The documents of an index, in its order.

    Raises IntegrityError where the bytes are none that `pack_documents` made.
    """

    def __init__(self, body: bytes) -> None:
        arrays, facts = unpack(body, "the file of documents")
        try:
            self._blobs = {name: arrays[name].tobytes() for name in _TEXTS}
            self._starts = {name: arrays[f"{name}_starts"] for name in _TEXTS}
            self.categories = {
                name: Category(tuple(values), arrays[f"{name}:starts"], arrays[f"{name}:codes"])
                for name, values in facts["categories"].items()
            }
            self.numbers: dict[str, NDArray[np.floating]] = {
                name: arrays[f"{name}:number"] for name in facts["numbers"]
            }
            self.version = str(facts["version"])
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"the file of documents is of another version: {error!r}; build it anew") from error
        sizes = {len(starts) - 1 for starts in self._starts.values()}
        sizes |= {len(category.starts) - 1 for category in self.categories.values()}
        sizes |= {len(values) for values in self.numbers.values()}
        whole = all(int(self._starts[name][-1]) == len(self._blobs[name]) for name in _TEXTS)
        if len(sizes) != 1 or not whole:
            raise IntegrityError("the arrays of the file of documents do not fit together; build it anew")
        self.size = sizes.pop()

    def id(self, document: int) -> str:
        """Return a document's id."""
        return self._text("ids", document)

    def title(self, document: int) -> str:
        """Return a document's title."""
        return self._text("titles", document)

    def text(self, document: int) -> str:
        """Return as much of a document's text as is kept."""
        return self._text("texts", document)

    @cached_property
    def places(self) -> dict[str, int]:
        """Id -> document."""
        return {self.id(document): document for document in range(self.size)}

    def allowed(
        self, of: Mapping[str, Sequence[str]], between: Mapping[str, tuple[float | None, float | None]]
    ) -> Mask:
        """Return which documents pass all filters, bool[N].

        Args:
            of: Category -> values, of which a document must have one.
            between: Number -> least and greatest, both of which pass; a document without the number does not.

        Raises BadInputError for an attribute that cannot be filtered by, with those that can.
        """
        made = np.ones(self.size, np.bool_)
        for name, values in of.items():
            if name not in self.categories:
                raise BadInputError(f"there is no category {_told(name)}; there are: {_names(self.categories)}")
            made &= self.categories[name].holding(values)
        for name, (least, greatest) in between.items():
            if name not in self.numbers:
                raise BadInputError(f"there is no number {_told(name)}; there are: {_names(self.numbers)}")
            numbers = self.numbers[name]
            exact = numbers.dtype.type  # a bound that is more exact than the numbers would miss those equal to it
            made &= numbers >= exact(-np.inf if least is None else least)  # NaN is in no range
            made &= numbers <= exact(np.inf if greatest is None else greatest)
        return made

    def _text(self, name: str, document: int) -> str:
        starts = self._starts[name]
        return self._blobs[name][starts[document] : starts[document + 1]].decode()


def pack_documents(
    ids: Sequence[str],
    titles: Sequence[str],
    texts: Sequence[str],
    categories: Mapping[str, Sequence[Sequence[str]]],
    numbers: Mapping[str, NDArray[np.float64]],
    *,
    version: str,
) -> bytes:
    """Return the file of documents; `version` names the items that they were made of.

    Numbers are kept as float64: days written as 20240115 are still told apart.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, column in zip(_TEXTS, (ids, titles, [text[:LONGEST_TEXT] for text in texts]), strict=True):
        encoded = [text.encode("utf-8", errors="replace") for text in column]
        arrays[name] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{name}_starts"] = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    named: dict[str, list[str]] = {}
    for name, lists in categories.items():
        codes_of: dict[str, int] = {}
        codes = [sorted({codes_of.setdefault(value, len(codes_of)) for value in values}) for values in lists]
        named[name] = list(codes_of)
        arrays[f"{name}:starts"] = np.cumsum([0, *map(len, codes)]).astype(np.int32)
        arrays[f"{name}:codes"] = np.array([code for some in codes for code in some], np.int32)
    for name, values in numbers.items():
        arrays[f"{name}:number"] = values.astype(np.float64)
    return pack(arrays, {"categories": named, "numbers": list(numbers), "version": version})


def _names(known: Mapping[str, Any]) -> str:
    return ", ".join(sorted(known)) or "none"


def _told(name: str) -> str:
    return repr(name[:60])
