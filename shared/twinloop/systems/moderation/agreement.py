"""How far reviewers agree, and how often decided appeals say otherwise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twinloop.ports import ObjectStore
from twinloop.systems.moderation.words import Word, said


@dataclass(frozen=True)
class Agreement:
    """How far reviewers agree about a label.

    `alpha` is Krippendorff's for nominal data: 1 is always, 0 as often as by chance; None where nobody could disagree.
    `overturned`: texts where a decided appeal says otherwise than most reviewers, of all with a decided appeal.
    """

    label: str
    texts: int
    twice: int
    disagreed: int
    alpha: float | None
    appeals: int
    overturned: int


def agreement(store: ObjectStore) -> list[Agreement]:
    """Return how far people agree, label by label."""
    return agreement_of(word for words in said(store).values() for word in words)


def agreement_of(words: Iterable[Word]) -> list[Agreement]:
    """Return how far people agree; of each person the latest word on a text and label counts."""
    reviewers: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    appeals: dict[str, dict[str, int]] = defaultdict(dict)
    for word in sorted(words, key=lambda word: word.time_ms):
        for label, value in word.labels.items():
            if word.kind == "reviewer":
                reviewers[label][word.item_id][word.who] = value
            else:
                appeals[label][word.item_id] = value
    found = []
    for label in sorted({*reviewers, *appeals}):
        texts = {item: tuple(values.values()) for item, values in reviewers[label].items()}
        twice = [values for values in texts.values() if len(values) > 1]
        decided = appeals[label]
        overturned = sum(item in texts and (2 * sum(texts[item]) > len(texts[item])) != value
                         for item, value in decided.items())  # fmt: skip
        found.append(
            Agreement(
                label=label,
                texts=len(texts),
                twice=len(twice),
                disagreed=sum(len(set(values)) > 1 for values in twice),
                alpha=alpha(twice),
                appeals=len(decided),
                overturned=overturned,
            )
        )
    return found


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Return Krippendorff's alpha of nominal values, each unit's by those who were asked (Krippendorff 2011).

    None where no unit has two values, or all values are one: then nothing says what chance would do.
    """
    paired = [values for values in units if len(values) > 1]
    counts: dict[int, int] = defaultdict(int)
    for values in paired:
        for value in values:
            counts[value] += 1
    total = sum(counts.values())
    if total < 2 or len(counts) < 2:
        return None
    observed = sum(
        sum(a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j) / (len(values) - 1)
        for values in paired
    )
    expected = sum(counts[a] * counts[b] for a in counts for b in counts if a != b) / (total - 1)
    return 1 - observed / expected
