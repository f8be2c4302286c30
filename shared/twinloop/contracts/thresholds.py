"""From which probability on something is done about a label: chosen on held-out examples, written beside the model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from twinloop.contracts.model import Contract
from twinloop.contracts.text import TextInputs

TEXT_FILE, VOCABULARY_FILE = "text.json", "vocabulary.txt"
LABELS = "labels"
"""The output of the component `text`: probabilities, float32[K, labels], in the order of `TextTold.labels`."""

Level = Literal["flag", "limit", "review", "remove"]


class Threshold(Contract):
    """A probability, and what came of it on held-out examples."""

    at: float = Field(ge=0, le=1)
    precision: float = Field(ge=0, le=1)
    recall: float = Field(ge=0, le=1)
    asked: str = Field(description="What it was chosen for: `precision >= 0.9`, say, or `f1 of both`.")


class LabelTold(Contract):
    """What is known of a label.

    `rate`: share of the examples that have it. `thresholds`: by level; one that no probability reaches is not there.
    """

    rate: float = Field(ge=0, le=1)
    examples: int = Field(ge=0)
    thresholds: dict[Level, Threshold] = Field(default_factory=dict)


class TextTold(Contract):
    """`text.json` beside a model of texts: what it reads, and what it tells."""

    inputs: TextInputs
    labels: dict[str, LabelTold] = Field(min_length=1, description="In the order of the output's columns.")
