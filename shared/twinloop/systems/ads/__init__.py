"""How likely a user clicks an ad, and what showing it is worth.

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
    from twinloop.contracts.events import ADS_TABLES  # noqa: PLC0415 - see above
    from twinloop.contracts.system import Evaluation, Predictions, System  # noqa: PLC0415
    from twinloop.systems.ads.endpoint import PREDICTIONS  # noqa: PLC0415
    from twinloop.systems.ads.evaluate import Remote, cases  # noqa: PLC0415
    from twinloop.systems.ads.features import COUNTING, LIVE, OUTCOMES  # noqa: PLC0415
    from twinloop.systems.ads.presets import PRESETS  # noqa: PLC0415
    from twinloop.systems.ads.spec import SPEC  # noqa: PLC0415

    system = System(
        spec=SPEC,
        tables=ADS_TABLES,
        features=(),
        strength_sql="NULL",  # there are no histories: what is known of a user are counters
        predictor=_predictor,
        judge=_judge,
        endpoint=PREDICTIONS,
        presets={name: preset.purpose for name, preset in PRESETS.items()},
        counting=COUNTING,
        outcomes=OUTCOMES,
        evaluation=Evaluation(cases=cases, remote=Remote),
        predictions=Predictions(_predict, chances=("click",), guarded=("click",), live=LIVE),
    )
    globals()["SYSTEM"] = system  # from now on an ordinary attribute
    return system


# Serving's arithmetic waits until somebody predicts: the functions that only take events in carry no numpy.
def _predictor(models: Mapping[str, Model]) -> Any:
    from twinloop.systems.ads.serve import AdsPredictor  # noqa: PLC0415

    return AdsPredictor(models)


def _judge(predictor: Any, case: Case) -> Mapping[str, float]:
    if "ads" in case.request:  # a page of a labelled file
        from twinloop.systems.ads.evaluate import judge_page  # noqa: PLC0415

        return judge_page(predictor, case)
    from twinloop.systems.ads.serve import judge  # noqa: PLC0415

    return judge(predictor, case)


def _predict(predictor: Any, case: Case) -> Mapping[str, float]:
    from twinloop.systems.ads.serve import predict_one  # noqa: PLC0415

    return predict_one(predictor, case)
