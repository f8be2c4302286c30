"""The reasons of one list, found by asking the models again without what may have brought an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts import signature
from twinloop.contracts.history import History
from twinloop.contracts.system import Ranked, Reason
from twinloop.systems.video import policy
from twinloop.systems.video import reasons as why
from twinloop.systems.video.features import COUNTING
from twinloop.systems.video.presets import Preset

if TYPE_CHECKING:
    from twinloop.systems.video.serve import Candidates, VideoPredictor

_DAY_MS = 86_400_000
_NOISE = 1e-6  # a loss this small a part of the greatest score is rounding


@dataclass(frozen=True)
class Explained:
    """What a list was made of: its candidates, the places among them that were picked, and the question."""

    found: Candidates
    places: NDArray[np.int64]
    preset: Preset
    history: History
    exclude: tuple[str, ...]
    at_ms: int
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Told:
    """A Knowledge that says what it is given."""

    values: NDArray[np.float32]
    degraded: bool = False

    def tensor(self, names: Sequence[str], item_ids: Sequence[str], at_ms: int) -> NDArray[np.float32]:
        del names, item_ids, at_ms
        return self.values

    def texts(self, names: Sequence[str], item_ids: Sequence[str]) -> list[tuple[str | None, ...]]:
        return [(None,) * len(names)] * len(item_ids)


def reasons(predictor: VideoPredictor, ranked: Ranked, of: Explained) -> tuple[tuple[Reason, ...], ...]:
    """Return the reasons of each item of a list, the most telling first; at least one."""
    items = of.found.items[of.places]
    tried = ranked.tried or (False,) * len(items)
    if ranked.cold:
        segment = of.found.segment
        boosted = set() if segment is None else set(segment.items.tolist())
        usual = [[why.cold(segment, item in boosted)] for item in items.tolist()]
    else:
        usual = _by_history(predictor, of, items)
        if of.found.features is not None and predictor.ranking is not None and len(items):
            ranking, manifest = predictor.ranking, predictor.retrieval.manifest
            told = why.contributions(
                lambda rows: ranking.run({signature.FEATURES: rows})[signature.SCORES],
                of.found.features,
                manifest.feature_names,
                manifest.context_names,
                of.places,
            )
            usual = [[*source, *more] for source, more in zip(usual, told, strict=True)]
        usual = _with_engaged(predictor, of, usual)
    for place, fresh in zip(usual, _fresh(predictor, of, items), strict=True):
        place.extend([why.FRESH] if fresh else [])
    return tuple(
        (_new(predictor, of, item_id),) if flag else tuple(found)
        for item_id, flag, found in zip(ranked.ids, tried, usual, strict=True)
    )


def _by_history(predictor: VideoPredictor, of: Explained, items: NDArray[np.int64]) -> list[list[Reason]]:
    """Return which liked item brought each item: the most similar one, if without it the item scores less."""
    liked, catalogue = predictor.liked(of.history), predictor.catalogue
    vectors, of_liked = catalogue.vectors(items), catalogue.vectors([place for place, _ in liked])
    if vectors is None or of_liked is None or not len(items):
        return [[why.HISTORY] for _ in items]
    nearest, cosines = why.nearest(vectors, of_liked)
    sources = [liked[place][0] if cosine >= why.ALIKE else None for place, cosine in zip(nearest, cosines, strict=True)]
    counted = Counter(source for source in sources if source is not None)
    asked = [source for source, _ in counted.most_common(why.MOST_ASKED)] or [liked[-1][0]]
    before = _scores(predictor, of, liked)
    losing = {source: _losing(predictor, of, liked, source, before) for source in asked}
    # Where leaving liked items out changes nothing, the list is not made of them.
    usual = why.HISTORY if any(losing.values()) else why.POPULAR
    return [
        [why.liked(catalogue.known.ids[source], catalogue.known.titles[source], cosine)]
        if source is not None and item in losing.get(source, ())
        else [usual]
        for item, source, cosine in zip(items.tolist(), sources, cosines, strict=True)
    ]


def _scores(predictor: VideoPredictor, of: Explained, liked: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Return retrieval's score of each of the release's items for who liked these; -inf where it is not found."""
    answer = predictor.ask(liked, of.history, of.exclude, of.at_ms)
    scores = np.full(len(predictor.catalogue.known.ids), -np.inf, dtype=np.float32)
    scores[answer[signature.ITEMS]] = answer[signature.SCORES]
    return scores


def _losing(
    predictor: VideoPredictor,
    of: Explained,
    liked: list[tuple[int, int]],
    source: int,
    before: NDArray[np.float32],
) -> set[int]:
    """Return the items that fall behind the others, or are not found, where the user had not liked `source`."""
    without = [entry for entry in liked if entry[0] != source] or [(-1, liked[-1][1])]
    after = _scores(predictor, of, without)
    found = np.flatnonzero(np.isfinite(before))
    change = after[found] - before[found]  # -inf for what is gone
    common = np.isfinite(change)
    # A history of another length may shift all scores alike: what counts is how an item stands among the others.
    usual = float(change[common].mean()) if common.any() else 0.0
    noise = _NOISE * float(np.abs(before[found]).max(initial=0))
    return set(found[change < usual - noise].tolist())


def _with_engaged(predictor: VideoPredictor, of: Explained, usual: list[list[Reason]]) -> list[list[Reason]]:
    """Add what an engagement was told that brought items; first where it has most of the say."""
    found, preset, engagement = of.found, of.preset, predictor.engagement
    says = preset.click + preset.watch
    if engagement is None or found.known is None or found.click is None or found.watch_s is None or not says:
        return usual
    click, watch = policy.log_odds(found.click), policy.log_seconds(found.watch_s)
    units = [float(said.std()) if said.min() < said.max() else np.inf for said in (click, watch)]
    items = found.items[of.places]
    asked = [predictor.catalogue.known.ids[item] for item in items.tolist()]

    def gain(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = _Told(rows.reshape(-1, rows.shape[-1]))
        said = predictor.predicted(asked * len(rows), of.history, at_ms=of.at_ms, context=of.context, known=flat)
        clicks = policy.log_odds(said[signature.CLICK]) * preset.click / units[0]
        gained = clicks + policy.log_seconds(said[signature.WATCH]) * preset.watch / units[1]
        return np.asarray(gained, np.float32).reshape(rows.shape[:2])

    usually = {feature.name: feature.default for feature in COUNTING.features}
    defaults = {name: usually[name] for name in engagement.manifest.known_names}
    tags = [_tag(predictor, item) for item in items.tolist()]
    told = why.engaged(gain, found.known, defaults, of.places, tags)
    pairs = zip(usual, told, strict=True)
    return [[*more, *first] if says > 1 - says else [*first, *more] for first, more in pairs]


def _tag(predictor: VideoPredictor, item: int) -> str | None:
    tags, names = predictor.catalogue.known.tags, predictor.catalogue.tag_names
    if tags is None or not tags[item] or not 0 <= tags[item][0] < len(names):
        return None
    return names[tags[item][0]]


def _fresh(predictor: VideoPredictor, of: Explained, items: NDArray[np.int64]) -> list[bool]:
    published = predictor.catalogue.known.published_ms
    if published is None or not of.preset.fresh:
        return [False] * len(items)
    return [bool(of.at_ms - moment <= of.preset.half_life_days * _DAY_MS) for moment in published[items]]


def _new(predictor: VideoPredictor, of: Explained, item_id: str) -> Reason:
    catalogue, liked = predictor.catalogue, predictor.liked(of.history)
    vectors, of_liked = catalogue.new_vectors, catalogue.vectors([place for place, _ in liked])
    if vectors is None or of_liked is None or not liked:
        return why.tried(None, None)
    place = catalogue.new_index[item_id]
    (nearest,), (cosine,) = why.nearest(vectors[place : place + 1], of_liked)
    if cosine < why.ALIKE:
        return why.tried(None, None)
    source = liked[nearest][0]
    return why.tried(catalogue.known.ids[source], catalogue.known.titles[source])
