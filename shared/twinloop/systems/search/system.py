"""The system `search`, put together. What computes is imported when it is called: see `later`."""

from __future__ import annotations

from twinloop.contracts.events import SEARCH_TABLES
from twinloop.contracts.system import Evaluation, System, later
from twinloop.systems.search.endpoint import RESULTS
from twinloop.systems.search.features import EXAMPLES
from twinloop.systems.search.presets import PRESETS
from twinloop.systems.search.spec import SPEC

_ROOM = "twinloop.systems.search"

SYSTEM = System(
    spec=SPEC,
    tables=SEARCH_TABLES,
    features=(),
    strength_sql="NULL",  # there are no histories
    predictor=later(f"{_ROOM}.serve", "SearchPredictor"),
    judge=later(f"{_ROOM}.serve", "judge"),
    endpoint=RESULTS,
    evaluation=Evaluation(later(f"{_ROOM}.evaluate", "cases"), later(f"{_ROOM}.evaluate", "Remote"), table="judgments"),
    presets={name: preset.purpose for name, preset in PRESETS.items()},
    examples=EXAMPLES,
    refresh=later(f"{_ROOM}.refresh", "refresh"),
)
