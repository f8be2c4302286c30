"""From a loaded release to p(click) of ads, and from there, through policy, to an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Question
from twinloop.contracts.segments import segment_value
from twinloop.contracts.signature import CLICK, IDS, KNOWN
from twinloop.contracts.system import Knowledge, Model
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features.hashing import Column, hashed
from twinloop.features.knowledge import UserKnowledge
from twinloop.monitoring.calibration import shifted
from twinloop.systems.ads import policy
from twinloop.systems.ads.features import AD_SHOWN, BUDGET, CAMPAIGN_SHOWN, COUNTING, SPEND
from twinloop.systems.ads.presets import DEFAULT, PRESETS, Preset

COMPONENT, PRIOR_FILE = "click", "prior.json"
_POLICY = (AD_SHOWN, CAMPAIGN_SHOWN, SPEND, BUDGET)

Floats32 = NDArray[np.float32]
_Texts = str | None | list[str | None]  # one for all, or one an ad


class ShownAd(NamedTuple):
    """One ad of an answer. `worth` is what it was ordered by: its expected value, p(click) where there is no bid.

    `p_model` is what the release said by itself, before its log-odds were moved by what came in lately.
    """

    ad: str
    p_click: float
    bid: float | None
    expected_value: float | None
    worth: float
    propensity: float | None
    p_model: float


@dataclass(frozen=True)
class Shown:
    """What a release makes of a question: ads, best first, and how many policy left out.

    Attributes:
        ads: The ads.
        capped: Left out, since the user was shown them or their campaign often enough.
        paced: Left out, since their budget of the day is spent, or nearly.
        degraded: Counters were defaults, since the store did not answer.
    """

    ads: tuple[ShownAd, ...]
    capped: int = 0
    paced: int = 0
    degraded: bool = False


class Moment(NamedTuple):
    """Who looks, and when and where: `context` are facts of the moment, `at_ms` is in epoch milliseconds."""

    user_id: str
    context: Mapping[str, Any]
    at_ms: int


class AdsPredictor:
    """One release of ads.

    Args:
        models: `click`, with `prior.json` beside it: {"click": the base rate}.

    Raises:
        IntegrityError: There is no such component, or it is asked with what nobody here can give.
    """

    asks_known = True  # caps and budgets ask for counters, whatever the model does

    def __init__(self, models: Mapping[str, Model]) -> None:
        if COMPONENT not in models:
            raise IntegrityError(f"an ads release needs the component {COMPONENT!r}")
        self.model = models[COMPONENT]
        manifest = self.model.manifest
        if not set(manifest.inputs) <= {IDS, KNOWN}:
            raise IntegrityError(f"{COMPONENT} takes {', '.join(manifest.inputs)}; known here are {IDS} and {KNOWN}")
        if (IDS in manifest.inputs) != (manifest.hashed is not None):
            raise IntegrityError(f"{COMPONENT} takes ids that its manifest does not define, or vice versa")

    @cached_property
    def base_rate(self) -> float:
        """p(click) of an ad that nothing is known of; raises NotFoundError, IntegrityError."""
        try:
            rate = float(json.loads(self.model.asset(PRIOR_FILE))[CLICK])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{PRIOR_FILE} of the release has no base rate: {error!r}") from error
        if not 0 <= rate <= 1:
            raise IntegrityError(f"{PRIOR_FILE} of the release has a base rate that is no probability: {rate!r}")
        return rate

    def answer(self, question: Question) -> Shown:
        """Return the ads of a request as policy has them shown.

        Raises:
            IntegrityError: The model cannot be asked, or its answer is none.
            BadInputError: There is no such preset.
        """
        request, preset = question.request, _preset(question.preset)
        ids, bids = _asked(request.ads)
        known = question.known or UserKnowledge(COUNTING, None, None)
        moment = Moment(request.user_id, request.context, question.at_ms)
        names = self.model.manifest.known_names
        values = known.tensor((*names, *_POLICY), ids, question.at_ms)  # read once, for the model and for policy
        own = self._run(values[:, : len(names)], ids, moment, known)
        click = own if question.live is None else shifted(own, question.live.of(request.context))
        fits, held = _limits(values[:, len(names) :], moment, preset)
        worth = policy.values(click, bids)
        ranked = policy.ranking(
            click,
            worth,
            fits & ~held,
            limit=request.limit or len(ids),
            explore=preset.explore,
            random=_random(question.seed, "order") if preset.explore and question.seed else None,
        )
        ads = _told(ids, bids, click, worth, ranked, own=own)
        return Shown(ads, int((~fits).sum()), int((fits & held).sum()), degraded=known.degraded)

    def base(self, question: Question) -> Shown:
        """Return the trivial baseline: the base rate for every ad, so the order of the bids. No model is asked.

        Caps and budgets hold as far as the counters can be read. Raises NotFoundError or IntegrityError where there is
        no base rate, BadInputError where there is no such preset.
        """
        request, preset = question.request, _preset(question.preset)
        ids, bids = _asked(request.ads)
        known = question.known or UserKnowledge(COUNTING, None, None)
        moment = Moment(request.user_id, request.context, question.at_ms)
        fits, held = _limits(known.tensor(_POLICY, ids, question.at_ms), moment, preset)
        click = np.full(len(ids), self.base_rate)
        worth = policy.values(click, bids)
        ranked = policy.ranking(click, worth, fits & ~held, limit=request.limit or len(ids))
        ads = _told(ids, bids, click, worth, ranked, own=click)
        return Shown(ads, int((~fits).sum()), int((fits & held).sum()), degraded=known.degraded)

    def predict(self, ads: Sequence[str], moment: Moment, known: Knowledge) -> Floats32:
        """Return p(click) of ads if this user is shown them at this moment, float32[ads].

        Raises IntegrityError where the model cannot be asked, or its answer is none.
        """
        values = known.tensor(self.model.manifest.known_names, ads, moment.at_ms)
        return self._run(values, ads, moment, known)

    def predict_each(self, shown: Sequence[tuple[str, Moment, Knowledge]]) -> Floats32:
        """Return p(click) of showings of one ad each, to whomever and whenever; the model is asked once.

        Raises as `predict` does.
        """
        names = self.model.manifest.known_names
        values = np.concatenate([known.tensor(names, [ad], moment.at_ms) for ad, moment, known in shown])
        rows = [self._columns([ad], moment, known) for ad, moment, known in shown]
        columns: dict[str, Column] = {part: [_only(row[part]) for row in rows] for part in rows[0]}
        return self._said(values, columns, len(shown))

    def _run(self, values: Floats32, ads: Sequence[str], moment: Moment, known: Knowledge) -> Floats32:
        return self._said(values, self._columns(ads, moment, known), len(ads))

    def _columns(self, ads: Sequence[str], moment: Moment, known: Knowledge) -> dict[str, _Texts]:
        """Return the columns that ids are hashed of, as far as the model's definition names them."""
        definition = self.model.manifest.hashed
        if definition is None:
            return {}
        columns: dict[str, _Texts] = {}
        texts = [part for part in definition.parts if part.startswith(("items.", "users."))]
        of_ads = known.texts(texts, ads) if texts else []
        for place, part in enumerate(texts):
            # What is said of the user is one text for all, and costs no ad anything.
            columns[part] = of_ads[0][place] if part.startswith("users.") else [row[place] for row in of_ads]
        for part in definition.parts:
            if part.startswith("context."):
                columns[part] = segment_value(moment.context.get(part.removeprefix("context.")))
        return columns | {"user_id": moment.user_id, "item_id": list(ads)}

    def _said(self, values: Floats32, columns: Mapping[str, Column], count: int) -> Floats32:
        manifest = self.model.manifest
        inputs: dict[str, NDArray[Any]] = {}
        if KNOWN in manifest.inputs:
            inputs[KNOWN] = np.ascontiguousarray(values)
        if IDS in manifest.inputs and manifest.hashed is not None:
            inputs[IDS] = hashed(manifest.hashed.fields, manifest.hashed.buckets, columns, rows=count)
        click = self.model.run(inputs)[CLICK]
        if click.shape != (count,) or not ((click >= 0) & (click <= 1)).all():  # NaN compares with nothing
            raise IntegrityError(f"{COMPONENT} returned what are no probabilities, one an ad")
        return np.asarray(click, np.float32)


def predict_one(predictor: AdsPredictor, case: Case) -> dict[str, float]:
    """Return what a release says of one impression; raises BadInputError where the case is none of ads'."""
    return {CLICK: float(predictor.predict_each([_impression(case.case_id, case.request)])[0])}


def judge(predictor: AdsPredictor, case: Case) -> dict[str, float]:
    """Return the metrics of a bundle of impressions, or of a page of a labelled file.

    `log_gain` is the mean log-likelihood of what came of them, in nats: minus their log loss, so that more is better.
    All of a bundle are one question to the model, as the ads of a request are. Raises BadInputError where the case is
    no bundle of ads' impressions.
    """
    from twinloop.evaluation.bundles import LOG_GAIN, SHOWN  # noqa: PLC0415 - serving answers without metrics
    from twinloop.evaluation.probability import log_loss  # noqa: PLC0415
    from twinloop.systems.ads.evaluate import PAGE, judge_page  # noqa: PLC0415

    if PAGE in case.request:
        return judge_page(predictor, case)
    try:
        shown = [_impression(case.case_id, one) for one in case.request[SHOWN]]
        clicked = [float(one) for one in case.truth[CLICK]]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"case {case.case_id!r} is no bundle of ads' impressions: {error!r}") from error
    said = predictor.predict_each(shown)
    return {LOG_GAIN: -log_loss(clicked, said.astype(np.float64))}


def _impression(case_id: str, request: Mapping[str, Any]) -> tuple[str, Moment, Knowledge]:
    try:
        moment = Moment(str(request["user_id"]), request.get("context") or {}, int(request["time_ms"]))
        return str(request["item_id"]), moment, request["known"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"case {case_id!r} is no impression of ads: {error!r}") from error


def _asked(ads: Sequence[Any]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the ids and bids of a request's ads; NaN is no bid."""
    bids = np.array([np.nan if one.bid is None else one.bid for one in ads], np.float64)
    return [one.ad for one in ads], bids


def _limits(values: Floats32, moment: Moment, preset: Preset) -> tuple[policy.Flags, policy.Flags]:
    """Return which ads caps let in, and which are held back for their budgets: bool[ads] each.

    `values` are the features of `_POLICY`, float32[ads, 4]. Budgets are paced whatever may be tried out, by the request
    alone: the same one is answered the same way.
    """
    shown, shown_of_campaign, spent, budget = values.T
    rates = policy.participation(spent, budget, preset)
    held = np.zeros(len(rates), np.bool_)
    if (rates < 1).any():
        held = policy.held_back(rates, _random(f"{moment.user_id}\0{moment.at_ms}", "pacing"))
    return policy.within_caps(shown, shown_of_campaign, preset), held


def _told(
    ids: Sequence[str],
    bids: NDArray[np.float64],
    click: NDArray[np.floating],
    worth: NDArray[np.float64],
    ranked: policy.Ranking,
    *,
    own: NDArray[np.floating],
) -> tuple[ShownAd, ...]:
    places = ranked.places
    columns = zip(
        places.tolist(),
        click[places].astype(np.float64).tolist(),
        own[places].astype(np.float64).tolist(),
        bids[places].tolist(),
        worth[places].tolist(),
        [None] * len(places) if ranked.propensities is None else ranked.propensities.tolist(),
        strict=True,
    )
    return tuple(
        ShownAd(ids[place], p, bid, value, value, propensity, said)
        if bid == bid  # noqa: PLR0124 - NaN is no bid
        else ShownAd(ids[place], p, None, None, p, propensity, said)
        for place, p, said, bid, value, propensity in columns
    )


def _random(seed: str, what: str) -> np.random.Generator:
    """Return draws that are independent for each seed and purpose."""
    digest = hashlib.sha256(f"{seed}\0{what}".encode("utf-8", errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def _only(column: _Texts) -> str | None:
    """Return the value of a column of one row."""
    return column[0] if isinstance(column, list) else column


def _preset(name: str | None) -> Preset:
    try:
        return PRESETS[name or DEFAULT]
    except KeyError:
        raise BadInputError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}") from None
