"""Named settings of search's policy. They are starting points to be tested, not findings."""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """Settings of how a query is answered.

    Attributes:
        purpose: What it is for, in words.
        spelling: Words that no document has are taken for near ones.
        meaning: Documents are found by their meaning, too.
        swap: With which probability two neighbours change places, to learn how places are looked at.
    """

    purpose: str
    spelling: bool = True
    meaning: bool = True
    swap: float = 0.0


PRESETS: dict[str, Preset] = {
    "balanced": Preset("Words and meaning, mistyped words corrected."),
    "exact": Preset("Only documents that hold the words as they were written.", spelling=False, meaning=False),
    "explore": Preset(
        "As balanced, and neighbours change places in half of the cases, so that clicks tell places from items.",
        swap=0.5,
    ),
}
DEFAULT = "balanced"
