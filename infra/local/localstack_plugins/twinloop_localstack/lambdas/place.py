"""Where functions run on this machine: the runtime, how workers are walled in, and the folders they need."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from twinloop_localstack.lambdas.environment import Environment
from twinloop_localstack.lambdas.errors import ExecutorError
from twinloop_localstack.lambdas.function import Function
from twinloop_localstack.lambdas.runtime import VARIABLE, Runtime, find_runtime
from twinloop_localstack.lambdas.sandbox import Sandbox, make_read_only, merge, remove
from twinloop_localstack.lambdas.worker import End, Worker

_logger = logging.getLogger(__name__)
_DEFAULT_RUNTIME = Path(".envs/lambda-runtime")


class Place:
    """One for all functions of a process."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        """Nothing is written before it is needed.

        Args:
            sandbox: How workers are walled in.
            folder: For what the workers need on disk.
        """
        self.sandbox = sandbox
        self._folder = folder
        self._lock = threading.Lock()

    def environment(self, name: str, function: Function) -> Environment:
        """A new execution environment, not started, for a function that was prepared."""
        if not self.sandbox.private:
            function = replace(function, code=self._copy((function.code,)))
        return Environment(function, self.sandbox, self._copy(function.layers), self._folder / "environments" / name)

    def prepare(self, function: Function) -> None:
        """Do ahead of the first call what need not be done again for the next."""
        self._copy(function.layers)
        if not self.sandbox.private:
            self._copy((function.code,))

    def close(self) -> None:
        """Remove everything. Environments are to be closed before."""
        remove(self._folder)

    def _copy(self, sources: tuple[Path, ...]) -> Path:
        """The folders merged into one; it is shared until a name or anything in them changes."""
        key = hashlib.sha256("\0".join(map(_fingerprint, sources)).encode()).hexdigest()[:16]
        target = self._folder / "merged" / key
        with self._lock:
            if not target.is_dir():
                merge(sources, target, link=self.sandbox.private)
                if not self.sandbox.private:
                    make_read_only(target)
        return target


@cache
def place() -> Place:
    """The one of this process, removed at its end, with the runtime that TWINLOOP_LAMBDA_RUNTIME names.

    Raises:
        ExecutorError: There is no such runtime.
    """
    made = make_place(os.environ)
    atexit.register(made.close)
    return made


def make_place(variables: Mapping[str, str]) -> Place:
    """A new one, in a folder of its own below the one for temporary files.

    Raises:
        ExecutorError: There is no runtime.
    """
    runtime = find_runtime_of(variables)
    folder = Path(tempfile.mkdtemp(prefix="lambda-workers-"))
    refused = why_not_private(Sandbox(runtime, private=True), folder / "trial")
    if refused:
        _logger.warning("functions run without /var/task, /opt and a /tmp of their own: %s", refused)
    return Place(Sandbox(runtime, private=not refused), folder)


def find_runtime_of(variables: Mapping[str, str]) -> Runtime:
    """The runtime that the variables name, or the one in its usual place.

    Raises:
        ExecutorError: There is none.
    """
    return find_runtime(Path(variables.get(VARIABLE) or _DEFAULT_RUNTIME))


def _fingerprint(folder: Path) -> str:
    """A folder's name, and what changes with its content: names, modes, sizes and times of the files."""
    found = [str(folder)]
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            seen = os.lstat(path)
            # No size or time of folders: they differ by file system, and their names are listed anyway.
            content = (seen.st_size, seen.st_mtime_ns, seen.st_ino) if name in files else ()
            found.append(f"{path} {seen.st_mode} {content}")
    return "\n".join(sorted(found))


def why_not_private(sandbox: Sandbox, folder: Path) -> str:
    """Try whether workers can have a root folder of their own; the reason, where they can't."""
    code = folder / "code"
    code.mkdir(parents=True)
    (code / "trial.py").write_text("import boto3\n\ndef handler(event, context):\n    return None\n")
    function = Function("trial", "trial.handler", code)
    worker = Worker(lambda address: sandbox.order(function, code, folder, address), 1 << 30)
    try:
        end = worker.wait(lambda: worker.api.waiting, 30)
        return "" if end is End.DONE else worker.take_output().strip() or f"a trial ended as {end.name.lower()}"
    except ExecutorError as error:
        return str(error)
    finally:
        worker.close()
        shutil.rmtree(folder, ignore_errors=True)
