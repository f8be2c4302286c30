"""The SageMaker executor on a real local cloud: MiniStack holds S3, logs, events, queues; jobs are real processes."""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from ports import free_port

from twinloop_local import LocalSettings, down, up

ROOT = Path(__file__).parents[2]
BUCKET = "executor-test"
ROLE = "arn:aws:iam::000000000000:role/training"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5"

pytestmark = [
    pytest.mark.skipif(not (ROOT / ".envs/ministack").exists(), reason="MiniStack is not installed: make environments"),
    pytest.mark.slow,
    pytest.mark.xdist_group("sagemaker_executor"),
]

TRAIN = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--scale", type=float)
parser.add_argument("--name")
options = parser.parse_args()
rows = [float(line) for path in sorted(pathlib.Path(os.environ["SM_CHANNEL_NUMBERS"]).rglob("*.txt"))
        for line in path.read_text().split()]
print("mean of", len(rows), "rows")
answer = {"mean": options.scale * sum(rows) / len(rows), "name": options.name}
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps(answer))
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "environment.json").write_text(json.dumps(dict(os.environ)))
"""
FAIL = """
import os, pathlib, sys
pathlib.Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("the snapshot has no rows; load events first")
sys.exit(3)
"""
HANG = """
import os, pathlib, subprocess, sys, time
pathlib.Path(os.environ["SM_MODEL_DIR"], "half.txt").write_text("as far as it got")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("children", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


class Cloud:
    """Clients of one local stack, and the few steps every test takes."""

    def __init__(self, settings: LocalSettings) -> None:
        self.settings = settings
        self.s3 = self.client("s3")
        self.logs = self.client("logs")
        self.events = self.client("events")
        self.sqs = self.client("sqs")
        self.sagemaker = self.client("sagemaker", settings.sagemaker_endpoint)

    def client(self, service: str, endpoint: str | None = None) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint or self.settings.endpoint,
            region_name=self.settings.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def bundle(self, script: str, **files: str) -> str:
        """Upload a source bundle, as the SDK does; returns its address."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, text in {"train.py": script, **files}.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
        key = f"source/{uuid.uuid4()}/sourcedir.tar.gz"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=buffer.getvalue())
        return f"s3://{BUCKET}/{key}"

    def request(self, script: str, files: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
        """A CreateTrainingJob request as our own train function sends it."""
        return {
            "TrainingJobName": f"job-{uuid.uuid4().hex[:12]}",
            "HyperParameters": {
                "sagemaker_program": '"train.py"',
                "sagemaker_submit_directory": json.dumps(self.bundle(script, **(files or {}))),
            },
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            **changes,
        }

    def create(self, script: str, files: dict[str, str] | None = None, **changes: Any) -> str:
        request = self.request(script, files, **changes)
        self.sagemaker.create_training_job(**request)
        return str(request["TrainingJobName"])

    def wait(self, name: str, *wanted: str, seconds: float = 60) -> dict[str, Any]:
        """Describe the job once its status is one of those wanted (any final one where none is named)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
            if job["TrainingJobStatus"] in (wanted or ("Completed", "Failed", "Stopped")):
                return job
            time.sleep(0.05)
        raise AssertionError(f"{name} is {job['TrainingJobStatus']}/{job['SecondaryStatus']} after {seconds} s")

    def log(self, name: str) -> list[str]:
        group = "/aws/sagemaker/TrainingJobs"
        streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
        assert len(streams) == 1, streams
        events = self.logs.get_log_events(
            logGroupName=group, logStreamName=streams[0]["logStreamName"], startFromHead=True
        )
        return [event["message"] for event in events["events"]]

    def wait_for_log(self, name: str, word: str, seconds: float = 60) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            file = self.settings.state_dir / "jobs" / name / "log.txt"
            found = [line for line in file.read_text().splitlines() if word in line] if file.exists() else []
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"{name} never said {word!r}")

    def archive(self, address: str) -> dict[str, bytes]:
        key = address.removeprefix(f"s3://{BUCKET}/")
        body = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def running(pid: int) -> bool:
    """Whether a process does something still; one that waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    here = LocalSettings.from_environment(ROOT, {"TWINLOOP_TRAINING_SLOTS": "2"})
    settings = replace(
        here,
        root=tmp_path_factory.mktemp("executor"),
        stack="executor-test",
        port=free_port(),
        sagemaker_port=free_port(),
        stop_grace_s=2,
    )
    with pytest.MonkeyPatch.context() as shell:
        shell.setenv("TWINLOOP_SECRET_OF_THE_SHELL", "must not reach a job")
        up(settings)
    try:
        cloud = Cloud(settings)
        cloud.s3.create_bucket(Bucket=BUCKET)
        yield cloud
    finally:
        down(settings)


@pytest.fixture(autouse=True)
def nothing_left_running(cloud: Cloud) -> Iterator[None]:
    """A test that fails must not take the others' slots with it."""
    yield
    for job in cloud.sagemaker.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]:
        cloud.sagemaker.stop_training_job(TrainingJobName=job["TrainingJobName"])
        cloud.wait(job["TrainingJobName"])


@pytest.fixture(scope="module")
def numbers(cloud: Cloud) -> dict[str, Any]:
    """A channel of two objects in two folders."""
    cloud.s3.put_object(Bucket=BUCKET, Key="data/a.txt", Body=b"1\n2\n")
    cloud.s3.put_object(Bucket=BUCKET, Key="data/deeper/b.txt", Body=b"6\n")
    cloud.s3.put_object(Bucket=BUCKET, Key="database/not-mine.txt", Body=b"1000\n")
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"s3://{BUCKET}/data/",
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": "numbers", "DataSource": {"S3DataSource": source}}


def test_a_job_trains_and_leaves_its_model(cloud: Cloud, numbers: dict[str, Any]) -> None:
    request = cloud.request(TRAIN, InputDataConfig=[numbers], Environment={"GREETING": "hello"})
    request["HyperParameters"] |= {"scale": "2", "name": '"a name"'}
    arn = cloud.sagemaker.create_training_job(**request)["TrainingJobArn"]
    job = cloud.wait(request["TrainingJobName"])

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert (
        job["TrainingJobArn"]
        == arn
        == f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{job['TrainingJobName']}"
    )
    steps = [step["Status"] for step in job["SecondaryStatusTransitions"]]
    assert steps == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    times = [time for step in job["SecondaryStatusTransitions"] for time in (step["StartTime"], step["EndTime"])]
    assert times == sorted(times)
    assert isinstance(job["TrainingStartTime"], datetime)
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] >= 1
    assert "FailureReason" not in job
    assert "FinalMetricDataList" not in job

    model = cloud.archive(job["ModelArtifacts"]["S3ModelArtifacts"])
    assert json.loads(model["model.json"]) == {"mean": 6.0, "name": "a name"}
    output = cloud.archive(f"s3://{BUCKET}/jobs/{job['TrainingJobName']}/output/output.tar.gz")
    environment = json.loads(output["environment.json"])
    assert environment["GREETING"] == "hello"
    assert environment["AWS_ENDPOINT_URL"] == cloud.settings.endpoint
    assert environment["TRAINING_JOB_NAME"] == job["TrainingJobName"]
    assert "TWINLOOP_SECRET_OF_THE_SHELL" not in environment
    assert "mean of 3 rows" in cloud.log(job["TrainingJobName"])


def test_a_failing_script_gives_its_reason(cloud: Cloud) -> None:
    job = cloud.wait(cloud.create(FAIL))
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: the snapshot has no rows; load events first, exit code: ")


def test_a_script_that_raises_is_quoted(cloud: Cloud) -> None:
    job = cloud.wait(cloud.create("raise RuntimeError('no gradient today')"))
    assert job["TrainingJobStatus"] == "Failed"
    assert "no gradient today" in job["FailureReason"]
    assert any("no gradient today" in line for line in cloud.log(job["TrainingJobName"]))


def test_a_job_may_remove_its_folders(cloud: Cloud) -> None:
    script = "import os, shutil\nfor name in ('MODEL', 'OUTPUT_DATA'):\n    shutil.rmtree(os.environ[f'SM_{name}_DIR'])"
    job = cloud.wait(cloud.create(script))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert cloud.archive(job["ModelArtifacts"]["S3ModelArtifacts"]) == {}


def test_a_channel_without_objects_fails_the_job(cloud: Cloud, numbers: dict[str, Any]) -> None:
    channel = json.loads(json.dumps(numbers))
    channel["DataSource"]["S3DataSource"]["S3Uri"] = f"s3://{BUCKET}/nothing/here/"
    job = cloud.wait(cloud.create(TRAIN, InputDataConfig=[channel]))
    assert job["TrainingJobStatus"] == "Failed"
    assert "No S3 objects found" in job["FailureReason"]


def test_a_missing_bundle_fails_the_job(cloud: Cloud) -> None:
    request = cloud.request(TRAIN)
    request["HyperParameters"]["sagemaker_submit_directory"] = f"s3://{BUCKET}/no/such.tar.gz"
    cloud.sagemaker.create_training_job(**request)
    job = cloud.wait(request["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Failed"
    assert "404" in job["FailureReason"]


def test_stopping_ends_all_that_the_job_started(cloud: Cloud) -> None:
    name = cloud.create(HANG)
    pids = [int(word) for word in cloud.wait_for_log(name, "children").split()[-2:]]
    assert all(running(pid) for pid in pids)
    cloud.sagemaker.stop_training_job(TrainingJobName=name)
    assert cloud.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] in {"Stopping", "Stopped"}
    job = cloud.wait(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert not any(running(pid) for pid in pids)
    assert cloud.archive(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"half.txt": b"as far as it got"}
    with pytest.raises(ClientError, match="is in status Stopped"):
        cloud.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_script_that_ignores_sigterm_is_killed(cloud: Cloud) -> None:
    name = cloud.create("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HANG)
    pids = [int(word) for word in cloud.wait_for_log(name, "children").split()[-2:]]
    cloud.sagemaker.stop_training_job(TrainingJobName=name)
    assert cloud.wait(name)["SecondaryStatus"] == "Stopped"
    assert not any(running(pid) for pid in pids)


def test_a_job_over_its_time_is_stopped(cloud: Cloud) -> None:
    job = cloud.wait(cloud.create(HANG, StoppingCondition={"MaxRuntimeInSeconds": 2}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_two_run_at_once_and_a_third_waits(cloud: Cloud) -> None:
    first, second, third = (cloud.create(HANG) for _ in range(3))
    cloud.wait_for_log(first, "children")
    cloud.wait_for_log(second, "children")
    waiting = cloud.sagemaker.describe_training_job(TrainingJobName=third)
    assert waiting["SecondaryStatus"] == "Starting"
    assert "TWINLOOP_TRAINING_SLOTS" in waiting["SecondaryStatusTransitions"][0]["StatusMessage"]
    fourth = cloud.create(HANG)
    cloud.sagemaker.stop_training_job(TrainingJobName=third)  # never ran: ends at once
    assert cloud.wait(third, seconds=20)["SecondaryStatus"] == "Stopped"
    cloud.sagemaker.stop_training_job(TrainingJobName=first)
    cloud.wait_for_log(fourth, "children")
    for name in (second, fourth):
        cloud.sagemaker.stop_training_job(TrainingJobName=name)
        cloud.wait(name)


def test_events_tell_every_step(cloud: Cloud) -> None:
    url = cloud.sqs.create_queue(QueueName=f"steps-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    request = cloud.request("print('ok')", Tags=[{"Key": "project", "Value": "twinloop"}])
    name = request["TrainingJobName"]
    pattern = {
        "source": ["aws.sagemaker", "twinloop.sagemaker"],
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": {
            "TrainingJobName": [{"prefix": name[:-1]}],  # a job of the test before may still be told of
            "TrainingJobStatus": ["Completed", "Failed", "Stopped"],
        },
    }
    cloud.events.put_rule(Name="steps", EventPattern=json.dumps(pattern))
    cloud.events.put_targets(Rule="steps", Targets=[{"Id": "queue", "Arn": arn}])
    cloud.sagemaker.create_training_job(**request)
    assert cloud.wait(name)["TrainingJobStatus"] == "Completed"
    messages = cloud.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages", [])
    event = json.loads(messages[0]["Body"])
    assert event["source"] == "twinloop.sagemaker"
    assert event["resources"] == [event["detail"]["TrainingJobArn"]]
    detail = event["detail"]
    assert (detail["TrainingJobName"], detail["TrainingJobStatus"]) == (name, "Completed")
    assert detail["Tags"] == {"project": "twinloop"}
    assert isinstance(detail["CreationTime"], int)
    assert detail["CreationTime"] <= detail["TrainingEndTime"]
    cloud.events.remove_targets(Rule="steps", Ids=["queue"])
    cloud.events.delete_rule(Name="steps")


@pytest.mark.parametrize(
    ("line", "status"), [("numpy", "Completed"), ("numpy>=1", "Completed"), ("no-such-thing-anywhere", "Failed")]
)
def test_requirements_are_met_here_or_not_at_all(cloud: Cloud, line: str, status: str) -> None:
    job = cloud.wait(cloud.create("print('ok')", {"requirements.txt": line + "\n"}))
    assert job["TrainingJobStatus"] == status, job.get("FailureReason")
    said = "\n".join(cloud.log(job["TrainingJobName"]))
    assert ("already satisfied: numpy" if status == "Completed" else "No matching distribution found") in said


def test_records_can_be_listed_and_tagged(cloud: Cloud) -> None:
    name = cloud.create("print('ok')")
    job = cloud.wait(name)
    cloud.sagemaker.add_tags(ResourceArn=job["TrainingJobArn"], Tags=[{"Key": "by", "Value": "me"}])
    assert cloud.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"] == [{"Key": "by", "Value": "me"}]
    listed = cloud.sagemaker.list_training_jobs(NameContains=name, StatusEquals="Completed")["TrainingJobSummaries"]
    assert [entry["TrainingJobName"] for entry in listed] == [name]


def test_a_name_is_used_once(cloud: Cloud) -> None:
    request = cloud.request("print('ok')")
    cloud.sagemaker.create_training_job(**request)
    with pytest.raises(ClientError, match=r"ResourceInUse.*must be unique"):
        cloud.sagemaker.create_training_job(**request)
    cloud.wait(request["TrainingJobName"])


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("create_endpoint", {"EndpointName": "a", "EndpointConfigName": "b"}),
        ("list_processing_jobs", {}),
        ("create_model", {"ModelName": "m", "ExecutionRoleArn": ROLE}),
    ],
)
def test_other_actions_are_refused(cloud: Cloud, call: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="is not offered by the local executor"):
        getattr(cloud.sagemaker, call)(**arguments)


def test_a_refused_request_leaves_no_record(cloud: Cloud) -> None:
    request = cloud.request("print('ok')", EnableManagedSpotTraining=True)
    with pytest.raises(ClientError, match="EnableManagedSpotTraining is not offered"):
        cloud.sagemaker.create_training_job(**request)
    with pytest.raises(ClientError, match=r"Could not find|not found"):
        cloud.sagemaker.describe_training_job(TrainingJobName=request["TrainingJobName"])


def test_down_ends_running_jobs(cloud: Cloud, tmp_path: Path) -> None:
    settings = replace(cloud.settings, root=tmp_path, port=free_port(), sagemaker_port=free_port())
    up(settings)
    try:
        other = Cloud(settings)
        other.s3.create_bucket(Bucket=BUCKET)
        pids = [int(word) for word in other.wait_for_log(other.create(HANG), "children").split()[-2:]]
    finally:
        down(settings)
    assert not any(running(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []


def test_jobs_die_with_the_executor(cloud: Cloud, tmp_path: Path) -> None:
    settings = replace(cloud.settings, root=tmp_path, port=free_port(), sagemaker_port=free_port())
    started = up(settings)
    try:
        other = Cloud(settings)
        other.s3.create_bucket(Bucket=BUCKET)
        pids = [int(word) for word in other.wait_for_log(other.create(HANG), "children").split()[-2:]]
        executor = next(part for part in started.components if part.name == "sagemaker")
        psutil.Process(executor.pid).kill()
        _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if running(pid)], timeout=30)
        assert not alive
    finally:
        down(settings)
    assert not settings.state_dir.exists()


@pytest.fixture
def shell(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of somebody who works on this stack from a shell, as `twinloop train` sets it up."""
    from twinloop.aws import clients

    for name, value in cloud.settings.aws_environment().items():
        monkeypatch.setenv(name, value)
    clients.forget()
    yield
    clients.forget()


@pytest.fixture(scope="module")
def role(cloud: Cloud) -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    iam = cloud.client("iam")
    return str(iam.create_role(RoleName="training", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"])


@pytest.mark.usefixtures("shell")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_sdk_submits_and_follows(cloud: Cloud, numbers: dict[str, Any], role: str) -> None:
    from twinloop.aws.sagemaker_sdk import submit_with_model_trainer
    from twinloop.errors import BadInputError, TwinloopError

    request = cloud.request(TRAIN, InputDataConfig=[numbers], RoleArn=role, Tags=[{"Key": "by", "Value": "hand"}])
    request["HyperParameters"] |= {"scale": "3", "name": '"from the sdk"'}
    name = submit_with_model_trainer(request, wait=True, logs=True)
    assert name.startswith(request["TrainingJobName"])
    job = cloud.wait(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    model = cloud.archive(job["ModelArtifacts"]["S3ModelArtifacts"])
    assert json.loads(model["model.json"]) == {"mean": 9.0, "name": "from the sdk"}

    with pytest.raises(TwinloopError, match="the snapshot has no rows"):
        submit_with_model_trainer(cloud.request(FAIL, RoleArn=role), wait=True)
    with pytest.raises(BadInputError, match=r"SageMaker refuses the job: .*sagemaker_program"):
        submit_with_model_trainer(cloud.request(TRAIN, RoleArn=role, HyperParameters={}))
    with pytest.raises(BadInputError, match="VpcConfig"):
        submit_with_model_trainer(cloud.request(TRAIN, RoleArn=role, VpcConfig={}))
