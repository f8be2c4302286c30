"""Video's ladder, from the trivial baseline to what must pay for itself."""

from __future__ import annotations

from twinloop.contracts.spec import Rung

LADDER: tuple[Rung, ...] = (
    Rung(name="popularity", framework="xgboost", complexity=0),
    Rung(name="ease", framework="xgboost", complexity=1),
    Rung(name="xgboost_trees", framework="xgboost", complexity=2),
    # A second framework to keep up: worth it only where it shows.
    Rung(name="two_tower", framework="pytorch", complexity=3, extra_margin=0.002),
    Rung(name="sequence", framework="pytorch", complexity=4, extra_margin=0.002),
    # Trees that also hear both deep models, each fitted four times.
    Rung(name="deep_trees", framework="pytorch", complexity=5, extra_margin=0.002, max_runtime_s=7200),
    # Two models more to keep up than the trees alone.
    Rung(
        name="multitask_ranker",
        framework="pytorch",
        complexity=6,
        extra_margin=0.002,
        max_runtime_s=7200,
        needs=("impressions",),
    ),
)
