"""The process of one training job: the real SageMaker training toolkit on a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from twinloop_local.executor import guard
from twinloop_local.processes import MARK

GUARD = Path(guard.__file__)


class JobProcess:
    """Starts the toolkit in a process group of its own and hands its output on, line by line."""

    def __init__(self, python: Path, environment: Mapping[str, str], folder: Path, say: Callable[[str], None]) -> None:
        command = [sys.executable, "-I", str(GUARD), str(python), "-m", "sagemaker_training.cli.train"]
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(say,), daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> int | None:
        """Exit code, or None where it runs still after that time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self, grace: float) -> None:
        """As on AWS: SIGTERM to everything the job started, and SIGKILL to what is left after the grace."""
        for member in self._members():
            _signal(member, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self._members() and time.monotonic() < deadline:
            self.wait(0.05)
        self.close()

    def close(self) -> None:
        """Kill what the job has left running and read the last of its output."""
        for member in self._members():
            _signal(member, signal.SIGKILL)
        self.wait(10)
        self._reader.join(10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _members(self) -> list[psutil.Process]:
        """Living processes of the job's session: what it started, unless that chose a session of its own."""
        return [process for process in psutil.process_iter() if _belongs(process, self._process.pid)]

    def _read(self, say: Callable[[str], None]) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                say(line.rstrip("\n"))


def _belongs(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)


def job_environment(base: Path, home: Path, name: str, arn: str, own: Mapping[str, str]) -> dict[str, str]:
    """What a job finds in its environment: what SageMaker gives, the way to AWS, and what the request adds.

    One variable more marks it as the stack's own, so that `twinloop down` finds what a crash may have left.

    pip is kept from the network and from the executor's own packages: the toolkit lets it read the bundle's
    requirements.txt, which then passes where all is installed, and fails the job with pip's words where not.
    """
    kept = ("PATH", "LANG", "LC_ALL", "TZ", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
    credentials = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_EC2_METADATA_DISABLED")
    prefix = home / "packages"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = prefix / "lib" / version / "site-packages"
    return {
        **{key: os.environ[key] for key in (*kept, *credentials) if key in os.environ},
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(packages),
        "PIP_NO_INDEX": "1",
        "PIP_PREFIX": str(prefix),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **own,
        **({MARK: os.environ[MARK]} if MARK in os.environ else {}),
        "SAGEMAKER_BASE_DIR": str(base),
        "TRAINING_JOB_NAME": name,
        "TRAINING_JOB_ARN": arn,
    }
