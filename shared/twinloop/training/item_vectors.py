"""One vector an item, of every rung alike: who liked it, and where nobody did, what it is tagged with.

Re-ranking tells by them which items are alike, and exploration which new ones may suit a user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from twinloop.training.events import Events, Floats32

WIDTH = 32
_OVERSAMPLED, _ROUNDS = 8, 4
_RIDGE = 5.0  # of the map from tags to factors, in items
_MOST_TAGS = 1_000  # the most frequent ones; the map's cost grows with their cube
_TRUST = 10.0  # likes after which an item's own vector counts as much as what its tags say


def item_vectors(
    events: Events, tags: Sequence[Sequence[str]], new_tags: Sequence[Sequence[str]] = (), *, width: int = WIDTH
) -> Floats32:
    """Return float32[n_items + len(new_tags), <= width]; rows have length 1, or 0 where nothing is known of the item.

    Factors of the likes are a truncated SVD of users x items, rows scaled to length one so that who likes everything
    does not decide. Tags are mapped to factors by ridge regression over the items that are liked (Gantner et al.,
    "Learning Attribute-to-Feature Mappings for Cold-Start Recommendations", ICDM 2010), and an item's vector leans on
    that map as far as its own likes are few. Equal events and tags give equal vectors.

    Args:
        events: What users liked.
        tags: Of every item of the events.
        new_tags: Of items that nobody has liked; their rows come last.
        width: Columns at most.
    """
    factors = _factors(events, width)
    told = _one_hot([*tags, *new_tags])
    known = told[: events.n_items]
    counts = events.counts().astype(np.float64)
    if told.shape[1]:
        weight = sp.diags(counts / (counts + _TRUST))
        gram = (known.T @ weight @ known).toarray() + _RIDGE * np.eye(told.shape[1])
        mapped = told @ np.linalg.solve(gram, known.T @ (weight @ factors))
    else:
        mapped = np.zeros((told.shape[0], factors.shape[1]))
    own = (counts / (counts + _TRUST))[:, None]
    vectors = mapped
    vectors[: events.n_items] = own * _unit(factors) + (1 - own) * _unit(mapped[: events.n_items])
    return _unit(vectors).astype(np.float32)


def _factors(events: Events, width: int) -> NDArray[np.float64]:
    """Right singular vectors times singular values, [n_items, <= width], by subspace iteration (Halko et al., 2011).

    Not by ARPACK: where there are fewer users than factors that fills up with random vectors.
    """
    matrix = events.matrix().astype(np.float64)
    lengths = np.sqrt(np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0))
    matrix = sp.diags(1 / lengths) @ matrix
    rank = max(1, min(width, *matrix.shape))
    columns = min(rank + _OVERSAMPLED, matrix.shape[1])
    basis = np.random.default_rng(0).standard_normal((matrix.shape[1], columns))
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(matrix.T @ (matrix @ basis))[0]
    _, values, turned = np.linalg.svd(matrix @ basis, full_matrices=False)
    factors = basis @ turned[:rank].T
    # A vector's sign is arbitrary; libraries must not decide it.
    factors *= np.where(factors[np.abs(factors).argmax(axis=0), np.arange(rank)] < 0, -1.0, 1.0)
    return np.asarray(factors * np.where(values[:rank] > 1e-9 * max(values[0], 1e-300), values[:rank], 0.0))


def _one_hot(tags: Sequence[Sequence[str]]) -> sp.csr_matrix:
    often = Counter(tag for of_item in tags for tag in dict.fromkeys(of_item))
    kept = sorted(often, key=lambda tag: (-often[tag], tag))[:_MOST_TAGS]
    names = {name: place for place, name in enumerate(sorted(kept))}
    chosen = [[names[tag] for tag in dict.fromkeys(of_item) if tag in names] for of_item in tags]
    columns = [place for of_item in chosen for place in of_item]
    rows = np.repeat(np.arange(len(tags)), [len(of_item) for of_item in chosen])
    return sp.csr_matrix((np.ones(len(columns)), (rows, columns)), shape=(len(tags), len(names)))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-9, rows / np.maximum(lengths, 1e-9), 0.0))
