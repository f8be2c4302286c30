"""The executor's small parts: names of staged files, archives, reasons, records."""

from __future__ import annotations

import tarfile
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop_local.executor import artefacts, failures
from twinloop_local.executor.logs import _first_batch
from twinloop_local.executor.records import JobRecord
from twinloop_local.executor.staging import relative_name

PART = st.text(alphabet="abc.-_", min_size=1, max_size=5)


@given(folder=st.lists(PART, max_size=3), rest=st.lists(PART, min_size=1, max_size=3))
def test_a_folder_is_stripped_with_and_without_its_slash(folder: list[str], rest: list[str]) -> None:
    key = "/".join([*folder, *rest])
    prefix = "/".join(folder)
    assert relative_name(key, prefix) == "/".join(rest)
    assert relative_name(key, prefix + "/" if prefix else "") == "/".join(rest)


@pytest.mark.parametrize(
    ("key", "prefix", "name"),
    [("a/data-1.csv", "a/data", "data-1.csv"), ("a/b.csv", "a/b.csv", "b.csv"), ("data.csv", "da", "data.csv")],
)
def test_a_prefix_within_a_name_keeps_the_name(key: str, prefix: str, name: str) -> None:
    assert relative_name(key, prefix) == name


def test_equal_models_have_equal_archives(tmp_path: Path) -> None:
    archives = []
    for run in ("one", "two"):
        folder = tmp_path / run / "model"
        (folder / "retrieval").mkdir(parents=True)
        (folder / "retrieval" / "model.onnx").write_bytes(b"weights")
        (folder / "a.json").write_text("{}")
        archives.append(artefacts.pack(folder, tmp_path / run / "model.tar.gz").read_bytes())
        time.sleep(0.01)
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "one" / "model.tar.gz") as tar:
        assert tar.getnames() == ["a.json", "retrieval", "retrieval/model.onnx"]


@given(st.text(max_size=5000))
def test_a_reason_fits_and_keeps_both_ends(text: str) -> None:
    short = failures.shorten(text)
    assert len(short) <= 1024
    assert short == text if len(text) <= 1024 else (short[:200] == text[:200] and short[-500:] == text[-500:])


def test_a_job_without_a_failure_file_is_quoted_from_its_log(tmp_path: Path) -> None:
    assert failures.reason(tmp_path, 137).endswith("its last line: (it said nothing), exit code: 137")
    assert "its last line: No module named x, exit code: 1" in failures.reason(
        tmp_path, 1, ["hello", "No module named x", ""]
    )


def test_an_empty_error_message_is_filled_from_the_log(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "failure").write_text('ExecuteUserScriptError:\nExitCode 1\nErrorMessage ""')
    log = [
        "Traceback (most recent call last):",
        "  first, handled",
        "KeyError: 1",
        "Traceback (most recent call last):",
        '  File "train.py", line 3',
        "    fit()",
        "",
        "ValueError: no rows",
        "2026-01-01 ERROR Reporting training FAILURE",
    ]
    assert 'ErrorMessage "ValueError: no rows", exit code: 1' in failures.reason(tmp_path, 1, log)
    assert 'ErrorMessage "", exit code: 9' in failures.reason(tmp_path, 9, ["Killed"])


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=30))
def test_log_batches_stay_small_and_move_on(sizes: list[int]) -> None:
    lines = [(0, "x" * size) for size in sizes]
    count = _first_batch(lines)
    assert 1 <= count <= len(lines)
    assert count == 1 or sum(sizes[:count]) <= 200_000


def moto_job() -> Any:
    return SimpleNamespace(
        arn="arn:aws:sagemaker:us-east-1:000000000000:training-job/j",
        training_job_status="Completed",
        algorithm_specification={"TrainingImage": "x", "MetricDefinitions": [{"Name": "invented"}]},
    )


def test_a_record_tells_only_what_happened() -> None:
    job, start = moto_job(), datetime(2026, 1, 1, tzinfo=UTC)
    record = JobRecord(job, {"TrainingJobName": "j"}, threading.RLock(), start)
    assert record.status == "InProgress"
    assert job.training_start_time is None
    assert "MetricDefinitions" not in job.algorithm_specification
    for seconds, step in ((1, "Downloading"), (3, "Training"), (8, "Uploading")):
        record.advance(step, step, start + timedelta(seconds=seconds))
    record.advance("Completed", "done", start + timedelta(seconds=9), status="Completed")
    steps = job.secondary_status_transitions
    assert [step["Status"] for step in steps] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(now["EndTime"] == then["StartTime"] for now, then in pairwise(steps))
    assert job.billable_time_in_seconds == 8
    assert job.training_end_time == start + timedelta(seconds=9)


def test_a_record_that_ended_stays_so() -> None:
    job = moto_job()
    record = JobRecord(job, {"TrainingJobName": "j"}, threading.RLock(), datetime(2026, 1, 1, tzinfo=UTC))
    record.fail("r" * 3000)
    record.advance("Stopping", "too late", status="Stopping")
    assert record.status == "Failed"
    assert len(job.failure_reason) == 1024
