"""Named settings of video's policy. Where the numbers come from is told in docs/decisions/policy-reranking.md."""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """Settings of re-ranking.

    Attributes:
        purpose: What it is for, in words.
        diversity: What an item loses that is just like one above it, in standard deviations of the candidates' scores.
        fresh: What an item published this moment gains, in the same unit.
        half_life_days: After which half of that gain is left.
        per_author: Items of one author in a list, before those of others give out; 0 sets no limit.
        click: Weight of the probability of a click beside the ranking's score, where a release predicts it; with
            `watch` at most 1.
        watch: Weight of the expected watch time, likewise.
        explore: Probability that a place of exploration is given to a new item.
        explore_share: Places of exploration in a list, as a share of its length.
    """

    purpose: str
    diversity: float = 0.0
    fresh: float = 0.0
    half_life_days: float = 30.0
    per_author: int = 0
    click: float = 0.0
    watch: float = 0.0
    explore: float = 0.2
    explore_share: float = 0.1


PRESETS: dict[str, Preset] = {
    "balanced": Preset(
        "What the models say, with a little against repetition. The gate judges with it.",
        diversity=0.1,
        per_author=3,
        click=0.1,
        watch=0.1,
    ),
    "watch_time": Preset(
        "Leans on how long somebody will watch, where the release predicts that; otherwise as balanced.",
        diversity=0.1,
        per_author=3,
        click=0.1,
        watch=0.3,
    ),
    "fresh": Preset(
        "Prefers what was published lately, and tries out more that is new.",
        diversity=0.1,
        fresh=1.5,
        half_life_days=14.0,
        per_author=3,
        click=0.1,
        watch=0.1,
        explore=0.5,
    ),
    "diverse": Preset("Prefers items unlike each other.", diversity=2.0, per_author=1, click=0.1, watch=0.1),
}
DEFAULT = "balanced"
