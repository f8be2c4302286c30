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
`engagement` says of K items, in one batch, what would become of them if they were shown. It takes, as far as the
manifest's `inputs` name it:
    known    float32[K, S]  features of the user, of each item and of the two together at the moment of asking: their
                            values in the order of the manifest's `known_names`, as `features/values.py` computes them
    items    int64[K]       as retrieval returned them; -1 is an item that the model does not know
    history  int64[H >= 1]  as of `retrieval`
    times    int64[H]
    at       int64[1]       the moment of asking, epoch seconds
    situation int64[C]      facts of the moment in the order of the manifest's `situation`: each one's place among the
                            values listed there, from 1; 0 is any other value, or none
and gives
    click      float32[K]   probability of a click
    long_watch float32[K]   probability of a long watch
    watch_s    float32[K]   expected seconds of watching, not below 0
`click` says of K items the probability of a click, calibrated. It takes, as far as the manifest's `inputs` name it:
    ids      int64[K, F]    a column for each field of the manifest's `hashed`, as `features/hashing.py` computes them
    known    float32[K, S]  as of `engagement`
and gives
    click    float32[K]
The place at which an item was shown is known to training alone: no graph takes it.
"""

from __future__ import annotations

CANDIDATES = 150  # items that retrieval hands on

HISTORY, TIMES, EXCLUDE, CONTEXT = "history", "times", "exclude", "context"
ITEMS, SCORES, FEATURES, WATCH = "items", "scores", "features", "watch_s"
KNOWN, AT, SITUATION, CLICK, LONG_WATCH = "known", "at", "situation", "click", "long_watch"
IDS = "ids"

RETRIEVAL, RANKING, ENGAGEMENT = "retrieval", "ranking", "engagement"
