"""Background processes that are known again later: by pid, start time and a mark in their environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from twinloop_local.errors import PortInUseError
from twinloop_local.settings import HOST

# Every process of a stack, and whatever those start (MiniStack's workers), carries the state folder in this variable.
MARK = "TWINLOOP_LOCAL_STATE"
# What leads a function on LocalStack carries it in this one: it ends by itself when LocalStack has ended, and takes all
# that the function started with it. Killed, it could not; and the function does not carry any mark.
GUARD_MARK = "TWINLOOP_LAMBDA_GUARD"


# Our own children, kept so that they can be reaped when they end; most callers of `up` are gone long before that.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: float

    def alive(self) -> bool:
        """Whether this very process runs (one that ended and was not waited for does not)."""
        try:
            process = psutil.Process(self.pid)
            return bool(process.create_time() == self.started and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


def start(command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, mark: str) -> ProcessId:
    """Start a command in a session of its own and in a folder, its output going to `log`; it outlives the caller."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command),
            env={**environment, MARK: mark},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process
    return ProcessId(process.pid, psutil.Process(process.pid).create_time())


def stop(identity: ProcessId, *, patience: float = 10.0) -> None:
    """Ask one process that `start` began to end, and wait until it has."""
    if identity.alive():
        os.kill(identity.pid, signal.SIGTERM)
    _wait_until_gone([identity], patience)


def sweep(mark: str, *, patience: float = 10.0) -> None:
    """End whatever carries the mark still: hung programs, workers that a crash left behind. Nothing else is touched.

    Guards of functions are left to end their functions and themselves; what is below one may outlive it by a moment.
    Whatever has not ended when patience ends is killed.
    """
    left, guards = _marked(MARK, mark), _marked(GUARD_MARK, mark)
    below = {member for guard in guards for member in _below(guard)}  # while their guards still tell whose they are
    for member in left:
        _kill(member)
    _wait_until_gone(left, patience)
    guards = list({*guards, *_marked(GUARD_MARK, mark)})
    _wait_until_gone([*guards, *below], patience)
    below |= {member for guard in guards if guard.alive() for member in _below(guard)}
    stuck = [member for member in (*guards, *below) if member.alive()]
    for member in stuck:
        _kill(member)
    _wait_until_gone(stuck, patience)


def _below(member: ProcessId) -> list[ProcessId]:
    try:
        return [ProcessId(child.pid, child.create_time()) for child in psutil.Process(member.pid).children(True)]
    except psutil.Error:
        return []


def _marked(variable: str, mark: str) -> list[ProcessId]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(variable) == mark:
                found.append(ProcessId(process.pid, process.create_time()))
        except (psutil.Error, OSError):  # gone meanwhile, or another user's
            continue
    return [member for member in found if member.alive()]


def _kill(member: ProcessId) -> None:
    try:
        if member.alive():
            os.kill(member.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait_until_gone(identities: Sequence[ProcessId], patience: float) -> None:
    deadline = time.monotonic() + patience
    for identity in identities:
        while identity.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        child = _children.get(identity.pid)
        if child is not None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(1)
                del _children[identity.pid]


def check_port_free(port: int, variable: str) -> None:
    """Raise PortInUseError, naming port and variable, where nobody new can listen on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortInUseError(
                f"port {port} on {HOST} is in use{_holder(port)}. "
                f"Stop that program, or choose another port: {variable}=<port> twinloop up"
            ) from error


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:  # other users' processes may be hidden from us
        pass
    return ""


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, or a word that there are none."""
    try:
        text = log.read_text(errors="replace").splitlines()
    except OSError:
        text = []
    return "\n".join(text[-lines:]) or "(it wrote nothing)"
