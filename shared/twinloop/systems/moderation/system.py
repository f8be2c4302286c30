"""The system `moderation`, put together. What computes is imported when it is called: see `later`."""

from __future__ import annotations

from twinloop.contracts.events import MODERATION_TABLES
from twinloop.contracts.system import Evaluation, System, later
from twinloop.systems.moderation.endpoint import DECISIONS
from twinloop.systems.moderation.features import COUNTING, EXAMPLES
from twinloop.systems.moderation.spec import MEDIA_FILE, POLICY_FILE, SPEC

_ROOM = "twinloop.systems.moderation"

SYSTEM = System(
    spec=SPEC,
    tables=MODERATION_TABLES,
    features=(),
    strength_sql="NULL",  # there are no histories: what is known of an author are counters
    predictor=later(f"{_ROOM}.serve", "ModerationPredictor"),
    judge=later(f"{_ROOM}.serve", "judge"),
    endpoint=DECISIONS,
    evaluation=Evaluation(later(f"{_ROOM}.evaluate", "cases"), later(f"{_ROOM}.evaluate", "Remote"), table="items"),
    counting=COUNTING,
    examples=EXAMPLES,
    carried={"text": (POLICY_FILE, MEDIA_FILE)},
)
