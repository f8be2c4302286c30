"""Documents out of items: which of their attributes become fields, categories and numbers of an index."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import BadInputError
from twinloop.text.analysis import ANALYSIS, terms

if TYPE_CHECKING:  # what builds an index of rows carries no pyarrow
    import pyarrow as pa

TITLE, TEXT, TAGS, DELETED = "title", "text", "tags", "deleted"
_MOST_FIELDS = 8
_MOST_NUMBERS = 8
_LEAST_SHARE = 0.01  # of the items must have an attribute that becomes a field or a number
_LONGEST_CATEGORY = 100
_SEPARATOR = "\n"  # between the parts of a list: words on both sides are no neighbours in a text


@dataclass(frozen=True)
class Corpus:
    """The documents of an index.

    Attributes:
        ids, titles, texts: Of each document.
        fields: Names of the fields, the title first.
        texts_of: Field -> the text of each document in it.
        categories: Attribute -> the values of each document.
        numbers: Attribute -> float64[N], NaN where a document has none.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    fields: tuple[str, ...]
    texts_of: Mapping[str, tuple[str, ...]]
    categories: Mapping[str, tuple[tuple[str, ...], ...]]
    numbers: Mapping[str, NDArray[np.float64]]

    def words(self, most: int | None = None) -> Iterator[list[list[str]]]:
        """Yield the terms of each document, or of the first so many, a list a field; they are not kept in memory."""
        columns = [self.texts_of[name] for name in self.fields]
        for document in range(len(self.ids) if most is None else min(most, len(self.ids))):
            yield [terms(texts[document]) for texts in columns]

    def digest(self) -> str:
        """Return a hash of everything that is looked up, told or filtered by: the index's version of its items."""
        hashed = hashlib.sha256(f"analysis {ANALYSIS}".encode())  # of the same items another one makes another index
        for part in (self.ids, *(self.texts_of[name] for name in self.fields), *self.categories.values()):
            hashed.update(json.dumps(part, ensure_ascii=False).encode("utf-8", errors="surrogatepass"))
        for name, values in self.numbers.items():
            hashed.update(name.encode() + values.tobytes())
        return hashed.hexdigest()[:16]


def corpus_of(items: pa.Table) -> Corpus:
    """Return the documents of a snapshot's items.

    Every text among the attributes, and every list of texts, becomes a field and a category; every number becomes a
    number to filter and to rank by. Those that most items have come first, eight of each at most; addresses (one word
    with `://`) are neither. Items that are deleted are left out. Raises BadInputError where no other has a title.
    """
    wanted = ("item_id", TITLE, TEXT, TAGS, "attributes", DELETED)
    return corpus_of_rows(items.select([name for name in wanted if name in items.column_names]).to_pylist())


@dataclass(frozen=True)
class Named:
    """Attributes that an earlier build made fields and numbers of, in its order: a ranker knows them by their names."""

    texts: tuple[str, ...]
    numbers: tuple[str, ...]


def corpus_of_rows(rows: Iterable[Mapping[str, Any]], named: Named | None = None) -> Corpus:
    """Return the documents of items, as `corpus_of` does; `attributes` may be JSON text or a mapping.

    With `named`, fields and numbers are those, whatever attributes the items have now.
    """
    titled = [row for row in rows if row.get(TITLE) and not row.get(DELETED)]
    if not titled:
        raise BadInputError(
            "no item has a title, or all are deleted, so there is nothing to find; load items that have one"
        )
    attributes = [_attributes(row.get("attributes")) for row in titled]
    texts, numbers = (named.texts, named.numbers) if named is not None else _kinds(attributes)
    columns: dict[str, list[list[str]]] = {name: [_texts(of.get(name)) for of in attributes] for name in texts}
    tags = [_texts(row.get(TAGS)) for row in titled]
    texts_of = {
        TITLE: tuple(str(row[TITLE]) for row in titled),
        TEXT: tuple(str(row.get(TEXT) or "") for row in titled),
        TAGS: tuple(_SEPARATOR.join(values) for values in tags),
        **{name: tuple(_SEPARATOR.join(values) for values in columns[name]) for name in texts},
    }
    return Corpus(
        ids=tuple(str(row["item_id"]) for row in titled),
        titles=texts_of[TITLE],
        texts=texts_of[TEXT],
        fields=tuple(texts_of),
        texts_of=texts_of,
        categories={
            name: tuple(tuple(value for value in values if len(value) <= _LONGEST_CATEGORY) for values in lists)
            for name, lists in {TAGS: tags, **columns}.items()
        },
        numbers={name: np.array([_number(of.get(name)) for of in attributes], np.float64) for name in numbers},
    )


def _kinds(attributes: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], Sequence[str]]:
    """Return which attributes are texts and which numbers, those that most items have first."""
    texts: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    addresses: Counter[str] = Counter()
    for of in attributes:
        for name, value in of.items():
            if not math.isnan(_number(value)):
                numbers[name] += 1
            elif found := _texts(value):
                texts[name] += 1
                addresses[name] += any("://" in text and " " not in text.strip() for text in found)
    least = max(_LEAST_SHARE * len(attributes), 1)
    reserved = {TITLE, TEXT, TAGS}
    named = [n for n, count in _ranked(texts) if count >= least and addresses[n] * 2 < count and n not in reserved]
    counted = [n for n, count in _ranked(numbers) if count >= least and count >= texts[n] and n not in reserved]
    return [name for name in named if name not in counted][:_MOST_FIELDS], counted[:_MOST_NUMBERS]


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _attributes(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, Sequence):
        return [text for text in value if isinstance(text, str) and text.strip()]
    return []


def _number(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and abs(value) < 1e30 else math.nan
