"""The system `suggestions`, put together. What computes is imported when it is called: see `later`."""

from __future__ import annotations

from twinloop.contracts.events import SUGGESTIONS_TABLES
from twinloop.contracts.system import Evaluation, System, later
from twinloop.systems.suggestions.endpoint import RECOMMENDATIONS
from twinloop.systems.suggestions.examples import EXAMPLES
from twinloop.systems.suggestions.features import COUNTING, STRENGTH_SQL, strength
from twinloop.systems.suggestions.presets import PRESETS
from twinloop.systems.suggestions.spec import SPEC

_ROOM = "twinloop.systems.suggestions"

SYSTEM = System(
    spec=SPEC,
    tables=SUGGESTIONS_TABLES,
    features=(),
    strength_sql=STRENGTH_SQL,
    strength=strength,
    predictor=later(f"{_ROOM}.serve", "SuggestionsPredictor"),
    judge=later(f"{_ROOM}.serve", "judge"),
    endpoint=RECOMMENDATIONS,
    evaluation=Evaluation(later(f"{_ROOM}.evaluate", "cases"), later(f"{_ROOM}.evaluate", "Remote")),
    presets={name: preset.purpose for name, preset in PRESETS.items()},
    counting=COUNTING,
    examples=EXAMPLES,
    refresh=later(f"{_ROOM}.refresh", "refresh"),
)
