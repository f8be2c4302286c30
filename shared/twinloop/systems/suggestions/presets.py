"""Named settings of suggestions' policy. The numbers are starting points to be tested, not findings."""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """Settings of what is suggested, and in which order.

    Attributes:
        purpose: What it is for, in words.
        radius_km: Nothing farther is suggested, where the place is known and the request sets no radius.
        days: Nothing later, likewise.
        reachable: Whether what one would come too late for is left out.
        per_organizer: Events of one organiser in a list, before those of others give out; 0 sets no limit.
        near: What an e-fold of the distance costs besides, in standard deviations of the scores.
        soon: What an e-fold of the time until it starts costs besides, likewise.
        explore: Probability that an answer is in any order instead of the best one.
    """

    purpose: str
    radius_km: float = 100.0
    days: float = 60.0
    reachable: bool = True
    per_organizer: int = 0
    near: float = 0.0
    soon: float = 0.0
    explore: float = 0.0


PRESETS: dict[str, Preset] = {
    "balanced": Preset(
        "What the models say, at most 3 events of one organiser before those of others.", per_organizer=3
    ),
    "nearby": Preset("Leans on what is near, and leaves out what is over 25 km away.", 25.0, per_organizer=3, near=0.5),
    "soon": Preset("Leans on what starts soon, in the next week.", days=7.0, per_organizer=3, soon=0.5),
    "explore": Preset(
        "As balanced, and one answer of twenty is in any order, with its propensities, to learn from.",
        per_organizer=3,
        explore=0.05,
    ),
}
DEFAULT = "balanced"
