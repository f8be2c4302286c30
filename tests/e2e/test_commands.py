"""Commands that no other test here runs: one rung as a SageMaker job, and a run of the loop that nobody waits for."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from deployed import Cloud, Learned, Loaded, wait_for

from twinloop.aws import executions
from twinloop.aws.clients import client
from twinloop.commands import learn

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_one_rung_is_trained_on_sagemaker(cloud: Cloud, loaded: Loaded, learned: Learned) -> None:
    champion = cloud.place.registry("video").alias("champion")
    told = cloud.twinloop("train", "video", "popularity", "--on", "sagemaker")
    (last,) = [line for line in told.splitlines() if ": ended; model under s3://" in line]
    job = last.partition(":")[0]
    assert job.startswith(f"{cloud.place.name}-video-popularity")
    described = client("sagemaker").describe_training_job(TrainingJobName=job)
    assert described["TrainingJobStatus"] == "Completed"
    key = described["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{cloud.place.store.bucket}/")
    assert key.startswith(f"jobs/{job}/")
    with tarfile.open(fileobj=io.BytesIO(cloud.place.store.read(key).body)) as model:
        manifest = json.loads(model.extractfile("retrieval/manifest.json").read())  # type: ignore[union-attr]
        assert "retrieval/model.onnx" in model.getnames()
    assert (manifest["system"], manifest["rung"]) == ("video", "popularity")
    assert cloud.place.registry("video").alias("champion") == champion  # nothing was judged or promoted


def test_a_run_that_nobody_waits_for_can_be_followed_and_stopped(cloud: Cloud, learned: Learned) -> None:
    arn = cloud.twinloop("learn", "video", "--no-wait").strip()
    assert arn.startswith("arn:aws:states:")
    assert executions.describe(arn).status == "RUNNING"
    wait_for(lambda: executions.states_entered(arn), 30, "the run has begun")
    client("stepfunctions").stop_execution(executionArn=arn, cause="the test has seen enough")
    progress, looks = learn.Progress(), []
    learn.follow(arn, progress, job_prefix="none-", since=0, show=lambda: looks.append(list(progress.began)))
    assert executions.describe(arn).status == "ABORTED"
    assert "Snapshot" in looks[-1]
    assert "Promote" not in looks[-1]
    champion = cloud.place.registry("video").alias("champion")
    assert champion is not None
    assert cloud.recommend("196")["model_version"] == champion.version


def test_the_address_that_the_command_line_uses_is_the_stacks(cloud: Cloud, learned: Learned) -> None:
    assert cloud.place.api_url.startswith(cloud.settings.endpoint)
    assert cloud.place.outputs["ApiId"] in cloud.place.api_url


def test_the_lake_tells_of_objects_that_belong_nowhere(cloud: Cloud, loaded: Loaded) -> None:
    store = cloud.place.store
    store.write("raw/vidoe/items/a.jsonl", b"{}")
    wait_for(lambda: list(store.keys("quarantine/_unknown/")), 60, "the object is refused")
    told = cloud.twinloop("lake", "video")
    assert "1 object belongs to no system or table:" in told
    assert "raw/vidoe/items/a.jsonl: there is no system 'vidoe'" in told
