"""Which texts have which labels, and what is done about them.

`SYSTEM` is put together when somebody first asks for it: whoever needs only the features imports only those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinloop.contracts.artefacts import Case
    from twinloop.contracts.system import Model, System

    SYSTEM: System


def __getattr__(name: str) -> System:
    if name != "SYSTEM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twinloop.contracts.events import MODERATION_TABLES  # noqa: PLC0415 - see above
    from twinloop.contracts.system import System  # noqa: PLC0415
    from twinloop.systems.moderation.endpoint import DECISIONS  # noqa: PLC0415
    from twinloop.systems.moderation.evaluate import EVALUATION  # noqa: PLC0415
    from twinloop.systems.moderation.features import COUNTING, EXAMPLES  # noqa: PLC0415
    from twinloop.systems.moderation.spec import MEDIA_FILE, POLICY_FILE, SPEC  # noqa: PLC0415

    system = System(
        spec=SPEC,
        tables=MODERATION_TABLES,
        features=(),
        strength_sql="NULL",  # there are no histories: what is known of an author are counters
        predictor=_predictor,
        judge=_judge,
        endpoint=DECISIONS,
        counting=COUNTING,
        examples=EXAMPLES,
        evaluation=EVALUATION,
        carried={"text": (POLICY_FILE, MEDIA_FILE)},
    )
    globals()["SYSTEM"] = system  # from now on an ordinary attribute
    return system


# Serving's arithmetic waits until somebody asks: the functions that only take events in carry no numpy.
def _predictor(models: Mapping[str, Model]) -> Any:
    from twinloop.systems.moderation.serve import ModerationPredictor  # noqa: PLC0415

    return ModerationPredictor(models)


def _judge(predictor: Any, case: Case) -> Mapping[str, float]:
    from twinloop.systems.moderation.serve import judge  # noqa: PLC0415

    return judge(predictor, case)
