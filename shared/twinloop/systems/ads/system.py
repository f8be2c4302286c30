"""The system `ads`, put together. What computes is imported when it is called: see `later`."""

from __future__ import annotations

from twinloop.contracts.events import ADS_TABLES
from twinloop.contracts.system import Evaluation, Predictions, System, later
from twinloop.systems.ads.endpoint import PREDICTIONS
from twinloop.systems.ads.features import COUNTING, LIVE, OUTCOMES
from twinloop.systems.ads.presets import PRESETS
from twinloop.systems.ads.spec import SPEC

_ROOM = "twinloop.systems.ads"

SYSTEM = System(
    spec=SPEC,
    tables=ADS_TABLES,
    features=(),
    strength_sql="NULL",  # there are no histories: what is known of a user are counters
    predictor=later(f"{_ROOM}.serve", "AdsPredictor"),
    judge=later(f"{_ROOM}.serve", "judge"),
    endpoint=PREDICTIONS,
    evaluation=Evaluation(later(f"{_ROOM}.evaluate", "cases"), later(f"{_ROOM}.evaluate", "Remote")),
    presets={name: preset.purpose for name, preset in PRESETS.items()},
    counting=COUNTING,
    outcomes=OUTCOMES,
    predictions=Predictions(later(f"{_ROOM}.serve", "predict_one"), chances=("click",), guarded=("click",), live=LIVE),
)
