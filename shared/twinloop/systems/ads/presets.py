"""Named settings of ads' policy. The caps and shares are starting points to be tested, not findings."""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """Settings of what is shown, and in which order.

    Attributes:
        purpose: What it is for, in words.
        per_ad: How often a user may be shown an ad in a day; 0 sets no limit.
        per_campaign: How often they may be shown ads of a campaign in a day; 0 sets no limit.
        slow_from: The share of an ad's budget of a day after which it is shown less and less; 1 sets no brake before
            the budget is spent.
        explore: Probability that an answer is in any order instead of the best one.
    """

    purpose: str
    per_ad: int = 0
    per_campaign: int = 0
    slow_from: float = 0.8
    explore: float = 0.0


PRESETS: dict[str, Preset] = {
    "balanced": Preset(
        "By expected value; at most 5 showings of an ad and 15 of a campaign to a user in a day, budgets paced.",
        per_ad=5,
        per_campaign=15,
    ),
    "no_cap": Preset("As balanced, however often the user has seen an ad."),
    "explore": Preset(
        "As balanced, and one answer of twenty is in any order, with its propensities, to learn from.",
        per_ad=5,
        per_campaign=15,
        explore=0.05,
    ),
}
DEFAULT = "balanced"
