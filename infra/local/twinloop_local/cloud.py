"""`up`, `down` and `status` of one local stack."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from twinloop_local import processes, state
from twinloop_local.components import DEFAULT_EMULATOR, folders, programs
from twinloop_local.errors import LocalCloudError, StartError
from twinloop_local.program import Program
from twinloop_local.settings import HOST, LocalSettings

Progress = Callable[[str], None]
_EMPTIED_AT_ONCE = 16


@dataclass(frozen=True)
class Component:
    """One program of a stack, as `status` sees it."""

    name: str
    pid: int
    port: int
    alive: bool
    log: Path


@dataclass(frozen=True)
class Status:
    """`running`: all is up. `broken`: a crashed run's state, which `up` or `down` cleans. `down`: nothing there."""

    state: str
    endpoint: str
    sagemaker_endpoint: str
    components: tuple[Component, ...] = ()
    emulator: str | None = None  # what stands for AWS, where that is known


def up(
    settings: LocalSettings, emulator: str | None = None, *, progress: Progress = lambda _: None, patience: float = 120
) -> Status:
    """Start the stack, or leave it as it is where it runs already.

    Args:
        settings: Which stack, where.
        emulator: What stands for AWS; by default what runs already, or else MiniStack.
        progress: Told in words what is being done.
        patience: Seconds each program may take until it answers.

    Raises:
        PortInUseError: Names the port and the variable that changes it.
        StartError: A program did not come up; nothing is left running.
        LocalCloudError: The stack runs already, on other ports or on another emulator.
    """
    with _locked(settings):
        now = status(settings)
        if now.state == "running":
            _same_emulator(settings, now, emulator)
            _same_ports(settings)
            progress(f"the local cloud {settings.stack} is up already")
            return now
        if now.state == "broken":
            progress("cleaning up what a crashed run left behind")
            _stop_all(settings)
        try:
            emulator = emulator or DEFAULT_EMULATOR
            wanted = programs(settings, emulator)
            for program in wanted:
                processes.check_port_free(program.port, program.port_variable)
            _start_all(settings, emulator, wanted, progress, patience)
        except BaseException:
            _stop_all(settings)
            _remove(settings)
            raise
    return status(settings)


def down(settings: LocalSettings, *, progress: Progress = lambda _: None) -> None:
    """Stop what `up` started and remove its state. Nothing to do is not an error."""
    if not settings.state_dir.exists():
        progress(f"the local cloud {settings.stack} is not up")
        return
    with _locked(settings):
        progress(f"stopping the local cloud {settings.stack}")
        _stop_all(settings)
        _remove(settings)


def status(settings: LocalSettings) -> Status:
    """What runs; never changes anything."""
    known = state.read(settings.state_dir)
    if known is None:
        word = "broken" if (settings.state_dir / "logs").exists() else "down"
        return Status(word, settings.endpoint, settings.sagemaker_endpoint)
    ports = {"sagemaker": known.sagemaker_port}
    components = tuple(
        Component(name, entry.pid, ports.get(name, known.port), entry.alive(), _log(settings, name))
        for name, entry in known.processes.items()
    )
    complete = len(components) == 2 and all(component.alive for component in components)
    host = f"http://{HOST}"
    word = "running" if complete else "broken"
    return Status(word, f"{host}:{known.port}", f"{host}:{known.sagemaker_port}", components, known.emulator)


def _start_all(
    settings: LocalSettings, emulator: str, wanted: tuple[Program, ...], progress: Progress, patience: float
) -> None:
    for folder in folders(settings.state_dir):
        folder.mkdir(parents=True, exist_ok=True)
    current = state.StackState(settings.port, settings.sagemaker_port, emulator)
    # All start at once and are then waited for: they need each other only when used.
    for program in wanted:
        folder = settings.state_dir
        identity = processes.start(
            program.command,
            environment=program.environment,
            folder=folder,  # and not the user's, whose files could be taken for modules
            log=_log(settings, program.name),
            mark=str(folder),
        )
        current.processes[program.name] = identity
        current.write(settings.state_dir)
    for program in wanted:
        began = time.monotonic()
        _wait_ready(program, current.processes[program.name], _log(settings, program.name), patience)
        progress(f"{program.name} answers on port {program.port} ({time.monotonic() - began:.1f} s)")
        for note in program.notes:
            progress(note)


def _wait_ready(program: Program, identity: processes.ProcessId, log: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not identity.alive():
            raise StartError(f"{program.name} ended while starting. The end of its log:\n{processes.tail(log)}")
        if _answers(program.health):
            return
        time.sleep(0.05)
    raise StartError(
        f"{program.name} did not answer within {patience:g} s on port {program.port}. "
        f"The end of its log:\n{processes.tail(log)}"
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - a fixed http address on this machine
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop_all(settings: LocalSettings) -> None:
    known = state.read(settings.state_dir)
    # Last started, first stopped: the executor still reports to the emulator while its jobs end.
    for identity in reversed(list(known.processes.values() if known else [])):
        processes.stop(identity, patience=3)  # there is nothing that a slow good-bye would save
    processes.sweep(str(settings.state_dir))
    for entry in settings.state_dir.glob("*"):
        _remove_tree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def _remove_tree(folder: Path) -> None:
    """Remove a folder with what was made read only in it, as functions' code is.

    Folders are emptied side by side: where the file system tells the disk of every file that is gone, tens of thousands
    take minutes one after the other, and seconds together.
    """
    with ThreadPoolExecutor(_EMPTIED_AT_ONCE) as pool:
        for parent, names, files in os.walk(folder):
            for name in names:
                if not (path := Path(parent, name)).is_symlink():
                    path.chmod(0o700)
            pool.submit(_empty, Path(parent), files)
    shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path, files: list[str]) -> None:
    for name in files:
        with suppress(OSError):  # gone meanwhile, or left to whoever looks at what remains
            (folder / name).unlink()


def _remove(settings: LocalSettings) -> None:
    _remove_tree(settings.state_dir)
    with suppress(OSError):  # another stack's folder may be beside it
        settings.state_dir.parent.rmdir()


def _same_emulator(settings: LocalSettings, now: Status, emulator: str | None) -> None:
    if emulator not in (None, now.emulator):
        raise LocalCloudError(
            f"the local cloud {settings.stack} runs on {now.emulator}, not on {emulator}; "
            "run `twinloop down` first, or give the second one another name by TWINLOOP_STACK"
        )


def _same_ports(settings: LocalSettings) -> None:
    known = state.read(settings.state_dir)
    if known and (known.port, known.sagemaker_port) != (settings.port, settings.sagemaker_port):
        raise LocalCloudError(
            f"the local cloud {settings.stack} runs on ports {known.port} and {known.sagemaker_port}; "
            "run `twinloop down` first, or give the second one another name by TWINLOOP_STACK"
        )


def _log(settings: LocalSettings, name: str) -> Path:
    return settings.state_dir / "logs" / f"{name}.log"


@contextmanager
def _locked(settings: LocalSettings) -> Iterator[None]:
    """Hold the stack: two `up` of one stack at once would start it twice.

    Raises LocalCloudError where it is somebody else's, whose processes cannot be stopped from here.
    """
    while True:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        owner = settings.state_dir.stat().st_uid
        if os.geteuid() not in (0, owner):
            raise LocalCloudError(
                f"the local cloud {settings.stack} was started by {_user(owner)}, who can stop it by `twinloop down`; "
                "to run one of your own beside it, name it by TWINLOOP_STACK and give it ports"
            )
        handle = os.open(settings.state_dir, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is(settings.state_dir, handle):  # a `down` that held it before has removed the folder
                yield
                return
        finally:
            os.close(handle)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _is(folder: Path, handle: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
