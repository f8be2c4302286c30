"""How lexical scores and similarities become one score, before anything is learnt of rankings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import IntegrityError
from twinloop.text.matching import best

Floats32 = NDArray[np.float32]
RRF_K = 60
_DEEP = 200


@dataclass(frozen=True)
class Fusion:
    """Settings of it.

    Attributes:
        method: `linear`: BM25 as a share of the best one, plus `weight` times the similarity. `rrf`: reciprocal ranks
            1 / (60 + rank) of both lists, the similarity's times `weight` (Cormack, Clarke & Buettcher, SIGIR 2009).
        weight: Of the similarity.
        least: A document that holds no word of the query is found where its similarity is at least this.
    """

    method: str = "linear"
    weight: float = 0.0
    least: float = 0.0

    def scores(self, lexical: Floats32, similar: Floats32 | None, allowed: NDArray[np.bool_] | None) -> Floats32:
        """Return float32[N]; 0 for what is not found. BM25 alone where there are no similarities."""
        if similar is None:
            return lexical
        found = (lexical > 0) | (similar >= self.least)
        if allowed is not None:
            found &= allowed
        if self.method == "rrf":
            made = np.zeros(len(lexical), np.float32)
            lists = (np.where(found, lexical, 0), 1.0), (np.where(found, similar, 0), self.weight)
            for scores, weight in lists:
                order = best(np.asarray(scores, np.float32), None, _DEEP, above=0.0)
                made[order] += np.float32(weight) / (RRF_K + 1 + np.arange(len(order), dtype=np.float32))
            return made
        top = max(float(lexical[found].max(initial=0)), 1e-9)
        # Above 0 for whatever is found: similarities may be negative, and 0 is what is not.
        made = lexical / np.float32(top) + np.float32(self.weight) * (similar + 1) + np.float32(1e-6)
        return np.where(found, made, np.float32(0)).astype(np.float32)

    @classmethod
    def told(cls, facts: object) -> Fusion:
        """Return the settings out of a release; raises IntegrityError."""
        try:
            method, weight, least = facts["method"], float(facts["weight"]), float(facts["least"])  # type: ignore[index]
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"the release does not say how scores are fused: {error!r}") from error
        if method not in ("linear", "rrf"):
            raise IntegrityError(f"the release fuses scores by {method!r}, which is not known here")
        return cls(method, weight, least)
