"""How a text becomes what a model is asked with: settings that a component's manifest names beside `NORMALISATION`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from twinloop.contracts.model import Contract

NORMALISATION = 2
"""Version of the rules in `text/disguises.py`: other rules, another number; serving refuses a model of another."""

MOST_TEXT_BUCKETS = 2**22


class TextInputs(Contract):
    """What a model of texts reads.

    `ngrams`: hashed n-grams of words and of characters inside words, each id once with how often it is there.
    `wordpieces`: places in a vocabulary that lies beside the model, in the order of the text. `both`: both.
    """

    kind: Literal["ngrams", "wordpieces", "both"] = "ngrams"
    normalisation: int = Field(NORMALISATION, ge=1)
    window: int = Field(1_000, ge=50, le=10_000, description="Characters that are read together, after normalisation.")
    overlap: int = Field(100, ge=0, description="Characters that a window shares with the one before it.")
    words: int = Field(2, ge=1, le=4, description="Longest n-gram of words.")
    shortest: int = Field(2, ge=1, le=8, description="Shortest n-gram of characters; a word's ends count as one each.")
    longest: int = Field(5, ge=1, le=8, description="Longest n-gram of characters.")
    buckets: int = Field(2**18, ge=2, le=MOST_TEXT_BUCKETS, description="A power of two; all n-grams share them.")
    most_pieces: int = Field(96, ge=8, le=512, description="Of wordpieces: how many of a window are read.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets are a power of two, not {self.buckets}")
        if self.overlap >= self.window:
            raise ValueError("windows overlap by less than their length")
        if self.longest < self.shortest:
            raise ValueError("the longest n-gram of characters is not shorter than the shortest")
        return self
