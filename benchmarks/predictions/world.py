"""Who is asked about what: the sizes, the request, and the draws of all parts, one after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from twinloop import systems
from twinloop.contracts.history import HistoryEntry

ITEMS, NEW, LARGE, CANDIDATES, FEATURES = 1682, 500, 100_000, 150, 8
CONTEXT = tuple(feature.name for feature in systems.load("video").features)
DAY = 86_400_000
NOW_MS = 1_767_225_600_000
RNG = np.random.default_rng(7)
HISTORY = tuple(HistoryEntry(f"i{place}", 1000 + place, 1.0) for place in range(0, 400, 2))
ASKED = {"user_id": "u1", "limit": 20, "include": ["titles"]}
EVENT = {
    "httpMethod": "POST",
    "path": "/v1/video/recommendations",
    "headers": {"Content-Type": "application/json"},
    "body": json.dumps(ASKED),
}


class MemoryStream:
    """Where prediction log lines go."""

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        """Take all of them."""
        del system, lines
        return set()
