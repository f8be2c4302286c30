"""Which upcoming real-world events somebody may go to, from where they are, at a moment.

`SYSTEM` is put together when somebody first asks for it: whoever needs only the features imports only those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinloop.contracts.artefacts import Case
    from twinloop.contracts.system import Model, System

    SYSTEM: System


def __getattr__(name: str) -> System:
    if name != "SYSTEM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twinloop.contracts.events import SUGGESTIONS_TABLES  # noqa: PLC0415 - see above
    from twinloop.contracts.system import Evaluation, System  # noqa: PLC0415
    from twinloop.systems.suggestions.endpoint import RECOMMENDATIONS  # noqa: PLC0415
    from twinloop.systems.suggestions.examples import EXAMPLES  # noqa: PLC0415
    from twinloop.systems.suggestions.features import COUNTING, STRENGTH_SQL, strength  # noqa: PLC0415
    from twinloop.systems.suggestions.presets import PRESETS  # noqa: PLC0415
    from twinloop.systems.suggestions.spec import SPEC  # noqa: PLC0415

    system = System(
        spec=SPEC,
        tables=SUGGESTIONS_TABLES,
        features=(),
        strength_sql=STRENGTH_SQL,
        strength=strength,
        predictor=_predictor,
        judge=_judge,
        endpoint=RECOMMENDATIONS,
        presets={name: preset.purpose for name, preset in PRESETS.items()},
        counting=COUNTING,
        examples=EXAMPLES,
        evaluation=Evaluation(cases=_cases, remote=_remote),
    )
    globals()["SYSTEM"] = system  # from now on an ordinary attribute
    return system


# Serving's arithmetic waits until somebody predicts: the functions that only take events in carry no numpy.
def _predictor(models: Mapping[str, Model]) -> Any:
    from twinloop.systems.suggestions.serve import SuggestionsPredictor  # noqa: PLC0415

    return SuggestionsPredictor(models)


def _cases(rows: Iterable[Mapping[str, Any]], histories: Any) -> Iterable[Case]:
    from twinloop.systems.suggestions.evaluate import cases  # noqa: PLC0415

    return cases(rows, histories)


def _remote(ask: Any, case: Case) -> Any:
    from twinloop.systems.suggestions.evaluate import Remote  # noqa: PLC0415

    return Remote(ask, case)


def _judge(predictor: Any, case: Case) -> Mapping[str, float]:
    from twinloop.systems.suggestions.serve import judge  # noqa: PLC0415

    return judge(predictor, case)
