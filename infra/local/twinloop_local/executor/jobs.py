"""All jobs of the executor: a few run at once, the others wait in the order they came."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from twinloop_local.executor.job import Job, JobSettings
from twinloop_local.executor.records import IN_PROGRESS, JobRecord
from twinloop_local.executor.refusals import Refused


class Jobs:
    """Runs jobs in `slots` threads."""

    def __init__(self, settings: JobSettings, slots: int) -> None:
        self._settings = settings
        self._slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="job")
        self._jobs: dict[str, tuple[Job, Future[None]]] = {}

    def submit(self, record: JobRecord) -> None:
        """Run the job as soon as a slot is free; until then it is Starting."""
        job = Job(record, self._settings)
        if self._running() >= self._slots:
            record.say(f"Waiting for one of {self._slots} training slots (TWINLOOP_TRAINING_SLOTS)")
        self._jobs[record.name] = (job, self._pool.submit(job.run))

    def stop(self, name: str) -> None:
        """Ask a job to end.

        Raises:
            Refused: There is no such job, or it is not in progress.
        """
        if name not in self._jobs:
            raise Refused("Requested resource not found.")
        job, future = self._jobs[name]
        if job.record.status != IN_PROGRESS:
            raise Refused(f"The request was rejected because the training job is in status {job.record.status}.")
        job.stop()
        if future.cancel():  # it was waiting for a slot; asked to stop before it began, it ends at once
            job.run()

    def _running(self) -> int:
        return sum(not future.done() for _, future in self._jobs.values())
