"""The tensors that a release which recommends items takes and gives; the same for every rung of the ladder.

`retrieval` takes, for one user:
    history  int64[H >= 1]  what they liked, oldest first, as the model's item indices; -1 is nothing
    times    int64[H]       when, epoch seconds
    exclude  int64[E]       item indices that must not be returned; -1 is nothing
    context  float32[C]     features of the user at the moment of asking, only where the manifest's `context_names`
                            names any: their values in that order, as `features/online.py` computes them
and gives, best first, K = min(CANDIDATES, number of items):
    items    int64[K]
    scores   float32[K]     -inf where the item is excluded
    features float32[K, F]  where a ranking follows: a row for each item, columns as the manifest's `feature_names`
`ranking` takes `features` and gives `scores` float32[K], and if it predicts that:
    watch_s  float32[K]     expected seconds of watching
"""

from __future__ import annotations

CANDIDATES = 150  # items that retrieval hands on

HISTORY, TIMES, EXCLUDE, CONTEXT = "history", "times", "exclude", "context"
ITEMS, SCORES, FEATURES, WATCH = "items", "scores", "features", "watch_s"
