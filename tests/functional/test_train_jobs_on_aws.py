"""Training jobs through AWS's own APIs, on moto: what is tried again, who is told, and what is listed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber
from played_aws import BUCKET, TABLE

from twinloop.aws import executions
from twinloop.aws.clients import client
from twinloop.aws.objects import S3ObjectStore
from twinloop.aws.training_jobs import SageMakerJobs, StepFunctionsTasks, publish_bundle
from twinloop.contracts.spec import Rung
from twinloop.errors import BadInputError, NotFoundError, UnavailableError
from twinloop.training.launch import TrainingSettings, WaitingTask, training_job_request

pytestmark = pytest.mark.usefixtures("bucket")

JOB = "twinloop-video-ease-1"
SETTINGS = TrainingSettings("twinloop", BUCKET, "arn:aws:iam::123456789012:role/training", {"xgboost": "xgb:1"})
ONE, TWO = WaitingTask("token-one", "ease"), WaitingTask("token-two", "ease")


def request(job: str = JOB) -> dict[str, Any]:
    rung = Rung(name="ease", framework="xgboost", complexity=1)
    source = f"s3://{BUCKET}/sources/ease-0/sourcedir.tar.gz"
    return training_job_request(
        settings=SETTINGS, job=job, system="video", snapshot_key="snapshots/video/0/", rung=rung, source=source
    )


def test_a_job_that_is_there_is_described_and_not_made_again() -> None:
    jobs = SageMakerJobs()
    assert jobs.create(request()) is None
    with Stubber(client("sagemaker")) as stub:  # moto would replace the job
        stub.add_client_error("create_training_job", "ResourceInUse", "names must be unique")
        described = {"TrainingJobName": JOB, "TrainingJobStatus": "Stopped", **_REQUIRED}
        stub.add_response("describe_training_job", described, {"TrainingJobName": JOB})
        found = jobs.create(request())
    assert found is not None
    assert found["TrainingJobStatus"] == "Stopped"


_REQUIRED = {
    "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{JOB}",
    "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/jobs/x"},
    "SecondaryStatus": "Stopped",
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "ResourceConfig": {"VolumeSizeInGB": 1},
    "StoppingCondition": {},
    "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
}


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, UnavailableError),
        ("ResourceLimitExceeded", 400, UnavailableError),
        ("InternalFailure", 500, UnavailableError),
        ("ValidationException", 400, BadInputError),
        ("AccessDeniedException", 400, BadInputError),
    ],
)
def test_what_can_pass_is_told_from_what_cannot(code: str, status: int, kind: type[Exception]) -> None:
    with Stubber(client("sagemaker")) as stub:
        # As often as the client itself tries.
        for _ in range(4):
            stub.add_client_error("create_training_job", code, "in AWS's words", status)
        with pytest.raises(kind, match="in AWS's words"):
            SageMakerJobs().create(request())


def test_a_service_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://nowhere")

    monkeypatch.setattr(client("sagemaker"), "create_training_job", silent)
    monkeypatch.setattr(client("dynamodb"), "put_item", silent)
    with pytest.raises(UnavailableError):
        SageMakerJobs().create(request())
    with pytest.raises(UnavailableError):
        StepFunctionsTasks(TABLE).keep(JOB, ONE)


@pytest.mark.parametrize("code", ["ValidationException", "ResourceNotFound"])
def test_a_job_that_has_ended_or_never_was_needs_no_stopping(code: str) -> None:
    with Stubber(client("sagemaker")) as stub:
        stub.add_client_error("stop_training_job", code, "it is in status Completed")
        SageMakerJobs().stop(JOB)
        stub.add_client_error("stop_training_job", "AccessDeniedException", "no")
        with pytest.raises(BadInputError):
            SageMakerJobs().stop(JOB)


def answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Step Functions' callbacks, taken down; the second attempt's token is the one it knows."""
    sent: list[tuple[str, dict[str, Any]]] = []
    step = client("stepfunctions")

    def take(call: str) -> Any:
        def send(**told: Any) -> dict[str, Any]:
            sent.append((call, told))
            if told["taskToken"] == ONE.token:
                raise step.exceptions.TaskTimedOut({"Error": {"Code": "TaskTimedOut"}}, call)
            return {}

        return send

    for call in ("send_task_success", "send_task_failure"):
        monkeypatch.setattr(step, call, take(call))
    return sent


def test_the_token_of_the_newest_attempt_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, tasks = answers(monkeypatch), StepFunctionsTasks(TABLE)
    tasks.keep(JOB, ONE)
    first = tasks.find(JOB)
    tasks.keep(JOB, TWO)
    tasks.succeed(JOB, first, {"rung": "ease"})  # whoever looked before the second attempt began
    assert tasks.find(JOB) == TWO, "the first attempt's end does not make the second one forgotten"
    tasks.succeed(JOB, TWO, {"rung": "ease"})
    with pytest.raises(NotFoundError):
        tasks.find(JOB)
    assert [told["taskToken"] for _, told in sent] == [ONE.token, TWO.token]


def test_the_machine_is_told_what_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, tasks = answers(monkeypatch), StepFunctionsTasks(TABLE)
    tasks.fail(JOB, TWO, "no room", passing=True)
    tasks.fail(JOB, TWO, "no such role")
    assert [told["error"] for _, told in sent] == ["UnavailableError", "TrainingJobFailed"]


def test_jobs_may_not_write_where_their_code_lies() -> None:
    address = publish_bundle(S3ObjectStore(BUCKET), "ease", b"code")
    assert address.startswith(f"s3://{BUCKET}/sources/ease-")
    assert publish_bundle(S3ObjectStore(BUCKET), "ease", b"code") == address
    assert request()["OutputDataConfig"]["S3OutputPath"] == f"s3://{BUCKET}/jobs/"


def test_a_runs_jobs_are_found_among_years_of_others() -> None:
    """The service gives the oldest first where nothing else is asked for, and never all at once."""
    since = datetime(2026, 1, 2, tzinfo=UTC)
    summary = {"TrainingJobArn": _REQUIRED["TrainingJobArn"], "TrainingJobStatus": "Completed", "CreationTime": since}
    asked = {
        "NameContains": "twinloop-video-",
        "CreationTimeAfter": datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC),
        "SortBy": "CreationTime",
        "SortOrder": "Descending",
    }
    pages = [["twinloop-video-trees-2", "other-twinloop-video-1"], [JOB]]
    with Stubber(client("sagemaker")) as stub:
        for page, names in enumerate(pages):
            answer: dict[str, Any] = {"TrainingJobSummaries": [{**summary, "TrainingJobName": name} for name in names]}
            token = {"NextToken": f"page {page}"} if page else {}
            if page + 1 < len(pages):
                answer["NextToken"] = f"page {page + 1}"
            stub.add_response("list_training_jobs", answer, {**asked, **token})
        for name in (JOB, "twinloop-video-trees-2"):
            described = {**_REQUIRED, "TrainingJobName": name, "TrainingJobStatus": "Completed"}
            stub.add_response("describe_training_job", described, {"TrainingJobName": name})
        found = executions.jobs("twinloop-video-", since.timestamp())
    assert [job.name for job in found] == [JOB, "twinloop-video-trees-2"]


def test_of_jobs_that_really_are_there_only_this_runs_are_given() -> None:
    before = datetime.now(UTC).timestamp()
    SageMakerJobs().create(request())
    assert [job.name for job in executions.jobs("twinloop-video-", before)] == [JOB]
    assert executions.jobs("twinloop-video-", before + 60) == []
