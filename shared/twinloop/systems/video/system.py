"""The system `video`, put together. What computes is imported when it is called: see `later`."""

from __future__ import annotations

from twinloop.contracts.events import VIDEO_TABLES
from twinloop.contracts.system import Evaluation, Predictions, System, later
from twinloop.serving.recommendations import RECOMMENDATIONS
from twinloop.systems.video.features import COUNTING, FEATURES, OUTCOMES, STRENGTH_SQL, strength
from twinloop.systems.video.presets import PRESETS
from twinloop.systems.video.spec import SPEC

_ROOM = "twinloop.systems.video"

SYSTEM = System(
    spec=SPEC,
    tables=VIDEO_TABLES,
    features=FEATURES,
    strength_sql=STRENGTH_SQL,
    predictor=later(f"{_ROOM}.serve", "VideoPredictor"),
    judge=later(f"{_ROOM}.serve", "judge"),
    endpoint=RECOMMENDATIONS,
    strength=strength,
    evaluation=Evaluation(later(f"{_ROOM}.evaluate", "cases"), later(f"{_ROOM}.evaluate", "Remote")),
    presets={name: preset.purpose for name, preset in PRESETS.items()},
    counting=COUNTING,
    outcomes=OUTCOMES,
    predictions=Predictions(
        later(f"{_ROOM}.serve", "predict"), chances=("click", "long_watch"), amounts=("watch_s",), guarded=("click",)
    ),
)
