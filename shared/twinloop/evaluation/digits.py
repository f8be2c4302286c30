"""How many decimals a figure is told with: as many as what is decided by it takes."""

from __future__ import annotations

import math

PLACES = 3
_FINE_PLACES, _MOST_PLACES = 5, 8
_NOISE = 1e-9  # of floats: equal scores of all cases have no width, and are told as if
_FINE = {"gain", "logloss", "loss", "ece"}  # by the last word of its name


def places(metric: str) -> int:
    """Return how many decimals tell a metric: differences that matter in log loss and ECE are ten-thousandths."""
    return _FINE_PLACES if metric.rpartition("_")[2] in _FINE else PLACES


def decimals(*amounts: float, least: int = 4) -> int:
    """Return the decimals that tell the smallest of amounts with two digits: little is not nothing.

    Args:
        amounts: Such as a margin, or half an interval; what is not above 0 asks for none.
        least: So many at least.
    """
    asked = [1 - math.floor(math.log10(amount)) for amount in amounts if amount > _NOISE]
    return min(max([least, *asked]), _MOST_PLACES)
