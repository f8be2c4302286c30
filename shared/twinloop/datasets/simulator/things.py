"""What there is in the world: items with tags, authors, lengths, fame, and words that say what they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinloop.datasets.simulator.people import Array, arrivals, unit
from twinloop.datasets.simulator.settings import WorldSettings
from twinloop.datasets.simulator.vocabulary import MOODS, TAGS

MEDIAN_SECONDS = 45.0
NO_TAG = -1
_ITEMS_AN_AUTHOR = 20
_OLD_DAYS = 120.0
_NAMES = tuple(TAGS)


@dataclass(frozen=True)
class Items:
    """Columns, one row an item, in the order of publication.

    Attributes:
        vectors: float32[n, k], unit vectors; the closer to a taste, the better.
        tags: int16[n, 2], the main tag and perhaps a second one (-1 is none).
        word: int8[n, 2], which of the tags' words stand in the title.
        mood: int8[n], the title's first word.
        author: int32[n].
        duration_s: float64[n].
        published_ms: int64[n].
        quality: float32[n], logits that everybody agrees on.
        fame: float64[n], how often it is shown, relative to each other.
    """

    vectors: Array
    tags: Array
    word: Array
    mood: Array
    author: Array
    duration_s: Array
    published_ms: Array
    quality: Array
    fame: Array

    def tags_of(self, row: int) -> list[str]:
        """Return an item's tags in words."""
        return [_NAMES[tag] for tag in self.tags[row] if tag != NO_TAG]

    def title_of(self, row: int) -> str:
        """Return an item's title; its words come from its tags."""
        words = [TAGS[_NAMES[tag]][word] for tag, word in zip(self.tags[row], self.word[row], strict=True) if tag >= 0]
        return f"{MOODS[self.mood[row]]} {' and '.join(words)}"


def make_items(settings: WorldSettings, tags: Array, rng: np.random.Generator) -> Items:
    """Draw the items. Tags, words and authors tell much of what an item is, and not all."""
    count, size = settings.items, tags.shape[1]
    shares = 1 / np.arange(1, len(TAGS) + 1) ** 0.5
    main = rng.choice(len(TAGS), count, p=shares / shares.sum())
    second = np.where(rng.random(count) < 0.5, rng.integers(0, len(TAGS), count), NO_TAG)
    second[second == main] = NO_TAG
    words = rng.standard_normal((len(TAGS), len(TAGS[_NAMES[0]]), size)) / np.sqrt(size)
    word = rng.integers(0, words.shape[1], (count, 2))
    authors = max(1, count // _ITEMS_AN_AUTHOR)
    author = (authors * rng.random(count) ** 2).astype(np.int32)  # some make much more than others
    styles = rng.standard_normal((authors, size)) / np.sqrt(size)
    vectors = tags[main] + 0.35 * words[main, word[:, 0]] + 0.3 * styles[author]
    vectors += np.where(second[:, None] == NO_TAG, 0.0, 0.5 * tags[second] + 0.2 * words[second, word[:, 1]])
    vectors += rng.standard_normal((count, size)) * (0.35 / np.sqrt(size))
    rank = rng.permutation(count) + 1.0
    fame = rank**-settings.popularity
    known = np.log(count / rank)  # exponential with mean 1
    return Items(
        vectors=unit(vectors).astype(np.float32),
        tags=np.stack([main, second], axis=1).astype(np.int16),
        word=word.astype(np.int8),
        mood=rng.integers(0, len(MOODS), count).astype(np.int8),
        author=author,
        duration_s=np.round(np.clip(MEDIAN_SECONDS * rng.lognormal(0.0, 0.9, count), 5, 3600), 1),
        published_ms=arrivals(settings, count, settings.cold_items, _OLD_DAYS, rng),
        quality=(0.3 * (known - 1) + rng.normal(0, 0.4, count)).astype(np.float32),
        fame=fame,
    )
