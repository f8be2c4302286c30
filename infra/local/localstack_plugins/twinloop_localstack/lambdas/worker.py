"""One process of the runtime: started, watched while it works, and killed."""

from __future__ import annotations

import enum
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from twinloop_localstack.lambdas import guard
from twinloop_localstack.lambdas.errors import ExecutorError
from twinloop_localstack.lambdas.failures import Exit
from twinloop_localstack.lambdas.memory import descendants, held_bytes
from twinloop_localstack.lambdas.runtime_api import RuntimeApi

_GUARD = guard.__file__
# A guard must outlive what `twinloop down` kills, which is found by the first variable, or what its function started
# would be left behind: it gets nothing of our environment but the value of that, under the second name, by which it is
# waited for.
_MARK, _GUARD_MARK = "TWINLOOP_LOCAL_STATE", "TWINLOOP_LAMBDA_GUARD"
_LOOK_EVERY_S = 0.02  # at the memory, while there is work


class End(enum.Enum):
    """Why waiting for a worker ended."""

    DONE = enum.auto()
    EXITED = enum.auto()
    OVERDUE = enum.auto()
    OUT_OF_MEMORY = enum.auto()


class Worker:
    """A guard with the runtime below it.

    Not for two threads at once, but for `kill`.

    Attributes:
        api: The Runtime API it talks to.
        exit: How it ended; None while it runs.
        peak: The most memory it was seen to hold, in bytes.
    """

    def __init__(self, order: Callable[[str], Mapping[str, Any]], memory_limit: int) -> None:
        """Start it.

        Args:
            order: Makes what the guard is told, given the address of the Runtime API.
            memory_limit: Bytes that it may hold.
        """
        self.exit: Exit | None = None
        self.peak = 0
        self._limit = memory_limit
        self._output = bytearray()
        self._woken: int | None = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waking = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self.api = RuntimeApi(self._wake)
        self._status, told = os.pipe()
        try:
            what = {**order(self.api.address), "status": told}
            self._private = what["private"] is not None
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD],
                cwd="/",
                env={_GUARD_MARK: os.environ[_MARK]} if _MARK in os.environ else {},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(told,),
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            self._give_back()
            raise
        finally:
            os.close(told)
        self._stdin, self._stdout = _pipe(self._process.stdin), _pipe(self._process.stdout)
        with suppress(BrokenPipeError):  # it ended at once; waiting for it will tell
            _write_all(self._stdin.fileno(), json.dumps(what).encode() + b"\n")
        os.set_blocking(self._stdout.fileno(), False)
        for handle in (self._stdout.fileno(), self._status, self._woken):
            self._selector.register(handle, selectors.EVENT_READ)

    @property
    def initialised_at(self) -> float | None:
        """When it first asked for an invocation (monotonic clock); None where it has not yet."""
        return self.api.first_asked

    def ended(self) -> bool:
        """Whether it ended while nobody waited for it."""
        return self.exit is not None or self._process.poll() is not None

    def wait(self, done: Callable[[], bool], seconds: float) -> End:
        """Watch it work until it is done, ends, takes too long or too much memory.

        Raises:
            ExecutorError: It could not be started.
        """
        deadline = time.monotonic() + seconds
        while True:
            if done():
                self._look_at_memory()
                self._read_output()
                return End.DONE
            if self.exit is not None:
                return End.EXITED
            if self._look_at_memory() > self._limit:
                return End.OUT_OF_MEMORY
            left = deadline - time.monotonic()
            if left <= 0:
                self._read_output()
                return End.OVERDUE
            for key, _ in self._selector.select(min(left, _LOOK_EVERY_S)):
                if key.fd == self._status:
                    self._read_status()
                elif key.fd == self._stdout.fileno():
                    self._read_output()
                else:
                    os.eventfd_read(key.fd)

    def take_output(self) -> str:
        """What it has written since it was last asked."""
        self._read_output()
        text = self._output.decode(errors="replace")
        self._output.clear()
        return text

    def kill(self) -> None:
        """Kill it and all that it started. Safe from any thread, and again and again."""
        with suppress(OSError):
            self._stdin.close()  # the guard does it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._wake()

    def close(self) -> None:
        """Kill it and give back all that belongs to it; it can't be asked for anything afterwards."""
        self.kill()
        self._stdout.close()
        self._give_back()

    def _give_back(self) -> None:
        self.api.close()
        self._selector.close()
        os.close(self._status)
        # The API's threads may still be at work, and the number may soon stand for another file.
        with self._waking:
            if self._woken is not None:
                os.close(self._woken)
            self._woken = None

    def _wake(self) -> None:
        with self._waking:
            if self._woken is not None:
                os.eventfd_write(self._woken, 1)

    def _read_output(self) -> None:
        with suppress(BlockingIOError):
            while more := os.read(self._stdout.fileno(), 65536):
                self._output += more
            with suppress(KeyError):  # everybody who could write has ended
                self._selector.unregister(self._stdout.fileno())

    def _read_status(self) -> None:
        # The first line counts: what could not be started still ends. None comes where the guard itself was killed.
        told = json.loads((os.read(self._status, 65536) or b'{"signal": 9}').splitlines()[0])
        self._read_output()
        if "refused" in told:
            raise ExecutorError(f"the function's process could not be started: {told['refused']}")
        self.exit = Exit(told.get("code", 0), told.get("signal", 0))

    def _look_at_memory(self) -> int:
        members = descendants(self._process.pid)
        held = held_bytes(members[1:] if self._private else members, self._limit)  # the first is our own
        self.peak = max(self.peak, held)
        return held


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ExecutorError("a process was started without its pipes")
    return stream


def _write_all(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
