"""Runs one command and takes it down with the executor. Started as a program: `guard.py COMMAND...`.

The executor holds the other end of standard input and never writes to it: when it closes, the executor is gone,
however it ended, and nobody else is left to stop the job. The guard leads the job's process group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType


def main(command: list[str]) -> int:
    """Return the command's exit code (128 + the signal's number, where a signal ended it)."""
    # The group is sent SIGTERM to ask the script to end; the guard must outlive it to tell how it ended.
    # A handler, not SIG_IGN: the command would inherit that.
    signal.signal(signal.SIGTERM, _carry_on)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_executor, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _carry_on(_number: int, _frame: FrameType | None) -> None:
    return


def _end_with_executor() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through sys.stdin, whose lock would make Python abort at exit
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
