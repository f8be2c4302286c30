"""Retrieval, then ranking, then policy: what a loaded release answers for one user."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts import signature
from twinloop.contracts.artefacts import Case
from twinloop.contracts.features import Feature
from twinloop.contracts.history import History, HistoryEntry
from twinloop.contracts.system import Model, Ranked
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features.online import compute
from twinloop.features.schema import chosen
from twinloop.systems.video.features import FEATURES
from twinloop.systems.video.policy import shut
from twinloop.systems.video.spec import SPEC

ITEMS_FILE = "items.json.gz"
JUDGED_LENGTH = 20  # the longest list a metric looks at


class VideoPredictor:
    """One release of video.

    Args:
        models: `retrieval`, with `items.json.gz` beside it, and `ranking` where the rung has one.
        features: The definitions that `context_names` of the retrieval's manifest choose from.
        length: Events of a history that features look at.

    Raises:
        IntegrityError: There is no retrieval, or its items cannot be read.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        features: Sequence[Feature] = FEATURES,
        length: int = SPEC.history_length,
    ) -> None:
        if "retrieval" not in models:
            raise IntegrityError("a video release needs the component 'retrieval'")
        self._retrieval = models["retrieval"]
        self._ranking = models.get("ranking")
        self._ids, self._titles, self._popularity = _items(self._retrieval.asset(ITEMS_FILE))
        self._index = {item_id: place for place, item_id in enumerate(self._ids)}
        if self._ranking is not None and signature.FEATURES not in self._retrieval.manifest.outputs:
            raise IntegrityError("the release has a ranking, but its retrieval gives no features to rank by")
        self._features = features
        self._length = length

    def rank(self, history: History, exclude: Sequence[str], limit: int, *, at_ms: int) -> Ranked:
        """Rank items for a user.

        Args:
            history: What the user did, oldest first. Entries of items that the model does not know are ignored.
            exclude: Ids not to return, beside those in the history.
            limit: Length of the list at most.
            at_ms: The moment of asking, epoch milliseconds; features of the user are those of this moment.

        Returns:
            The ranking; that of `popular` where no positive entry is known to the model.

        Raises:
            IntegrityError: The models' answer is not of this release's items, or they take features unknown here.
        """
        liked = [(self._index[e.item_id], e.time_ms) for e in history if e.positive and e.item_id in self._index]
        if not liked:
            return self.popular(history, exclude, limit)
        found = self._retrieval.run(
            {
                signature.HISTORY: np.array([place for place, _ in liked], dtype=np.int64),
                signature.TIMES: np.array([time_ms // 1000 for _, time_ms in liked], dtype=np.int64),
                signature.EXCLUDE: np.array(shut(history, exclude, self._index), dtype=np.int64),
                **self.context(history, at_ms),
            }
        )
        items, scores = self._ranked(found)
        best = np.argsort(-scores, kind="stable")[:limit]
        return Ranked(tuple(self._ids[place] for place in items[best]), scores[best])

    def popular(self, history: History, exclude: Sequence[str], limit: int) -> Ranked:
        """Return what most people like, without what the user has seen; runs no model."""
        order = self._by_popularity
        closed = set(shut(history, exclude, self._index))
        # Among the first limit + len(closed) there are enough open ones, so the tail is never looked at.
        places = [int(place) for place in order[: limit + len(closed)] if int(place) not in closed][:limit]
        return Ranked(tuple(self._ids[place] for place in places), self._popularity[places], cold=True)

    def context(self, history: History, at_ms: int) -> dict[str, NDArray[np.float32]]:
        """Return the tensor of what is known of a user at a moment, under its name; none where the model takes none."""
        if not self._context:
            return {}
        known = compute(history, self._context, at_ms, length=self._length)
        return {signature.CONTEXT: np.array([known[f.name].value for f in self._context], dtype=np.float32)}

    def title(self, item_id: str) -> str | None:
        """Return an item's title where it has one."""
        place = self._index.get(item_id)
        return (self._titles[place] or None) if place is not None else None

    @cached_property
    def _context(self) -> tuple[Feature, ...]:
        """What the model is asked with. Found out when it is asked, since popular items need none of it."""
        manifest = self._retrieval.manifest
        if bool(manifest.context_names) != (signature.CONTEXT in manifest.inputs):
            raise IntegrityError("retrieval takes features of the user that its manifest does not name, or vice versa")
        return chosen(self._features, manifest.context_names)

    @cached_property
    def _by_popularity(self) -> NDArray[np.int64]:
        return np.argsort(-self._popularity, kind="stable")

    def _ranked(self, found: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the open items among those found with their final scores, in retrieval's order."""
        items, scores = found[signature.ITEMS], found[signature.SCORES]
        if items.shape != scores.shape or (items.size and not 0 <= items.min() <= items.max() < len(self._ids)):
            raise IntegrityError("retrieval returned items that are not in the release's list")
        available = scores != -np.inf
        if self._ranking is not None:
            scores = self._ranking.run({signature.FEATURES: found[signature.FEATURES]})[signature.SCORES]
        items, scores = items[available], scores[available]
        if not np.isfinite(scores).all():
            raise IntegrityError("the release's models returned scores that are not numbers")
        return items, scores


def judge(predictor: VideoPredictor, case: Case) -> dict[str, float]:
    """Return one case's metrics: NDCG@10 and Recall@20 of the list that serving would have answered.

    Raises BadInputError where the case is not one of video's.
    """
    from twinloop.evaluation.ranking import ndcg_at_k, recall_at_k  # noqa: PLC0415 - serving answers without metrics

    try:
        history = tuple(HistoryEntry(str(i), int(time_ms), float(s)) for i, time_ms, s in case.request["history"])
        relevant, at_ms = frozenset(case.truth["relevant"]), int(case.request["time_ms"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"case {case.case_id!r} is not a case of video: {error!r}") from error
    ranked = predictor.rank(history, (), JUDGED_LENGTH, at_ms=at_ms).ids
    return {"ndcg@10": ndcg_at_k(ranked, relevant, 10), "recall@20": recall_at_k(ranked, relevant, 20)}


def _items(packed: bytes) -> tuple[list[str], list[str], NDArray[np.float32]]:
    try:
        content: dict[str, Any] = json.loads(gzip.decompress(packed))
        ids, titles = content["item_ids"], content["titles"]
        popularity = np.array(content["popularity"], dtype=np.float32)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{ITEMS_FILE} of retrieval cannot be read: {error!r}") from error
    if not ids or not len(ids) == len(titles) == len(popularity) == len(set(ids)):
        raise IntegrityError(f"{ITEMS_FILE} of retrieval must list the same, distinct items in each of its parts")
    if not np.isfinite(popularity).all():
        raise IntegrityError(f"{ITEMS_FILE} of retrieval has a popularity that is not a number")
    return ids, titles, popularity
