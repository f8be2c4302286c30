"""An execution environment: a function's worker, warm from call to call, and a new one where the last has died."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from twinloop_localstack.lambdas import report
from twinloop_localstack.lambdas.errors import Closed
from twinloop_localstack.lambdas.function import Function, Invocation, Result
from twinloop_localstack.lambdas.outcome import Outcome, judge
from twinloop_localstack.lambdas.report import Usage
from twinloop_localstack.lambdas.sandbox import Sandbox, remove
from twinloop_localstack.lambdas.worker import End, Worker

INIT_LIMIT_S = 10.0


class Environment:
    """One execution environment: one call at a time.

    As on AWS, the first initialisation has 10 s to itself. What it takes beyond them, and any later initialisation
    (after a timeout, a crash, a failed initialisation), counts as part of the call that waits for it.
    """

    def __init__(self, function: Function, sandbox: Sandbox, layers: Path, folder: Path) -> None:
        """Nothing is started yet.

        Args:
            function: What is called.
            sandbox: How it is walled in.
            layers: The function's layers, merged.
            folder: The environment's own folder; it is made, and removed at the end.
        """
        self._function = function
        self._sandbox = sandbox
        self._layers = layers
        self._folder = folder
        self._worker: Worker | None = None
        self._started = 0.0
        self._new = True
        self._closed = False
        self._busy = threading.Lock()

    def start(self) -> None:
        """Start the worker, without waiting until it is initialised."""
        with self._busy:
            self._running()

    def ready(self) -> Outcome | None:
        """Wait for the initialisation, outside of a call. What went wrong, where it failed."""
        with self._busy:
            worker = self._running()
            end = worker.wait(lambda: worker.api.waiting, INIT_LIMIT_S)
            if end is End.DONE:
                return None
            return judge(worker, end, self._function, "")

    def invoke(self, invocation: Invocation) -> Result:
        """Call the function.

        Raises:
            Closed: The environment was closed before there was an answer.
            ExecutorError: The worker could not be started.
        """
        with self._busy:
            worker = self._running()
            end, init_seconds = self._initialised(worker)
            log = worker.take_output() + report.begins(self._function, invocation.request_id)
            began = time.monotonic()
            if end in (End.DONE, End.OVERDUE):
                worker.api.offer(invocation, time.time() + self._function.timeout_s)
                end = worker.wait(lambda: worker.api.answer is not None, self._function.timeout_s)
            seconds = min(time.monotonic() - began, self._function.timeout_s)
            self._check_open()
            outcome = judge(worker, end, self._function, invocation.request_id)
            if outcome.fatal:
                worker.kill()
            log += _whole_lines(worker.take_output()) + outcome.log
            usage = Usage(seconds, worker.peak, init_seconds, outcome.status, outcome.error)
            if outcome.fatal:
                self._drop()
            return Result(
                outcome.payload, outcome.failed, log + report.ends(self._function, invocation.request_id, usage)
            )

    def close(self) -> None:
        """End the worker, a call under way included, and remove the environment's folder."""
        self._closed = True
        worker = self._worker
        if worker is not None:
            worker.kill()
        with self._busy:
            self._drop()
            remove(self._folder)

    def _running(self) -> Worker:
        self._check_open()
        if self._worker is not None and self._worker.ended():
            self._drop()
        if self._worker is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._started = time.monotonic()
            self._worker = Worker(
                lambda address: self._sandbox.order(self._function, self._layers, self._folder, address),
                self._function.memory_mb * 1024 * 1024,
            )
            self._check_open()
        return self._worker

    def _initialised(self, worker: Worker) -> tuple[End, float | None]:
        """Give a new environment its time to initialise; how long that took, where it was new."""
        if not self._new:
            return End.DONE, None
        self._new = False
        end = worker.wait(lambda: worker.api.waiting, max(self._started + INIT_LIMIT_S - time.monotonic(), 0))
        return end, (worker.initialised_at or time.monotonic()) - self._started

    def _check_open(self) -> None:
        if self._closed:
            if self._worker is not None:
                self._worker.kill()
            raise Closed(f"the execution environment of {self._function.name} is closed")

    def _drop(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _whole_lines(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
