"""What lists taught of topics and of organisers, as an asset beside a model: written by jobs, read by serving.

Each topic has a vector. Somebody's vector is the mean of what they like, an event's that of its first topic plus a
weight times the others'; taste is a strength times the cosine between the two, in logits. So topics that go together
lie together, whether it is people or events that have them. An organiser's effect is what nothing else that is known of
its events tells, likewise in logits. How they are fitted: `tastes_fit.py`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import IntegrityError, TooLargeError

FILE = "tastes.json.gz"
_DIGITS = 6
_MOST_BYTES = 50_000_000
_LITTLE = 1e-4  # added to squared lengths, so that what is about nothing known is like nothing

Floats = NDArray[np.float64]
Topics = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Tastes:
    """Vectors of topics, and effects of organisers.

    Attributes:
        names: The topics that are known.
        vectors: float64[topics, size].
        strength: What a cosine of one is worth, logits.
        later: How much each later topic of an event counts, beside the first.
        organizers: Organiser -> its effect, logits; of others nothing is known.
    """

    names: tuple[str, ...] = ()
    vectors: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    strength: float = 0.0
    later: float = 0.0
    organizers: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def of(self, liked: Collection[str], topics: Topics) -> Floats:
        """Return how much events suit somebody, logits, float64[events]; 0 where no topic is known.

        Args:
            liked: What they like.
            topics: What each event is about, the main topic first.
        """
        mine = [self._place[name] for name in sorted(set(liked)) if name in self._place]
        if not mine or not len(topics):
            return np.zeros(len(topics))
        person = unit(self.vectors[mine].mean(axis=0))
        events = np.zeros((len(topics), self.vectors.shape[1]))
        told = [(row, *one) for row, of in enumerate(topics) for one in event_weights(of, self._place, self.later)]
        if told:
            rows, places, weights = (np.array(column) for column in zip(*told, strict=True))
            np.add.at(events, rows, weights[:, None] * self.vectors[places])
        return np.asarray(self.strength * (unit(events) @ person), np.float64)

    def effects(self, organizers: Sequence[str | None]) -> Floats:
        """Return the effects of events' organisers, logits, float64[events]; 0 of those that nothing is known of."""
        return np.array([self.organizers.get(name or "", 0.0) for name in organizers], np.float64)

    def rounded(self) -> Tastes:
        """Return what `unpack` makes of what `pack` makes of it."""
        effects = {name: round(value, _DIGITS) for name, value in self.organizers.items()}
        numbers = (round(self.strength, _DIGITS), round(self.later, _DIGITS))
        return Tastes(self.names, np.round(self.vectors, _DIGITS), *numbers, effects)

    def pack(self) -> bytes:
        """Return the bytes of FILE; the same tastes give the same ones."""
        found = self.rounded()
        body = {
            "names": found.names,
            "vectors": found.vectors.tolist(),
            "strength": found.strength,
            "later": found.later,
            "organizers": dict(sorted(found.organizers.items())),
        }
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return gzip.compress(text.encode("utf-8", errors="surrogatepass"), mtime=0)


def unpack(data: bytes) -> Tastes:
    """Return what `Tastes.pack` wrote; raises IntegrityError where it is none, TooLargeError past its size."""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(data, _MOST_BYTES)
        if unpacker.unconsumed_tail:
            raise TooLargeError(f"{FILE} unfolds to more than {_MOST_BYTES} bytes")
        body = json.loads(text.decode("utf-8", errors="surrogatepass"))
        names = tuple(map(str, body["names"]))
        vectors = np.array(body["vectors"], np.float64).reshape(len(names), -1) if names else np.zeros((0, 0))
        effects = {str(name): float(value) for name, value in body["organizers"].items()}
        found = Tastes(names, vectors, float(body["strength"]), float(body["later"]), effects)
        if not np.isfinite([*vectors.ravel(), found.strength, found.later, *effects.values()]).all():
            raise ValueError("a number that is none")
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{FILE} of the release cannot be read ({error!r}); learn anew") from error
    return found


def event_weights(topics: Sequence[str], place: Mapping[str, int], later: float) -> list[tuple[int, float]]:
    """Return the known topics of an event, each once, and how much each counts: 1 for the first, `later` for others."""
    distinct = enumerate(dict.fromkeys(topics))
    return [(place[name], later if rank else 1.0) for rank, name in distinct if name in place]


def unit(vectors: Floats) -> Floats:
    """Return vectors, float64[..., size], of length one; those of next to no length are next to nothing."""
    return np.asarray(vectors / lengths(vectors), np.float64)


def lengths(vectors: Floats) -> Floats:
    """Return by what `unit` divides, float64[..., 1]."""
    return np.asarray(np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True) + _LITTLE), np.float64)
