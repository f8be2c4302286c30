"""What a user may want to watch next.

`SYSTEM` is put together when somebody first asks for it: whoever needs only the features imports only those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinloop.contracts.artefacts import Case
    from twinloop.contracts.history import History
    from twinloop.contracts.system import Model, System

    SYSTEM: System


def __getattr__(name: str) -> System:
    if name != "SYSTEM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twinloop.contracts.events import VIDEO_TABLES  # noqa: PLC0415 - see above
    from twinloop.contracts.system import Evaluation, Predictions, System  # noqa: PLC0415
    from twinloop.serving.recommendations import RECOMMENDATIONS  # noqa: PLC0415
    from twinloop.systems.video.features import COUNTING, FEATURES, OUTCOMES, STRENGTH_SQL, strength  # noqa: PLC0415
    from twinloop.systems.video.presets import PRESETS  # noqa: PLC0415
    from twinloop.systems.video.spec import SPEC  # noqa: PLC0415

    system = System(
        spec=SPEC,
        tables=VIDEO_TABLES,
        features=FEATURES,
        strength_sql=STRENGTH_SQL,
        predictor=_predictor,
        judge=_judge,
        endpoint=RECOMMENDATIONS,
        strength=strength,
        evaluation=Evaluation(cases=_cases, remote=_remote),
        presets={name: preset.purpose for name, preset in PRESETS.items()},
        counting=COUNTING,
        outcomes=OUTCOMES,
        predictions=Predictions(_predict, chances=("click", "long_watch"), amounts=("watch_s",), guarded=("click",)),
    )
    globals()["SYSTEM"] = system  # from now on an ordinary attribute
    return system


# Serving's arithmetic waits until somebody predicts: the functions that only take events in carry no numpy.
def _predictor(models: Mapping[str, Model]) -> Any:
    from twinloop.systems.video.serve import VideoPredictor  # noqa: PLC0415

    return VideoPredictor(models)


def _judge(predictor: Any, case: Case) -> Mapping[str, float]:
    from twinloop.systems.video.serve import judge  # noqa: PLC0415

    return judge(predictor, case)


def _predict(predictor: Any, case: Case) -> Mapping[str, float]:
    from twinloop.systems.video.serve import predict  # noqa: PLC0415

    return predict(predictor, case)


def _cases(
    rows: Iterable[Mapping[str, Any]], histories: Callable[[Sequence[str]], Iterable[History]]
) -> Iterable[Case]:
    from twinloop.systems.video.evaluate import cases  # noqa: PLC0415

    return cases(rows, histories)


def _remote(ask: Callable[[Mapping[str, Any]], Mapping[str, Any]], case: Case) -> Any:
    from twinloop.systems.video.evaluate import Remote  # noqa: PLC0415

    return Remote(ask, case)
