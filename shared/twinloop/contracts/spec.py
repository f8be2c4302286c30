"""The design card of a system: what the rails need to know about it, as data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from twinloop.contracts.history import DEFAULT_LENGTH
from twinloop.contracts.model import Contract

SYSTEM_NAME = r"[a-z][a-z0-9-]{0,30}"
"""A system's name, wherever one is read: in keys, paths of the API and messages. Its package has `_` for `-`."""


class Split(Contract):
    """How a snapshot is divided.

    `per_user`: each user's events by time, the last `test` share is test, the share before it validation.
    `global`: one moment for everybody. Shares are of the events (per user, or of all).
    `by_group`: of labelled examples (`System.examples`) only: the SHA-256 of a group's id says which part it is in, and
    so it stays there when data come. There, `global` goes by the time of each group's earliest example: the last groups
    are test. Either way shares are of groups, and no group is divided.
    """

    strategy: Literal["per_user", "global", "by_group"] = "per_user"
    validation: float = Field(0.1, ge=0, lt=0.5)
    test: float = Field(0.1, gt=0, lt=0.5)
    minimum_events: int = Field(5, ge=1, description="Users with fewer positive events are not judged.")


class Rung(Contract):
    """One step of the ladder: a training job and what it costs to prefer it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$", description="The folder under training_jobs/.")
    framework: Literal["xgboost", "pytorch"] = Field(description="Which prebuilt SageMaker container runs it.")
    complexity: int = Field(ge=0, description="Place on the ladder; 0 is the trivial baseline.")
    extra_margin: float = Field(
        0.0, ge=0, description="Gain over the rung below that is asked for what no measurement shows, such as upkeep."
    )
    hyperparameters: dict[str, str] = Field(default_factory=dict)
    instance_type: str = "ml.m5.large"
    max_runtime_s: int = Field(3600, gt=0, le=86400)
    continues: bool = Field(
        False, description="Its job can go on from the release that it left before: channel `champion` has that."
    )
    needs: tuple[Literal["impressions"], ...] = Field(
        (),
        description="What it is trained on besides events. Where a snapshot's training part has none, no job starts.",
    )


class Prices(Contract):
    """What cost asks for, in the primary metric: a rung must gain this much for what it costs more than its rival."""

    per_ms: float = Field(0.0, ge=0, description="A millisecond of p50 latency, of one case on one thread.")
    per_mb: float = Field(0.0, ge=0, description="A megabyte of what serving reads.")
    per_training_minute: float = Field(0.0, ge=0, description="A minute of fitting.")


class GatePolicy(Contract):
    """When a candidate is promoted. Gains are absolute differences of the primary metric."""

    primary: str
    margin: float = Field(0.0, description="The lower bound of the gain's interval over the champion must exceed it.")
    prices: Prices = Field(default_factory=Prices)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(2000, ge=200)
    slices: tuple[str, ...] = ()
    slice_tolerance: float = Field(0.01, ge=0, description="No slice may lose more than this to the champion.")
    minimum_slice_cases: int = Field(50, ge=1)
    latency_p99_ms: float = Field(20.0, gt=0, description="Of one case through the serving code, one thread.")
    size_mb: float = Field(200.0, gt=0)
    parity_tolerance: float = Field(1e-4, gt=0)
    calibration_tolerance: float = Field(
        0.1,
        gt=0,
        description="|predicted / observed - 1| may be this much, where the system's judge gives both, "
        "or its predictions of impressions are guarded.",
    )
    false_positive_slices: tuple[str, ...] = Field(
        (), description="Slices inside which nobody may be wrongly acted upon much more often than outside."
    )
    false_positive_tolerance: float = Field(
        0.05, ge=0, description="How much the rate of false positives inside may be above that outside."
    )
    false_positive_limit: float | None = Field(
        None, ge=0, le=1, description="The most of the cases with nothing to act upon that may be acted upon."
    )
    max_data_age_days: float | None = Field(None, description="Newest event of the snapshot may be this old.")


class SystemSpec(Contract):
    """What a system is, in the six steps of its design card, and how the rails run it."""

    name: str = Field(pattern=f"^{SYSTEM_NAME}$")
    verb: str = Field(description="POST /v1/<name>/<verb>")
    requirements: str
    framing: str
    data: str
    architecture: str
    evaluation: str
    deployment: str
    split: Split
    rungs: tuple[Rung, ...]
    gate: GatePolicy
    history_length: int = Field(
        DEFAULT_LENGTH, gt=0, description="Events of a user kept for serving, newest last; jobs are told by snapshots."
    )
    segments: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")], ...] = Field(
        (), description="Keys of a request's context, and of users' attributes, by which popularity may be counted."
    )
