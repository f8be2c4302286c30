"""A simulated forum: made-up texts, of which some advertise or mock, and people who are asked about them.

P(a person sees a label in a text) is known: it grows with the phrases that stand in the text, falls where they are only
quoted, and differs from person to person. Some authors write what is labelled more
often than others, and some disguise it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from twinloop.datasets.simulator.settings import ModerationSettings
from twinloop.datasets.simulator.vocabulary import MOODS, TAGS

# A phrase, and how many logits it brings a label. The words of a phrase stand in harmless texts, too, one by one.
PHRASES: dict[str, tuple[tuple[str, float], ...]] = {
    "spam": (
        ("free prize", 6.0), ("limited offer", 4.5), ("act now", 3.0), ("double your savings", 6.5),
        ("winners only", 4.0), ("click this link", 5.5), ("cheap tickets", 2.5), ("guaranteed bargain", 4.0),
    ),
    "insult": (
        ("total numpty", 6.0), ("you muppet", 5.0), ("utter nincompoop", 6.0), ("silly noodle", 3.0),
        ("complete wally", 5.0), ("what a clod", 4.0), ("such a twit", 5.5), ("bit slow", 2.5),
    ),
}  # fmt: skip
LABELS = tuple(PHRASES)
_ODDS = -4.0  # that somebody sees a label in a text without any phrase, logits
_QUOTED = -3.5  # what is told of others, logits
_SHARES = {"spam": 0.2, "insult": 0.15}  # of the texts that have phrases of a label
# Names of groups and spellings of a dialect, in harmless and labelled texts alike: who is wrongly flagged can be told.
_SPOKEN_OF = ("women", "immigrants", "muslim", "christian", "deaf", "gonna", "y'all", "ain't")
_LITTLE = ("the", "a", "with", "and", "of", "for", "about", "from", "again", "today", "really", "some", "our", "my")
_SHORTEST, _LONGEST = 6, 40
_DAY_MS, _ANSWERED_MS = 86_400_000, 6 * 3_600_000
_LOOKALIKE = str.maketrans("aeopcx", "аеорсх")  # Cyrillic
_LEET = str.maketrans("aeiost", "431057")


class Written(NamedTuple):
    """A text.

    Attributes:
        text: As it was written.
        author: Number of who wrote it.
        time_ms: When, epoch milliseconds.
        odds: How far its phrases speak for each label, logits, in the order of `LABELS`.
    """

    text: str
    author: int
    time_ms: int
    odds: tuple[float, ...]


class Told(NamedTuple):
    """What one person said of one label of a text, and how likely they said yes."""

    item: int
    label: str
    reviewer: int
    time_ms: int
    flagged: bool
    p_flagged: float


class TextWorld:
    """Texts, and what people say of them; the same settings give the same."""

    def __init__(self, settings: ModerationSettings) -> None:
        self.settings = settings
        rng = np.random.default_rng([settings.seed, 1])
        self._words = [word.lower() for titles in TAGS.values() for word in titles] + [m.lower() for m in MOODS]
        self._words += [word for phrases in PHRASES.values() for phrase, _ in phrases for word in phrase.split()]
        self._words += _SPOKEN_OF
        self.severity = rng.normal(0, 0.7, settings.reviewers)
        self._tendency = rng.gamma(0.5, 2.0, (settings.users, len(LABELS)))
        fame = 1 / np.arange(1, settings.users + 1) ** 0.7
        author = rng.choice(settings.users, settings.items, p=fame / fame.sum())
        start_ms, step_ms = settings.start.timestamp() * 1000, settings.days * _DAY_MS / settings.items
        self.texts = [
            self._write(rng, int(who), int(start_ms + number * step_ms)) for number, who in enumerate(author.tolist())
        ]

    def p_flagged(self, item: int, label: str, reviewer: int) -> float:
        """Return how likely somebody sees a label in a text."""
        odds = self.texts[item].odds[LABELS.index(label)] + self.severity[reviewer]
        return float(1 / (1 + np.exp(-odds)))

    def answers(self) -> Iterator[Told]:
        """Yield what people say, text by text; of a share `every_label` of them about all labels."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, 2])
        for item, one in enumerate(self.texts):
            labels = LABELS if rng.random() < settings.every_label else (LABELS[int(rng.integers(len(LABELS)))],)
            for reviewer in rng.choice(settings.reviewers, settings.asked, replace=False).tolist():
                time_ms = one.time_ms + int(rng.integers(1, _ANSWERED_MS))
                for label in labels:
                    p = self.p_flagged(item, label, reviewer)
                    yield Told(item, label, reviewer, time_ms, bool(rng.random() < p), p)

    def reports(self) -> Iterator[tuple[int, int, int]]:
        """Yield text, who reported it, and when: the likelier, the worse it is."""
        rng = np.random.default_rng([self.settings.seed, 3])
        for item, one in enumerate(self.texts):
            worst = 1 / (1 + np.exp(-max(one.odds)))
            for _ in range(int(rng.poisson(0.02 + 0.6 * worst))):
                yield item, int(rng.integers(self.settings.users)), one.time_ms + int(rng.integers(1, _ANSWERED_MS))

    def _write(self, rng: np.random.Generator, author: int, time_ms: int) -> Written:
        length = int(np.clip(rng.lognormal(2.5, 0.5), _SHORTEST, _LONGEST))
        words = [self._word(rng) for _ in range(length)]
        odds, parts = np.full(len(LABELS), _ODDS), []
        for place, label in enumerate(LABELS):
            if rng.random() < 1 - np.exp(-_SHARES[label] * self._tendency[author, place]):
                quoted = rng.random() < self.settings.quoted
                for phrase in rng.choice(len(PHRASES[label]), int(rng.integers(1, 3)), replace=False).tolist():
                    text, weight = PHRASES[label][phrase]
                    odds[place] += weight
                    parts.append(f'they said "{text}" to me' if quoted else self._disguised(rng, text))
                odds[place] += _QUOTED if quoted else 0
        for part in parts:
            words.insert(int(rng.integers(len(words) + 1)), part)
        return Written(" ".join(words), author, time_ms, tuple(odds.tolist()))

    def _word(self, rng: np.random.Generator) -> str:
        pool = _LITTLE if rng.random() < 0.4 else self._words
        return pool[int(rng.integers(len(pool)))]

    def _disguised(self, rng: np.random.Generator, phrase: str) -> str:
        """Return a phrase as it is, or of a share `disguised` so that a list of words does not find it."""
        if rng.random() >= self.settings.disguised:
            return phrase
        ways = (
            phrase.translate(_LEET),
            phrase.translate(_LOOKALIKE),
            " ".join(word[0] + "\u200b" + word[1:] for word in phrase.split()),
            " ".join(" ".join(word) if len(word) > 3 else word for word in phrase.split()),
            "".join(letter * (3 if letter in "aeiou" else 1) for letter in phrase),
        )
        return ways[int(rng.integers(len(ways)))]
