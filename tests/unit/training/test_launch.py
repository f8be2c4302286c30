"""Starting jobs and resuming the loop: names, order of effects, and what the waiting execution is told."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.spec import Rung
from twinloop.errors import NotFoundError
from twinloop.training.launch import TrainingSettings, WaitingTask, job_name, resume, start

SETTINGS = TrainingSettings("twinloop", "bucket", "arn:role", {"xgboost": "xgb:1", "pytorch": "torch:1"})
RUNG = Rung(
    name="xgboost_trees", framework="xgboost", complexity=2, hyperparameters={"rounds": "100"}, max_runtime_s=60
)


class World:
    """Every port in one place, remembering the order in which things happened."""

    def __init__(self, job_ends_at_once: bool = False) -> None:
        self.order: list[str] = []
        self.requests: list[Mapping[str, Any]] = []
        self.waiting: dict[str, WaitingTask] = {}
        self.told: list[tuple[str, Any]] = []
        self._ends_at_once = job_ends_at_once

    def publish(self, rung: str) -> str:
        self.order.append("publish")
        return f"s3://bucket/jobs/source/{rung}/sourcedir.tar.gz"

    def keep(self, job: str, waiting: WaitingTask) -> None:
        self.order.append("keep")
        self.waiting[job] = waiting

    def create(self, request: Mapping[str, Any]) -> None:
        self.order.append("create")
        self.requests.append(request)
        if self._ends_at_once:
            assert resume(completed(request["TrainingJobName"]), self)

    def find(self, job: str) -> WaitingTask:
        if job not in self.waiting:
            raise NotFoundError(job)
        return self.waiting[job]

    def succeed(self, job: str, waiting: WaitingTask, result: Mapping[str, Any]) -> None:
        self.told.append((waiting.token, dict(result)))
        del self.waiting[job]

    def fail(self, job: str, waiting: WaitingTask, reason: str) -> None:
        self.told.append((waiting.token, reason))
        self.waiting.pop(job, None)


def begin(world: World, token: str = "token-1", rung: Rung = RUNG) -> str:
    return start(
        settings=SETTINGS,
        jobs=world,
        waiting=world,
        bundles=world,
        system="video",
        snapshot_key="snapshots/video/abc/",
        rung=rung,
        token=token,
    )


def completed(job: str) -> dict[str, Any]:
    return {
        "TrainingJobName": job,
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": f"s3://bucket/jobs/{job}/output/model.tar.gz"},
        "TrainingStartTime": 1_700_000_000_000,
        "TrainingEndTime": 1_700_000_012_500,
    }


def test_the_token_is_kept_before_the_job_starts_so_that_a_job_that_ends_at_once_is_not_lost() -> None:
    world = World(job_ends_at_once=True)
    job = begin(world)
    assert world.order == ["publish", "keep", "create"]
    expected = {
        "rung": "xgboost_trees",
        "status": "Completed",
        "model_key": f"jobs/{job}/output/model.tar.gz",
        "seconds": 12.5,
    }
    assert world.told == [("token-1", expected)]


def test_the_request_is_script_mode_in_the_frameworks_container() -> None:
    world = World()
    begin(world)
    request = world.requests[0]
    assert request["AlgorithmSpecification"]["TrainingImage"] == "xgb:1"
    assert {name: json.loads(value) for name, value in request["HyperParameters"].items()} == {
        "rounds": "100",
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "s3://bucket/jobs/source/xgboost_trees/sourcedir.tar.gz",
    }
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 60}
    source = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == "s3://bucket/snapshots/video/abc/"


def test_a_repeated_start_names_the_same_job_and_another_token_another() -> None:
    world = World()
    assert begin(world) == begin(world) != begin(world, token="token-2")


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        (
            {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: no positives"},
            "AlgorithmError: no positives",
        ),
        ({"TrainingJobStatus": "Stopped"}, "the job ended as Stopped"),
        ({"TrainingJobStatus": "Failed", "FailureReason": "x" * 5000}, "x" * 1024),
    ],
)
def test_a_job_that_did_not_complete_fails_its_task_with_the_reason(detail: dict[str, str], reason: str) -> None:
    world = World()
    job = begin(world)
    assert resume({"TrainingJobName": job, **detail}, world)
    assert world.told == [("token-1", reason)]


def test_nobody_waits_for_a_job_started_by_hand() -> None:
    world = World()
    assert not resume(completed("by-hand"), world)
    assert world.told == []


def test_a_job_that_cannot_be_started_fails_its_task_with_the_reason() -> None:
    world = World()
    settings = TrainingSettings("twinloop", "bucket", "arn:role", {"xgboost": "xgb:1"})
    rung = RUNG.model_copy(update={"framework": "pytorch"})
    arguments = {"jobs": world, "waiting": world, "bundles": world, "system": "video", "token": "t"}
    start(settings=settings, snapshot_key="snapshots/video/abc/", rung=rung, **arguments)
    assert world.order == ["publish"]
    assert world.told == [("t", "no training image is configured for 'pytorch'")]


@given(
    stack=st.from_regex(r"[a-z][a-z0-9-]{0,29}[a-z0-9]", fullmatch=True),
    rung=st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True),
    token=st.text(min_size=1, max_size=300),
)
def test_every_job_name_is_one_that_sagemaker_takes(stack: str, rung: str, token: str) -> None:
    name = job_name(stack, "video", rung, token)
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert name.startswith(f"{stack}-")
