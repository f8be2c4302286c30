"""Retrieval, then ranking, then policy: what a loaded release answers for one user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts import signature
from twinloop.contracts.artefacts import Case
from twinloop.contracts.features import Feature
from twinloop.contracts.history import History, HistoryEntry
from twinloop.contracts.segments import segment_value
from twinloop.contracts.system import Asked, Knowledge, Model, Ranked
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features.online import compute
from twinloop.features.schema import chosen
from twinloop.systems.video import policy
from twinloop.systems.video.catalogue import Catalogue, Segment
from twinloop.systems.video.features import COUNTING, FEATURES
from twinloop.systems.video.presets import DEFAULT, PRESETS, Preset
from twinloop.systems.video.spec import SPEC

JUDGED_LENGTH = 20  # the longest list a metric looks at
NOTHING_ASKED = Asked()


@dataclass(frozen=True)
class Candidates:
    """What a list is picked from: the model's items with their final scores, in retrieval's order.

    `click` and `watch_s` are predictions, where the release makes them; `features` are what a ranking saw of the items,
    `known` what an engagement was told of them, float32[K, S]; `segment` is whose popularity it is, of a user nothing
    is known of.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    click: NDArray[np.float32] | None = None
    watch_s: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    known: NDArray[np.float32] | None = None
    segment: Segment | None = None


class VideoPredictor:
    """One release of video.

    Args:
        models: `retrieval`, with what `Catalogue` reads beside it, `ranking` where the rung has one, and `engagement`,
            which says what would become of candidates.
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
        self.retrieval = models["retrieval"]
        self.ranking = models.get(signature.RANKING)
        self.engagement = models.get(signature.ENGAGEMENT)
        self.catalogue = Catalogue(self.retrieval.asset)
        if self.ranking is not None and signature.FEATURES not in self.retrieval.manifest.outputs:
            raise IntegrityError("the release has a ranking, but its retrieval gives no features to rank by")
        self._features = features
        self._length = length

    @property
    def asks_known(self) -> bool:
        """Whether `rank` is to be given what the store knows of the user and of items."""
        return self.engagement is not None

    def rank(
        self,
        history: History,
        exclude: Sequence[str],
        limit: int,
        *,
        at_ms: int,
        asked: Asked = NOTHING_ASKED,
        known: Knowledge | None = None,
    ) -> Ranked:
        """Rank items for a user.

        Args:
            history: What the user did, oldest first. Entries of items that the model does not know are ignored.
            exclude: Ids not to return, beside those in the history.
            limit: Length of the list at most.
            at_ms: The moment of asking, epoch milliseconds; features of the user are those of this moment.
            asked: Preset, seed of what is drawn, context, and whether reasons are wanted.
            known: What the store says, where the release asks (`asks_known`); without it features are their defaults.

        Returns:
            The ranking; what is popular, in the request's context where that is known to matter, where no positive
            entry is known to the model.

        Raises:
            IntegrityError: The models' answer is not of this release's items, or they take features unknown here.
            BadInputError: There is no such preset.
        """
        preset = _preset(asked.preset)
        liked, degraded = self.liked(history), False
        if liked:
            found = self._found(liked, history, exclude, at_ms)
            found, degraded = self._with_engagement(found, liked, at_ms, context=asked.context, known=known)
        else:
            found = self._popular(history, exclude, max(limit, signature.CANDIDATES), asked.context)
        catalogue, items = self.catalogue, found.items
        published, authors = catalogue.known.published_ms, catalogue.known.authors
        scores = policy.adjusted(
            found.scores,
            preset,
            at_ms=at_ms,
            published_ms=None if published is None else published[items],
            click=found.click,
            watch_s=found.watch_s,
        )
        places, values = policy.picked(
            scores,
            preset,
            limit,
            vectors=catalogue.vectors(items) if preset.diversity else None,
            authors=None if authors is None else authors[items],
        )
        listed = Candidates(items[places], values, _at(found.click, places), _at(found.watch_s, places))
        if not liked:
            # Who is not known gets what everybody gets: no prediction orders that list, but the answer tells those of
            # its items. So no other candidate is read from the store, or asked about.
            listed, degraded = self._with_engagement(listed, liked, at_ms, context=asked.context, known=known)
        ranked = Ranked(
            tuple(catalogue.known.ids[place] for place in listed.items),
            values,
            degraded=degraded,
            cold=not liked,
            p_click=_told(listed.click),
            watch_s=_told(listed.watch_s),
        )
        if asked.seed:
            met = {entry.item_id for entry in history} | set(exclude)
            ranked = self._with_trials(ranked, [place for place, _ in liked], met, preset, asked.seed)
        if not asked.reasons:
            return ranked
        from twinloop.systems.video.explain import Explained, reasons  # noqa: PLC0415 - most requests ask for none

        explained = Explained(found, places, preset, history, tuple(exclude), at_ms, asked.context)
        return replace(ranked, reasons=reasons(self, ranked, explained))

    def predicted(
        self, item_ids: Sequence[str], history: History, *, at_ms: int, context: Mapping[str, Any], known: Knowledge
    ) -> dict[str, NDArray[np.float32]]:
        """Return what would become of items if they were shown, as `rank` has it of its candidates.

        Args:
            item_ids: Any items; the model says of one that it does not know what it says of a new one.
            history: What the user did, oldest first.
            at_ms: The moment, epoch milliseconds.
            context: Facts of the moment.
            known: What the store says.

        Returns:
            `click`, `long_watch` and `watch_s`, float32[items]; nothing where the release has no engagement.

        Raises:
            IntegrityError: The model's answer is none.
        """
        if self.engagement is None or not item_ids:
            return {}
        index = self.catalogue.index
        items = np.array([index.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
        values = known.tensor(self.engagement.manifest.known_names, item_ids, at_ms)
        return _engaged(self.engagement, items, values, self.liked(history), at_ms, context=context)

    def popular(self, history: History, exclude: Sequence[str], limit: int) -> Ranked:
        """Return what most people like, without what the user has seen; runs no model, and no policy."""
        found = self._popular(history, exclude, limit, {})
        ids = tuple(self.catalogue.known.ids[place] for place in found.items)
        return Ranked(ids, found.scores, cold=True)

    def context(self, history: History, at_ms: int) -> dict[str, NDArray[np.float32]]:
        """Return the tensor of what is known of a user at a moment, under its name; none where the model takes none."""
        if not self._context:
            return {}
        known = compute(history, self._context, at_ms, length=self._length)
        return {signature.CONTEXT: np.array([known[f.name].value for f in self._context], dtype=np.float32)}

    def title(self, item_id: str) -> str | None:
        """Return an item's title where it has one."""
        return self.catalogue.title(item_id)

    def liked(self, history: History) -> list[tuple[int, int]]:
        """Return the positive entries that the model knows: (index, epoch milliseconds), oldest first."""
        index = self.catalogue.index
        return [(index[e.item_id], e.time_ms) for e in history if e.positive and e.item_id in index]

    def ask(
        self, liked: Sequence[tuple[int, int]], history: History, exclude: Sequence[str], at_ms: int
    ) -> dict[str, NDArray[Any]]:
        """Return what retrieval answers; its items are checked to be the release's."""
        answer = self.retrieval.run(
            {
                signature.HISTORY: np.array([place for place, _ in liked], dtype=np.int64),
                signature.TIMES: np.array([time_ms // 1000 for _, time_ms in liked], dtype=np.int64),
                signature.EXCLUDE: np.array(policy.shut(history, exclude, self.catalogue.index), dtype=np.int64),
                **self.context(history, at_ms),
            }
        )
        items, scores = answer[signature.ITEMS], answer[signature.SCORES]
        count = len(self.catalogue.known.ids)
        if items.shape != scores.shape or (items.size and not 0 <= items.min() <= items.max() < count):
            raise IntegrityError("retrieval returned items that are not in the release's list")
        return answer

    @cached_property
    def _context(self) -> tuple[Feature, ...]:
        """What the model is asked with. Found out when it is asked, since popular items need none of it."""
        manifest = self.retrieval.manifest
        if bool(manifest.context_names) != (signature.CONTEXT in manifest.inputs):
            raise IntegrityError("retrieval takes features of the user that its manifest does not name, or vice versa")
        return chosen(self._features, manifest.context_names)

    def _found(
        self, liked: Sequence[tuple[int, int]], history: History, exclude: Sequence[str], at_ms: int
    ) -> Candidates:
        """Return the open items among those that retrieval finds."""
        answer = self.ask(liked, history, exclude, at_ms)
        items, scores = answer[signature.ITEMS], answer[signature.SCORES]
        available = scores != -np.inf
        watch_s = features = None
        if self.ranking is not None:
            features = answer[signature.FEATURES]
            said = self.ranking.run({signature.FEATURES: features})
            scores, watch_s = said[signature.SCORES], said.get(signature.WATCH)
            features = features[available]
        items, scores = items[available], scores[available]
        if not np.isfinite(scores).all() or (watch_s is not None and not np.isfinite(watch_s).all()):
            raise IntegrityError("the release's models returned scores that are not numbers")
        return Candidates(items, scores, None, None if watch_s is None else watch_s[available], features)

    def _with_engagement(
        self,
        found: Candidates,
        liked: Sequence[tuple[int, int]],
        at_ms: int,
        *,
        context: Mapping[str, Any],
        known: Knowledge | None,
    ) -> tuple[Candidates, bool]:
        """Return candidates with what would become of them, if the release says; and whether a store was missing."""
        engagement = self.engagement
        if engagement is None or not len(found.items):
            return found, False
        from twinloop.features.knowledge import UserKnowledge  # noqa: PLC0415 - most releases ask for nothing

        known = known or UserKnowledge(COUNTING, None, None)
        ids = [self.catalogue.known.ids[place] for place in found.items.tolist()]
        values = known.tensor(engagement.manifest.known_names, ids, at_ms)
        said = _engaged(engagement, found.items, values, liked, at_ms, context=context)
        return replace(found, click=said[signature.CLICK], watch_s=said[signature.WATCH], known=values), known.degraded

    def _popular(self, history: History, exclude: Sequence[str], limit: int, context: Mapping[str, Any]) -> Candidates:
        """Return the most popular open items with their share of what is liked, in the context's segment if any."""
        shares, order = self.catalogue.popularity, self.catalogue.by_popularity
        segment = self.catalogue.segment(context)
        if segment is not None:
            shares = shares.copy()
            shares[segment.items] *= np.exp(segment.boosts)
            order = np.argsort(-shares, kind="stable")
        closed = set(policy.shut(history, exclude, self.catalogue.index))
        # Among the first limit + len(closed) there are enough open ones, so the tail is never looked at.
        places = [int(place) for place in order[: limit + len(closed)] if int(place) not in closed][:limit]
        items = np.array(places, dtype=np.int64)
        return Candidates(items, shares[items], segment=segment)

    def _with_trials(self, ranked: Ranked, liked: Sequence[int], met: set[str], preset: Preset, seed: str) -> Ranked:
        """Give a few places to new items that the user has not met. A tried item has the score of its place."""
        new, length = self.catalogue.new, len(ranked.ids)
        most = policy.most_choices(preset, length)
        if not new.ids or not most:
            return ranked
        order = self._new_for(liked)
        pool = [place for place in order[: most + len(met)].tolist() if new.ids[place] not in met][:most]
        ids, propensities, tried = list(ranked.ids), [1.0] * length, [False] * length
        for trial in policy.trials(seed, preset, length, len(pool)):
            propensities[trial.place] = trial.propensity
            if trial.pick is not None:
                ids[trial.place], tried[trial.place] = new.ids[pool[trial.pick]], True
        return replace(
            ranked,
            ids=tuple(ids),
            propensities=tuple(propensities),
            tried=tuple(tried),
            p_click=_unless(tried, ranked.p_click),
            watch_s=_unless(tried, ranked.watch_s),
        )

    def _new_for(self, liked: Sequence[int]) -> NDArray[np.int64]:
        """Return the order of the new items for who liked these. The catalogue's own has the newest first."""
        vectors, of_liked = self.catalogue.new_vectors, self.catalogue.vectors(np.array(liked, dtype=np.int64))
        if vectors is None or of_liked is None:
            return np.arange(len(self.catalogue.new.ids))
        return policy.suited(of_liked, vectors)


def _engaged(
    engagement: Model,
    items: NDArray[np.int64],
    values: NDArray[np.float32],
    liked: Sequence[tuple[int, int]],
    at_ms: int,
    *,
    context: Mapping[str, Any],
) -> dict[str, NDArray[np.float32]]:
    """Return what engagement says of items; `values` are the rows of `known`. Checks that they can be what it says."""
    of_user = liked or [(-1, at_ms)]
    inputs: dict[str, NDArray[Any]] = {
        signature.KNOWN: values,
        signature.ITEMS: items,
        signature.HISTORY: np.array([place for place, _ in of_user], dtype=np.int64),
        signature.TIMES: np.array([time_ms // 1000 for _, time_ms in of_user], dtype=np.int64),
        signature.AT: np.array([at_ms // 1000], dtype=np.int64),
        signature.SITUATION: situation(engagement.manifest.situation, context),
    }
    wanted = engagement.manifest.inputs
    if not set(wanted) <= set(inputs):
        raise IntegrityError(f"engagement takes {', '.join(wanted)}; known here are {', '.join(inputs)}")
    said = engagement.run({name: inputs[name] for name in wanted})
    click, watch_s = said[signature.CLICK], said[signature.WATCH]
    if click.shape != items.shape or watch_s.shape != items.shape:
        raise IntegrityError("engagement did not answer for each candidate")
    if not ((click >= 0) & (click <= 1)).all() or not (np.isfinite(watch_s) & (watch_s >= 0)).all():
        raise IntegrityError("engagement returned what are no probabilities of a click, or no seconds of watching")
    return said


def predict(predictor: VideoPredictor, case: Case) -> dict[str, float]:
    """Return what a release says of one impression, by label; nothing where it predicts nothing.

    Raises BadInputError where the case is none of video's impressions.
    """
    if predictor.engagement is None:
        return {}
    try:
        request = case.request
        history = tuple(HistoryEntry(str(i), int(time_ms), float(s)) for i, time_ms, s in request["history"])
        item_id, at_ms, known = str(request["item_id"]), int(request["time_ms"]), request["known"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"case {case.case_id!r} is no impression of video: {error!r}") from error
    said = predictor.predicted([item_id], history, at_ms=at_ms, context=request.get("context") or {}, known=known)
    return {label: float(said[label][0]) for label in (signature.CLICK, signature.LONG_WATCH, signature.WATCH)}


def judge(predictor: VideoPredictor, case: Case) -> dict[str, float]:
    """Return one case's metrics: NDCG@10 and Recall@20 of the list that serving would have answered.

    The gate judges with the default preset and the case's context; nothing is drawn at random, so nothing is tried out.
    Raises BadInputError where the case is not one of video's.
    """
    from twinloop.evaluation.ranking import ndcg_at_k, recall_at_k  # noqa: PLC0415 - serving answers without metrics

    try:
        history = tuple(HistoryEntry(str(i), int(time_ms), float(s)) for i, time_ms, s in case.request["history"])
        relevant, at_ms = frozenset(case.truth["relevant"]), int(case.request["time_ms"])
        asked = Asked(context=dict(case.request.get("context") or {}))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"case {case.case_id!r} is not a case of video: {error!r}") from error
    # Who judges puts it there, out of a snapshot or the store. The API in a predictor's place asks for nothing.
    known = {"known": case.request.get("known")} if getattr(predictor, "asks_known", False) else {}
    ranked = predictor.rank(history, (), JUDGED_LENGTH, at_ms=at_ms, asked=asked, **known).ids
    return {"ndcg@10": ndcg_at_k(ranked, relevant, 10), "recall@20": recall_at_k(ranked, relevant, 20)}


def situation(facts: Mapping[str, Sequence[str]], context: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return a request's facts as the tensor that a model is asked with; see contracts/signature.py."""
    told = ((values, segment_value(context.get(name))) for name, values in facts.items())
    return np.array([values.index(value) + 1 if value in values else 0 for values, value in told], dtype=np.int64)


def _at(predicted: NDArray[np.float32] | None, places: NDArray[np.int64]) -> NDArray[np.float32] | None:
    return None if predicted is None else predicted[places]


def _told(predicted: NDArray[np.float32] | None) -> tuple[float | None, ...]:
    return () if predicted is None else tuple(predicted.tolist())


def _unless(tried: Sequence[bool], predicted: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Take the usual item's prediction away from a place that a tried one has."""
    return tuple(None if flag else value for flag, value in zip(tried, predicted, strict=True)) if predicted else ()


def _preset(name: str | None) -> Preset:
    try:
        return PRESETS[name or DEFAULT]
    except KeyError:
        raise BadInputError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}") from None
