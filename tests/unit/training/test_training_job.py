"""The container contract: what a job is told, what it leaves behind when it fails, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from twinloop.errors import BadInputError
from twinloop.training.config import JobConfig
from twinloop.training.job import FAILURE_LENGTH, Job, run_job


class Config(JobConfig):
    size: int = 1


def staged(base: Path, hyperparameters: object = None, hosts: list[str] | None = None) -> dict[str, str]:
    folder = base / "input" / "config"
    folder.mkdir(parents=True)
    if hyperparameters is not None:
        text = hyperparameters if isinstance(hyperparameters, str) else json.dumps(hyperparameters)
        (folder / "hyperparameters.json").write_text(text)
    if hosts is not None:
        (folder / "resourceconfig.json").write_text(json.dumps({"hosts": hosts}))
    return {"SAGEMAKER_BASE_DIR": str(base)}


def nothing(config: Config, job: Job) -> None:
    """A job that succeeds."""


def failing(error: Exception) -> Callable[[Config, Job], None]:
    def train(config: Config, job: Job) -> None:
        raise error

    return train


def reason(base: Path) -> str:
    return (base / "output" / "failure").read_text()


def test_a_job_gets_typed_settings_and_its_folders(tmp_path: Path) -> None:
    (tmp_path / "input" / "data" / "snapshot").mkdir(parents=True)
    seen = []

    def train(config: Config, job: Job) -> None:
        seen.append((config.size, job.snapshot, job.model_dir, job.hosts))

    assert run_job("toy", Config, train, environ=staged(tmp_path, {"size": '"3"'}, ["localhost"])) == 0
    assert seen == [(3, tmp_path / "input/data/snapshot", tmp_path / "model", ("localhost",))]
    assert not (tmp_path / "output" / "failure").exists()


def test_configuration_that_is_left_out_means_defaults(tmp_path: Path) -> None:
    assert run_job("toy", Config, nothing, environ=staged(tmp_path)) == 0


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[1]", "must hold a JSON object")])
def test_configuration_that_cannot_be_read_is_named(text: str, said: str, tmp_path: Path) -> None:
    assert run_job("toy", Config, nothing, environ=staged(tmp_path, text)) == 1
    assert reason(tmp_path).startswith("toy: hyperparameters.json")
    assert said in reason(tmp_path)


def test_an_unknown_hyperparameter_fails_before_any_work(tmp_path: Path) -> None:
    worked = failing(AssertionError("the job was started"))
    assert run_job("toy", Config, worked, environ=staged(tmp_path, {"sizze": "1"})) == 1
    assert reason(tmp_path) == "toy: unknown hyperparameter sizze; this job knows: seed, size"


def test_several_hosts_are_refused(tmp_path: Path) -> None:
    assert run_job("toy", Config, nothing, environ=staged(tmp_path, hosts=["algo-1", "algo-2"])) == 1
    assert "was started on 2; set InstanceCount to 1" in reason(tmp_path)


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    def train(config: Config, job: Job) -> None:
        _ = job.snapshot

    assert run_job("toy", Config, train, environ=staged(tmp_path)) == 1
    assert "no channel 'snapshot'" in reason(tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BadInputError("load more events"), "toy: load more events"),
        (MemoryError(), "toy: out of memory; use a bigger instance type or a shorter time range"),
    ],
)
def test_what_the_caller_can_mend_is_said_plainly(error: Exception, said: str, tmp_path: Path) -> None:
    assert run_job("toy", Config, failing(error), environ=staged(tmp_path)) == 1
    assert reason(tmp_path) == said


def test_any_other_error_names_its_type_and_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job("toy", Config, failing(ZeroDivisionError("oops")), environ=staged(tmp_path)) == 1
    assert reason(tmp_path).startswith("toy: ZeroDivisionError: oops (test_training_job.py:")
    assert "Traceback" in capsys.readouterr().err


def test_a_long_reason_is_cut_to_what_sagemaker_shows(tmp_path: Path) -> None:
    run_job("toy", Config, failing(BadInputError("x" * 5000)), environ=staged(tmp_path))
    assert len(reason(tmp_path)) == FAILURE_LENGTH
