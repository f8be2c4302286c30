"""Which documents answer a query.

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
    from twinloop.contracts.events import SEARCH_TABLES  # noqa: PLC0415 - see above
    from twinloop.contracts.system import Evaluation, System  # noqa: PLC0415
    from twinloop.systems.search.endpoint import RESULTS  # noqa: PLC0415
    from twinloop.systems.search.evaluate import Remote, cases  # noqa: PLC0415
    from twinloop.systems.search.features import EXAMPLES  # noqa: PLC0415
    from twinloop.systems.search.presets import PRESETS  # noqa: PLC0415
    from twinloop.systems.search.spec import SPEC  # noqa: PLC0415

    system = System(
        spec=SPEC,
        tables=SEARCH_TABLES,
        features=(),
        strength_sql="NULL",  # there are no histories
        predictor=_predictor,
        judge=_judge,
        endpoint=RESULTS,
        evaluation=Evaluation(cases, Remote, table="judgments"),
        presets={name: preset.purpose for name, preset in PRESETS.items()},
        examples=EXAMPLES,
    )
    globals()["SYSTEM"] = system  # from now on an ordinary attribute
    return system


# Serving's arithmetic waits until somebody predicts: the functions that only take events in carry no numpy.
def _predictor(models: Mapping[str, Model]) -> Any:
    from twinloop.systems.search.serve import SearchPredictor  # noqa: PLC0415

    return SearchPredictor(models)


def _judge(predictor: Any, case: Case) -> Mapping[str, float]:
    from twinloop.systems.search.serve import judge  # noqa: PLC0415

    return judge(predictor, case)
