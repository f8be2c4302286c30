"""Starting jobs and resuming the loop: names, order of effects, and what the waiting execution is told."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.spec import Rung
from twinloop.errors import BadInputError, NotFoundError, UnavailableError
from twinloop.training.launch import Launcher, TrainingSettings, WaitingTask, job_name, resume

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
        self.again: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.refusal: Exception | None = None
        self.lose_answer = False
        self._ends_at_once = job_ends_at_once

    def publish(self, rung: str) -> str:
        self.order.append("publish")
        return f"s3://bucket/sources/{rung}/sourcedir.tar.gz"

    def keep(self, job: str, waiting: WaitingTask) -> None:
        self.order.append("keep")
        self.waiting[job] = waiting

    def create(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        self.order.append("create")
        self.requests.append(request)
        if self.refusal:
            raise self.refusal
        name = request["TrainingJobName"]
        if name in self.jobs:
            return self.jobs[name]
        self.jobs[name] = {"TrainingJobName": name, "TrainingJobStatus": "InProgress"}
        if self._ends_at_once:
            self.end(name)
        if self.lose_answer:
            raise UnavailableError("no answer")
        return None

    def stop(self, job: str) -> None:
        self.jobs[job] |= {"TrainingJobStatus": "Stopped"}

    def end(self, job: str) -> bool:
        """The job completes, and its event arrives."""
        self.jobs[job] = completed(job)
        return resume(self.jobs[job], self)

    def find(self, job: str) -> WaitingTask:
        if job not in self.waiting:
            raise NotFoundError(job)
        return self.waiting[job]

    def succeed(self, job: str, waiting: WaitingTask, result: Mapping[str, Any]) -> None:
        self.told.append((waiting.token, dict(result)))
        self._forget(job, waiting)

    def fail(self, job: str, waiting: WaitingTask, reason: str, *, passing: bool = False) -> None:
        self.told.append((waiting.token, reason))
        if passing:
            self.again.append(waiting.token)
        self._forget(job, waiting)

    def _forget(self, job: str, waiting: WaitingTask) -> None:
        if self.waiting.get(job) == waiting:
            del self.waiting[job]


def begin(
    world: World,
    token: str = "token-1",
    *,
    rung: Rung = RUNG,
    execution: str = "run-1",
    settings: TrainingSettings = SETTINGS,
) -> str:
    launcher = Launcher(settings, world, world, world)
    return launcher.start("video", execution, rung, "snapshots/video/abc/", token)


def test_a_rung_that_can_go_on_is_given_the_champion() -> None:
    world = World()
    launcher = Launcher(SETTINGS, world, world, world)
    able = RUNG.model_copy(update={"continues": True})
    for execution, rung, key in (("1", able, "registry/ads/click/versions/v/"), ("2", RUNG, "r/"), ("3", able, "")):
        launcher.start("ads", execution, rung, "snapshots/ads/abc/", "t", champion_key=key)
    channels = [
        {entry["ChannelName"]: entry["DataSource"]["S3DataSource"]["S3Uri"] for entry in request["InputDataConfig"]}
        for request in world.requests
    ]
    snapshot = {"snapshot": "s3://bucket/snapshots/ads/abc/"}
    assert channels == [snapshot | {"champion": "s3://bucket/registry/ads/click/versions/v/"}, snapshot, snapshot]


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
        "sagemaker_submit_directory": "s3://bucket/sources/xgboost_trees/sourcedir.tar.gz",
    }
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 60}
    source = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == "s3://bucket/snapshots/video/abc/"


def test_each_run_and_each_rung_has_its_own_job() -> None:
    other = RUNG.model_copy(update={"name": "ease"})
    names = {begin(World()), begin(World(), execution="run-2"), begin(World(), rung=other)}
    assert len(names) == 3


def test_a_second_attempt_waits_for_the_job_of_the_first() -> None:
    """The first attempt's answer is lost on the way although the job was made; the second has a new token."""
    world = World()
    world.lose_answer = True
    job = begin(world, "token-1")
    assert (world.told, world.again) == ([("token-1", "no answer")], ["token-1"])
    assert begin(world, "token-2") == job
    assert list(world.jobs) == [job]
    assert world.end(job)
    assert [token for token, _ in world.told] == ["token-1", "token-2"]
    assert world.told[1][1]["status"] == "Completed"


def test_a_job_that_ended_between_two_attempts_is_passed_on_to_the_second() -> None:
    world = World()
    world.lose_answer = True
    job = begin(world, "token-1")
    assert not world.end(job), "nobody waits when the event comes"
    begin(world, "token-2")
    assert world.told[-1][0] == "token-2"
    assert world.told[-1][1]["model_key"] == f"jobs/{job}/output/model.tar.gz"
    assert world.waiting == {}


@pytest.mark.parametrize(("refusal", "again"), [(UnavailableError("no room"), ["t"]), (BadInputError("no role"), [])])
def test_only_what_passes_is_tried_again(refusal: Exception, again: list[str]) -> None:
    world = World()
    world.refusal = refusal
    begin(world, "t")
    assert (world.told, world.again) == ([("t", str(refusal))], again)


def test_the_job_of_a_rung_that_nobody_waits_for_is_stopped() -> None:
    world = World()
    job = begin(world)
    assert Launcher(SETTINGS, world, world, world).stop("video", "run-1", RUNG) == job
    assert world.jobs[job]["TrainingJobStatus"] == "Stopped"


def test_times_of_a_description_are_moments() -> None:
    world = World()
    job = begin(world)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    times = {"TrainingStartTime": began, "TrainingEndTime": began + timedelta(seconds=12.5)}
    world.jobs[job] = completed(job) | times
    begin(world, "token-2")
    assert world.told[-1][1]["seconds"] == 12.5


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
    begin(world, "t", rung=RUNG.model_copy(update={"framework": "pytorch"}), settings=settings)
    assert world.order == ["publish"]
    assert "name one as PytorchImage" in world.told[0][1]
    assert world.again == []


@given(
    stack=st.from_regex(r"[a-z][a-z0-9-]{0,29}[a-z0-9]", fullmatch=True),
    rung=st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True),
    run=st.text(min_size=1, max_size=300),
)
def test_every_job_name_is_one_that_sagemaker_takes(stack: str, rung: str, run: str) -> None:
    name = job_name(stack, "video", rung, run)
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert name.startswith(f"{stack}-")
