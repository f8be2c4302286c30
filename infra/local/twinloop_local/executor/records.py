"""Training-job records: moto's, made to tell the truth about what runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from twinloop_local.executor import failures

# Statuses of a job; what they mean and which follow each other is AWS's.
IN_PROGRESS, STOPPING = "InProgress", "Stopping"
COMPLETED, FAILED, STOPPED = "Completed", "Failed", "Stopped"
ENDED = (COMPLETED, FAILED, STOPPED)


class JobRecord:
    """One job's record. moto answers DescribeTrainingJob and ListTrainingJobs from the object this writes to."""

    def __init__(self, moto_job: Any, request: Mapping[str, Any], lock: threading.RLock, now: datetime) -> None:
        self.request = dict(request)
        self._moto = moto_job
        self._lock = lock
        # moto creates jobs as completed, with an invented metric and log pattern; none of it has happened.
        moto_job.environment = request.get("Environment")
        moto_job.final_metric_data_list = None
        moto_job.algorithm_specification.pop("MetricDefinitions", None)
        moto_job.training_start_time = moto_job.training_end_time = None
        moto_job.secondary_status_transitions = []
        moto_job.training_job_status = IN_PROGRESS
        self.arn: str = moto_job.arn
        self.advance("Starting", "Starting the training job", now)

    @property
    def name(self) -> str:
        """TrainingJobName."""
        return str(self.request["TrainingJobName"])

    @property
    def status(self) -> str:
        """TrainingJobStatus."""
        return str(self._moto.training_job_status)

    def advance(self, secondary: str, message: str, now: datetime | None = None, *, status: str | None = None) -> None:
        """Enter a secondary status: closes the transition before it and opens the next. A job that ended stays so."""
        moment = now or datetime.now(UTC)
        with self._lock:
            if self.status in ENDED:
                return
            transitions = self._moto.secondary_status_transitions
            if transitions:
                transitions[-1].setdefault("EndTime", moment)
            ended = {"EndTime": moment} if status in ENDED else {}
            transitions.append({"Status": secondary, "StartTime": moment, "StatusMessage": message, **ended})
            self._moto.secondary_status = secondary
            self._moto.last_modified_time = moment
            if status is not None:
                self._moto.training_job_status = status
            if secondary == "Downloading":
                self._moto.training_start_time = moment
            if status in ENDED:
                self._end(moment)

    def say(self, message: str) -> None:
        """Change the message of the secondary status that the job is in."""
        with self._lock:
            self._moto.secondary_status_transitions[-1]["StatusMessage"] = message

    def fail(self, reason: str) -> None:
        """End as Failed."""
        with self._lock:
            self._moto.failure_reason = failures.shorten(reason)
            self.advance(FAILED, "Training job failed", status=FAILED)

    def _end(self, moment: datetime) -> None:
        self._moto.training_end_time = moment
        started = self._moto.training_start_time
        if started is not None:
            seconds = max(1, round((moment - started).total_seconds()))
            self._moto.training_time_in_seconds = self._moto.billable_time_in_seconds = seconds

    def description(self) -> dict[str, Any]:
        """What DescribeTrainingJob answers, times as datetime."""
        with self._lock:
            answer: dict[str, Any] = self._moto.response_object
            transitions = [dict(entry) for entry in answer["SecondaryStatusTransitions"]]
            return answer | {"SecondaryStatusTransitions": transitions}
