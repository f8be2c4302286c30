"""The learning loop's state machine as it is deployed, interpreted by moto; its functions are played."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sns.models import sns_backends
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from played_aws import TABLE, played_aws

from twinloop.aws import clients
from twinloop.aws.training_jobs import StepFunctionsTasks
from twinloop.contracts.spec import Rung
from twinloop.errors import BadInputError, TwinloopError, UnavailableError
from twinloop.training.launch import Launcher, TrainingSettings, resume

ROOT = Path(__file__).parents[2]
SETTINGS = TrainingSettings("twinloop", "bucket", "arn:role", {"xgboost": "xgb:1"})


class Jobs:
    """A JobService and the bundles beside it: jobs end when told to, and may be refused or forgotten first."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        self.stopped: list[str] = []
        self.refusals: dict[str, list[Exception]] = {}
        self.endless: set[str] = set()

    def publish(self, rung: str) -> str:
        return f"s3://bucket/sources/{rung}/sourcedir.tar.gz"

    def create(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        job = request["TrainingJobName"]
        rung = job.split("-")[2]
        if self.refusals.get(rung):
            raise self.refusals[rung].pop(0)
        if job in self.made:
            return {"TrainingJobName": job, "TrainingJobStatus": self.made[job]}
        self.made[job] = "InProgress"
        if rung not in self.endless:
            threading.Timer(0.2, self._end, [job]).start()
        return None

    def stop(self, job: str) -> None:
        self.stopped.append(job)

    def _end(self, job: str) -> None:
        artefact = {"S3ModelArtifacts": f"s3://bucket/jobs/{job}/output/model.tar.gz"}
        event = {"TrainingJobName": job, "TrainingJobStatus": "Completed", "ModelArtifacts": artefact}
        resume(event, StepFunctionsTasks(TABLE))


class TimedoutError(TwinloopError):
    """A function's end when its time is over."""


TimedoutError.__name__ = "Sandbox.Timedout"  # Lambda's name for it


class Loop:
    """The machine, and what its functions were asked."""

    def __init__(self, definition: str, role: str, topic: str) -> None:
        self.jobs, self.topic = Jobs(), topic
        self.judged: dict[str, Any] = {}
        self.left_out: list[dict[str, str]] = []
        self.promote = False
        self.unmaterialised: list[Exception] = []
        self.runs = 0
        self.calls: list[str] = []
        self.rungs = [{"name": name, "framework": "xgboost", "complexity": 0} for name in ("popularity", "ease")]
        self._step = clients.client("stepfunctions")
        made = self._step.create_state_machine(name="learn", definition=definition, roleArn=role)
        self._machine = made["stateMachineArn"]

    def invoke(self, **asked: Any) -> dict[str, Any]:
        """Lambda's Invoke."""
        name, event = asked["FunctionName"], json.loads(asked["Payload"])
        self.calls.append(f"{name}:{event.get('action', '')}")
        try:
            answer, error = getattr(self, name)(event), {}
        except TwinloopError as raised:
            answer = {"errorType": type(raised).__name__, "errorMessage": str(raised)}
            error = {"FunctionError": "Unhandled"}
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(answer).encode()), **error}

    def snapshot(self, event: Mapping[str, Any]) -> Any:
        if event.get("action") == "materialise":
            if self.unmaterialised:
                raise self.unmaterialised.pop(0)
            return {"users": 1}
        rungs = [Rung.model_validate(rung).model_dump() for rung in self.rungs]
        answer = {"system": event["system"], "snapshot_key": "snapshots/video/abc/", "champion_key": "", "rungs": rungs}
        return {**answer, "left_out": [{"rung": "multitask_ranker", "reason": "no impressions"}]}

    def train(self, event: Mapping[str, Any]) -> Any:
        launcher = Launcher(SETTINGS, self.jobs, StepFunctionsTasks(TABLE), self.jobs)
        run = event["system"], event["execution"], Rung.model_validate(event["rung"])
        if event["action"] == "stop":
            return {"job": launcher.stop(*run)}
        return {"job": launcher.start(*run, event["snapshot_key"], event["token"], champion_key=event["champion_key"])}

    def gate(self, event: Mapping[str, Any]) -> Any:
        if event["action"] == "promote":
            return {"version": event["version"], "previous": event["champion"]}
        self.judged = {result["rung"]: result for result in event["results"]}
        self.left_out = event["left_out"]
        return {"promote": self.promote, "version": "v1", "verdict": "words", "champion": None}

    def news(self) -> list[tuple[Any, ...]]:
        """What was told, each with its message second."""
        return list(sns_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].topics[self.topic].sent_notifications)

    def run(self) -> dict[str, Any]:
        """Run the loop to its end and return the execution."""
        self.runs += 1  # moto has no name of its own for a second one
        asked = {"name": f"run-{self.runs}", "input": '{"system": "video"}'}
        arn = self._step.start_execution(stateMachineArn=self._machine, **asked)["executionArn"]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ended: dict[str, Any] = self._step.describe_execution(executionArn=arn)
            if ended["status"] != "RUNNING":
                return ended
            time.sleep(0.05)
        raise AssertionError("the loop does not end")


def hurried(state: Any) -> Any:
    """The same machine with waits that a test can wait for."""
    if isinstance(state, list):
        return [hurried(entry) for entry in state]
    if not isinstance(state, dict):
        return state.replace("max_runtime_s, 7200", "max_runtime_s, 1") if isinstance(state, str) else state
    short = {"IntervalSeconds": 1, "MaxDelaySeconds": 2}
    return {name: short.get(name, hurried(value)) for name, value in state.items()}


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    with played_aws(monkeypatch, {"stepfunctions": {"execute_state_machine": True}}):
        role = boto3.client("iam").create_role(RoleName="learn", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        topic = boto3.client("sns").create_topic(Name="news")["TopicArn"]
        text = (ROOT / "infra/statemachines/learn.asl.json").read_text()
        named = {"SnapshotFunction": "snapshot", "TrainFunction": "train", "GateFunction": "gate", "NewsTopic": topic}
        for name, value in {**named, "TrainingConcurrency": "4"}.items():
            text = text.replace(f"${{{name}}}", value)
        made = Loop(json.dumps(hurried(json.loads(text))), role, topic)
        other: Callable[..., Any] = vars(lambda_eval_utils)["boto_client_for"]
        monkeypatch.setattr(
            lambda_eval_utils,
            "boto_client_for",
            lambda service, **more: made if service == "lambda" else other(service=service, **more),
        )
        yield made


def test_every_rung_is_trained_and_what_earned_it_is_promoted(loop: Loop) -> None:
    loop.promote = True
    ended = loop.run()
    assert ended["status"] == "SUCCEEDED", ended
    assert {rung: result["status"] for rung, result in loop.judged.items()} == {
        "popularity": "Completed",
        "ease": "Completed",
    }
    assert loop.left_out == [{"rung": "multitask_ranker", "reason": "no impressions"}]
    assert loop.calls[-2:] == ["gate:promote", "snapshot:materialise"]
    assert json.loads(ended["output"])["version"] == "v1"


def test_a_store_that_could_not_be_filled_leaves_the_verdict_and_is_told(loop: Loop) -> None:
    loop.promote = True
    loop.unmaterialised = [BadInputError("the lake's events have no column type")]
    ended = loop.run()
    assert ended["status"] == "SUCCEEDED", ended
    assert loop.calls[-2:] == ["gate:promote", "snapshot:materialise"], "what will fail again is not tried again"
    answer = json.loads(ended["output"])
    assert (answer["promote"], answer["version"], answer["materialised"]) == (True, "v1", False)
    assert answer["verdict"].startswith("words NOT DONE: what the lake knows")
    assert "`twinloop learn video`" in answer["verdict"]
    assert "BadInputError" in answer["verdict"]
    [[_, message, *_]] = loop.news()
    assert json.loads(message) == answer


def test_filling_the_store_that_ran_out_of_time_is_tried_once_more(loop: Loop) -> None:
    loop.unmaterialised = [TimedoutError("900 seconds")]
    ended = loop.run()
    assert ended["status"] == "SUCCEEDED", ended
    assert loop.calls.count("snapshot:materialise") == 2
    assert json.loads(ended["output"])["verdict"] == "words"
    loop.unmaterialised = [TimedoutError("900 seconds") for _ in range(9)]
    ended = loop.run()
    assert ended["status"] == "SUCCEEDED", ended
    assert "Sandbox.Timedout" in json.loads(ended["output"])["verdict"]
    assert loop.calls.count("snapshot:materialise") == 4
    assert len(loop.news()) == 2


def test_a_job_that_found_no_room_is_tried_again_and_made_once(loop: Loop) -> None:
    loop.jobs.refusals["ease"] = [UnavailableError("0 instances left"), UnavailableError("slow down")]
    assert loop.run()["status"] == "SUCCEEDED"
    assert loop.judged["ease"]["status"] == "Completed"
    assert loop.calls.count("train:start") >= 4  # moto may take an attempt's failure for the next one's, too
    assert len(loop.jobs.made) == 2


def test_a_job_that_is_refused_fails_its_rung_alone_and_at_once(loop: Loop) -> None:
    loop.jobs.refusals["ease"] = [BadInputError("no such role")]
    assert loop.run()["status"] == "SUCCEEDED"
    assert loop.judged["ease"]["status"] == "Failed"  # moto loses a failure's cause, our reason, on the way
    assert loop.judged["popularity"]["status"] == "Completed"
    assert loop.calls.count("train:start") == 2


def test_a_rung_of_which_nothing_is_heard_is_given_up_in_its_own_time_and_its_job_is_stopped(loop: Loop) -> None:
    loop.rungs[1]["max_runtime_s"] = 2
    loop.jobs.endless.add("ease")
    began = time.monotonic()
    assert loop.run()["status"] == "SUCCEEDED"
    assert time.monotonic() - began > 3
    assert loop.judged["ease"]["status"] == "Failed"
    assert loop.judged["ease"]["reason"].startswith("nobody said within 3 seconds that its job had ended")
    assert loop.judged["popularity"]["status"] == "Completed"
    assert [job.split("-")[2] for job in loop.jobs.stopped] == ["ease"]
