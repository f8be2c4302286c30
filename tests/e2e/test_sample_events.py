"""Every file in events/ is accepted by the function that it names, as `sam build` made it.

AWS is played by moto, SageMaker by our executor.

Where one needs what another has made, they are handed over in that order.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_releases
from built import Functions
from deployed import Cloud, wait_for
from moto.server import ThreadedMotoServer
from played_aws import create_stream, create_table
from ports import free_port

from twinloop_local.deploy import build_folder
from twinloop_local.settings import ACCOUNT
from twinloop_localstack.lambdas.place import make_place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
EVENTS = ROOT / "events"
RUNTIME = ROOT / ".envs" / "lambda-runtime"
FUNCTIONS = {
    "etl": "EtlFunction",
    "snapshot": "SnapshotFunction",
    "train": "TrainFunction",
    "gate": "GateFunction",
    "monitor": "MonitorFunction",
    "refresh": "RefreshFunction",
    "collect": "CollectFunction",
    "online": "OnlineFunction",
}

SERVED = "TWINLOOP_SYSTEM"
ANSWERED = {"predictions": "ads", "results": "items", "decisions": "decisions", "suggestions": "events"}

TOLD = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
FILES = sorted(
    str(path.relative_to(EVENTS))
    for path in EVENTS.glob("*/*.json")
    if (ROOT / "functions" / path.parent.name).is_dir()
)


@pytest.fixture(scope="module")
def answers(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What each file was answered, by its name."""
    if not RUNTIME.exists():
        pytest.skip("the Lambda runtime is not installed: python3 infra/environments.py")
    place = make_place({"TWINLOOP_LAMBDA_RUNTIME": str(RUNTIME)})
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    try:
        with executor(tmp_path_factory.mktemp("jobs"), endpoint) as sagemaker:
            yield World(build_folder(cloud.settings), place, endpoint, sagemaker).live()
    finally:
        server.stop()
        place.close()


class World:
    """An account with the stack's resources, and its functions."""

    def __init__(self, built: Path, place: Any, endpoint: str, sagemaker: str) -> None:
        self._endpoints = {"sagemaker": sagemaker}
        self._endpoint = endpoint
        queue = self._prepare()
        image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/training:1"
        variables = {
            "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker,
            "TWINLOOP_BUCKET": "data",
            "TWINLOOP_TABLE": "main",
            "TWINLOOP_STAGE": "dev",
            "TWINLOOP_STACK": "twinloop",
            "TWINLOOP_GLUE_DATABASE": "twinloop_lake",
            "TWINLOOP_EVENTS_QUEUE_URL": queue,
            "TWINLOOP_RAW_STREAM": "twinloop-{system}-events",
            "TWINLOOP_TRAINING_ROLE": "arn:aws:iam::123456789012:role/training",
            "TWINLOOP_XGBOOST_IMAGE": image,
            "TWINLOOP_PYTORCH_IMAGE": image,
            "POWERTOOLS_METRICS_NAMESPACE": "twinloop",
            "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108 - as in the template
        }
        told = {**TOLD, "AWS_ENDPOINT_URL": endpoint}
        self._functions = {
            system: Functions(
                built,
                place,
                {**variables, SERVED: system, "TWINLOOP_PREDICTION_STREAM": f"twinloop-{system}-predictions"},
                told,
            )
            for system in ("video", *tiny_releases.FILES)
        }
        self._ids: dict[str, str] = {}
        self.answers: dict[str, Any] = {}

    def live(self) -> dict[str, Any]:
        """Hand over each file, in the order of things."""
        for file in ("etl/test-event.json", "etl/delivery.json", "etl/compact.json"):
            self._give(file)
        self._fill_lake()
        taken = self._give("snapshot/take.json")
        self._ids[read("gate/judge.json")["snapshot_key"]] = taken["snapshot_key"]
        job = self._give("train/start.json")["job"]
        self._ids[read("train/job-ended.json")["detail"]["TrainingJobName"]] = job
        self._wait_for(job)
        self._give("train/job-ended.json")
        verdict = self._give("gate/judge.json")
        assert verdict["promote"], verdict["verdict"]
        self._ids[read("gate/promote.json")["version"]] = verdict["version"]
        for file in FILES:
            if file not in self.answers and served(file) == "video":
                self._give(file)
        self._release()  # after the function `index` has found none
        for file in FILES:
            if file not in self.answers:
                self._give(file)
        return self.answers

    def _release(self) -> None:
        """Let something serve of the systems that learnt nothing here."""
        s3 = self._client("s3")
        for system in tiny_releases.FILES:
            made = tiny_releases.serving(system)
            for key in made.keys(""):
                s3.put_object(Bucket="data", Key=key, Body=made.read(key).body)

    def _give(self, file: str) -> Any:
        """Hand over a file, the ids that only this world can give put in."""
        text = (EVENTS / file).read_text()
        for sample, real in self._ids.items():
            text = text.replace(sample, real)
        folder, system = file.split("/", maxsplit=1)[0], served(file)
        name = f"Serve{system.capitalize()}Function" if folder == "serve" else FUNCTIONS[folder]
        self.answers[file] = self._functions[system].call(name, json.loads(text))
        return self.answers[file]

    def _client(self, service: str) -> Any:
        own = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        endpoint = self._endpoints.get(service, self._endpoint)
        return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", **own)

    def _prepare(self) -> str:
        s3, firehose = self._client("s3"), self._client("firehose")
        s3.create_bucket(Bucket="data")
        for name in ("events/valid.jsonl", "events/poison.jsonl"):
            s3.put_object(Bucket="data", Key=f"raw/video/{name}", Body=(EVENTS / "video" / name).read_bytes())
        body = (EVENTS / "video" / "items" / "valid.csv").read_bytes()
        s3.put_object(Bucket="data", Key="raw/video/items/first load/valid.csv", Body=body)
        self._client("glue").create_database(DatabaseInput={"Name": "twinloop_lake"})
        create_table(self._client("dynamodb"), "main")
        logs = {f"{system}-predictions": f"predictions/{system}/" for system in ("video", *tiny_releases.FILES)}
        for name, prefix in {"video-events": "raw/video/events/live/", **logs}.items():
            create_stream(firehose, f"twinloop-{name}", prefix)
        return str(self._client("sqs").create_queue(QueueName="events")["QueueUrl"])

    def _fill_lake(self) -> None:
        """Enough to learn from: sixty users who rate ten of twenty items."""
        start = datetime(2025, 4, 1, tzinfo=UTC)
        rows = [
            {
                "event_id": f"{user}-{item}",
                "type": "rating",
                "time": start + timedelta(minutes=item),
                "user_id": f"u{user:02d}",
                "item_id": f"i{(user + 7 * item) % 20}",
                "rating": 5.0,
            }
            for user in range(60)
            for item in range(10)
        ]
        body = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), body)
        self._client("s3").put_object(
            Bucket="data", Key="lake/video/events/dt=2025-04-01/first.parquet", Body=body.getvalue()
        )

    def _wait_for(self, job: str) -> None:
        sagemaker = self._client("sagemaker")

        def look() -> bool:
            described = sagemaker.describe_training_job(TrainingJobName=job)
            assert described["TrainingJobStatus"] in ("InProgress", "Completed"), described["FailureReason"]
            return bool(described["TrainingJobStatus"] == "Completed")

        wait_for(look, 120, job)


@contextmanager
def executor(folder: Path, endpoint: str) -> Iterator[str]:
    """Run training jobs on data and code of that AWS; yields the address of SageMaker."""
    port = free_port()
    command = [sys.executable, "-m", "twinloop_local.executor", "--port", str(port), "--jobs", str(folder)]
    own = {**TOLD, "AWS_ENDPOINT_URL": endpoint, "MOTO_ACCOUNT_ID": ACCOUNT, "PATH": os.environ["PATH"]}
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310 - on this machine
                return True
        except OSError:
            return False

    process = subprocess.Popen([*command, "--grace", "1"], env=own)
    try:
        wait_for(answers, 120, "the SageMaker executor")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def read(file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVENTS / file).read_text())
    return found


def served(file: str) -> str:
    """Return the system that a request is for, by its path; that of all other events is video."""
    parts = str(read(file).get("path", "")).split("/")  # /v1/<system>/<verb>; /v1/openapi.json is of video
    return parts[2] if file.startswith("serve/") and len(parts) > 3 else "video"


@pytest.mark.parametrize("file", FILES)
def test_the_function_accepts_the_event(answers: dict[str, Any], file: str) -> None:
    answer = answers[file]
    if "httpMethod" in read(file):
        assert answer["statusCode"] in (200, 202), answer
    if "Records" in read(file):
        assert answer == {"batchItemFailures": []}


def test_every_function_has_an_event() -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}
    assert {file.split("/")[0] for file in FILES} == folders


def test_the_answers_fit_what_came_before(answers: dict[str, Any]) -> None:
    assert answers["snapshot/take.json"]["snapshot_key"].startswith("snapshots/video/")
    assert answers["train/job-ended.json"] == {"resumed": True}
    for system in ("search", "suggestions"):
        assert answers[f"refresh/{system}.json"]["version"] is None  # nothing was learnt of them
    assert answers["gate/promote.json"]["previous"] is None
    shown = json.loads(answers["serve/recommendations.json"]["body"])
    assert len(shown["items"]) == 5
    assert shown["degraded"] is False
    assert shown["model_version"] == answers["gate/promote.json"]["version"]
    for name, what in ANSWERED.items():
        said = json.loads(answers[f"serve/{name}.json"]["body"])
        assert said[what], said
        assert said["degraded"] is False
    assert json.loads(answers["collect/events.json"]["body"]) == {"accepted": 2, "rejected": []}
