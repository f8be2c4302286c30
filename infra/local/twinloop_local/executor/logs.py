"""Job logs: a file here, and CloudWatch Logs where SageMaker puts them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client

GROUP = "/aws/sagemaker/TrainingJobs"

_logger = logging.getLogger(__name__)
_EVERY_S = 1.0
_LONGEST_LINE = 100_000  # characters; at most four bytes each, a line stays far below CloudWatch's limit on a batch
_BATCH_CHARACTERS = 200_000
_BATCH_LINES = 5_000


class JobLog:
    """Collects lines and sends them about once a second. A line that cannot be sent is still in the file.

    `last` holds the latest lines.
    """

    def __init__(self, job: str, file: Path) -> None:
        self._stream = f"{job}/algo-1-{int(time.time() * 1000)}"
        self._file = file.open("a", encoding="utf-8")
        self._lines: list[tuple[int, str]] = []
        self.last: deque[str] = deque(maxlen=200)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._sender = threading.Thread(target=self._send_regularly, daemon=True)

    def __enter__(self) -> Self:
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sender.join(30)
        self._file.close()

    def say(self, line: str) -> None:
        """Add one line. Safe from any thread."""
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            self.last.append(line)
            if line.strip():  # CloudWatch takes no empty events
                self._lines.append((int(time.time() * 1000), line[:_LONGEST_LINE]))

    def _send_regularly(self) -> None:
        logs = client("logs")
        try:
            _ensure_stream(logs, self._stream)
            while not self._ended.wait(_EVERY_S):
                self._send(logs)
            self._send(logs)
        except (ClientError, BotoCoreError) as error:
            _logger.warning("the log of %s is in the file only: %s", self._stream, error)

    def _send(self, logs: Any) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        while lines:
            batch = _first_batch(lines)
            events = [{"timestamp": when, "message": text} for when, text in lines[:batch]]
            logs.put_log_events(logGroupName=GROUP, logStreamName=self._stream, logEvents=events)
            lines = lines[batch:]


def _first_batch(lines: list[tuple[int, str]]) -> int:
    """How many of the lines fit into one call; at least one."""
    characters = 0
    for count, (_, text) in enumerate(lines[:_BATCH_LINES]):
        characters += len(text)
        if characters > _BATCH_CHARACTERS and count:
            return count
    return min(len(lines), _BATCH_LINES)


def _ensure_stream(logs: Any, stream: str) -> None:
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
