"""One training job from Starting to its end."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinloop_local.executor import artefacts, events, failures, staging
from twinloop_local.executor.failures import JobFailed, JobStopped
from twinloop_local.executor.logs import JobLog
from twinloop_local.executor.process import JobProcess, job_environment
from twinloop_local.executor.records import COMPLETED, STOPPED, STOPPING, JobRecord

_logger = logging.getLogger(__name__)
_LONGEST_RUN_S = 86400  # AWS's default of MaxRuntimeInSeconds


@dataclass(frozen=True)
class JobSettings:
    """What all jobs of an executor have in common: where they work, with which interpreter, how long SIGTERM has."""

    folder: Path
    python: Path
    grace: float


class Job:
    """Runs once, in a thread of its own. `stop` may be called from any other."""

    def __init__(self, record: JobRecord, settings: JobSettings) -> None:
        self.record = record
        self._settings = settings
        self._stop = threading.Event()
        self._folder = settings.folder / record.name
        self._base = self._folder / "ml"

    def stop(self) -> None:
        """Ask the job to end; it is Stopping until it has."""
        self._stop.set()
        self.record.advance("Stopping", "Stopping the training job", status=STOPPING)
        self._announce()

    def run(self) -> None:
        """Carry the job out and record how it went. Never raises: nobody waits for this thread."""
        try:
            self._carry_out()
            self.record.advance(COMPLETED, "Training job completed", status=COMPLETED)
        except JobStopped as stopped:
            self.record.advance(str(stopped), "Training job stopped", status=STOPPED)
        except JobFailed as failed:
            self.record.fail(str(failed))
        except Exception as error:  # a defect of ours must end the job visibly, not leave it running
            _logger.exception("job %s", self.record.name)
            self.record.fail(f"InternalServerError: {type(error).__name__}: {error}")
        finally:
            self._announce()
            shutil.rmtree(self._base, ignore_errors=True)
            shutil.rmtree(self._folder / "home", ignore_errors=True)

    def _carry_out(self) -> None:
        self._check_stopped()
        self._advance("Downloading", "Downloading input data")
        staging.make_folders(self._base)
        (self._folder / "home").mkdir()
        staging.write_config(self._base, self.record.request)
        staging.download_channels(self._base, self.record.request)
        self._check_stopped()
        self._advance("Training", "Training image download completed. Training in progress.")
        with JobLog(self.record.name, self._folder / "log.txt") as log:
            try:
                self._train(log)
            except JobStopped:
                self._upload(required=False)
                raise
            except JobFailed:
                with suppress(JobFailed):  # why the script failed matters more than a failed upload
                    self._upload_output()
                raise
        self._advance("Uploading", "Uploading generated training model")
        self._upload(required=True)

    def _train(self, log: JobLog) -> None:
        own = self.record.request.get("Environment", {})
        environment = job_environment(self._base, self._folder / "home", self.record.name, self.record.arn, own)
        process = JobProcess(self._settings.python, environment, self._base / "code", log.say)
        limit = self.record.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _LONGEST_RUN_S)
        deadline = time.monotonic() + limit
        while (code := process.wait(0.05)) is None:
            if self._stop.is_set():
                process.end(self._settings.grace)
                raise JobStopped("Stopped")
            if time.monotonic() > deadline:
                self.record.advance("Stopping", "Maximum runtime exceeded", status=STOPPING)
                process.end(self._settings.grace)
                raise JobStopped("MaxRuntimeExceeded")
        process.close()
        if code != 0:
            raise JobFailed(failures.reason(self._base, code, list(log.last)))

    def _upload(self, *, required: bool) -> None:
        target = self.record.request["OutputDataConfig"]["S3OutputPath"]
        if required or not artefacts.is_empty(self._base / "model"):
            artefacts.upload(self._base / "model", "model", target, self.record.name)
        self._upload_output()

    def _upload_output(self) -> None:
        target = self.record.request["OutputDataConfig"]["S3OutputPath"]
        if not artefacts.is_empty(self._base / "output" / "data"):
            artefacts.upload(self._base / "output" / "data", "output", target, self.record.name)

    def _check_stopped(self) -> None:
        if self._stop.is_set():
            raise JobStopped("Stopped")

    def _advance(self, secondary: str, message: str) -> None:
        if not self._stop.is_set():
            self.record.advance(secondary, message)
            self._announce()

    def _announce(self) -> None:
        events.announce(self.record.description())
