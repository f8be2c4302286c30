"""Runs one function's runtime and takes it down with LocalStack. Started as a program, with the standard library alone.

Standard input brings one line of JSON, what to run, and then stays open: when it closes, LocalStack is gone, however it
ended, and all that the function started is killed. The number of a pipe in that line takes one line of JSON back: how
the runtime ended, or why it could not be started.

With `private`, the runtime gets a root folder, process numbers and a user of its own (Linux namespaces; where this is
not root, the kernel must let ordinary users make them):

    guard (the machine's own view) -> init of the namespace, which builds the root folder -> runtime (no rights)
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

_NEW_MOUNTS, _NEW_PROCESSES, _NEW_USERS = 0x00020000, 0x20000000, 0x10000000
_READ_ONLY, _NO_SUID, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
# Flags of a mount that must be kept when it is made read only, as statvfs and as mount have them.
_KEPT = {os.ST_NOSUID: 2, os.ST_NODEV: 4, os.ST_NOEXEC: 8, os.ST_NOATIME: 1024, os.ST_NODIRATIME: 2048}
_PARENT_DEATH_SIGNAL, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 36, 38
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "sys")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_OPEN_FILES = 1024  # as on AWS

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Run what standard input names until it ends, or until standard input does."""
    spec = json.loads(_first_line())
    os.set_inheritable(spec["status"], False)
    private = spec["private"]
    try:
        # What outlives its parent is handed to this process, so that it is found when all is killed.
        _check(_libc.prctl(_SUBREAPER, 1, 0, 0, 0))
        if private:
            _unshare(private["user"])
    except OSError as error:
        _tell(spec, refused=f"{error.strerror}: {error.filename}")
        return 1
    child = os.fork()
    if child == 0:
        _lead(spec) if private else _execute(spec)
    if _wait(child):
        status = os.waitpid(child, 0)[1]
        if not private:
            _tell_end(spec, status)
    _kill_all()
    return 0


def may_become(user: int) -> bool:
    """Whether this process is root, and one that can be that user, too: a root made by `unshare -r` can't."""
    maps = [[int(word) for word in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return os.geteuid() == 0 and any(first <= user < first + count for first, _, count in maps)


def _unshare(user: int) -> None:
    if may_become(user):
        return _check(_libc.unshare(_NEW_MOUNTS | _NEW_PROCESSES), "unshare")
    own = {"uid_map": f"{user} {os.geteuid()} 1", "setgroups": "deny", "gid_map": f"{user} {os.getegid()} 1"}
    _check(_libc.unshare(_NEW_MOUNTS | _NEW_PROCESSES | _NEW_USERS), "unshare")
    for name, content in own.items():
        Path(f"/proc/self/{name}").write_text(content)
    return None


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 65536)
        if not more:
            sys.exit(1)
        line += more
    return line


def _wait(child: int) -> bool:
    """Whether the child has ended, as opposed to standard input."""
    ended = os.pidfd_open(child)
    return ended in select.select([ended, 0], [], [])[0]


def _kill_all() -> None:
    """Kill all children; those that they leave behind become children of this process and are next."""
    while children := [int(child) for child in Path("/proc/thread-self/children").read_text().split()]:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def _lead(spec: dict[str, Any]) -> NoReturn:
    """Be process 1 of the namespace: when it ends, the kernel ends all others there."""
    try:
        _check(_libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
        _build_root(spec["private"])
        child = os.fork()
        if child == 0:
            _execute(spec)
        while True:
            ended, status = os.wait()
            if ended == child:
                break
        _tell_end(spec, status)
    except OSError as error:
        _tell(spec, refused=f"{error.strerror}: {error.filename}")
    os._exit(0)


def _build_root(private: dict[str, Any]) -> None:
    """Make a root folder of the machine's programs, read only, and of what the function is to see; then enter it."""
    root = private["root"]
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SUID, "mode=0755,size=1m")
    for name in _SYSTEM:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            _bind(f"/{name}", f"{root}/{name}", False)
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{root}/dev/{name}", True)
    for source, target, writable in private["binds"]:
        _bind(source, root + target, writable)
    for target, content in private["files"].items():
        os.makedirs(os.path.dirname(root + target), exist_ok=True)
        Path(root + target).write_text(content)
    for target, content in private["links"].items():
        os.makedirs(os.path.dirname(root + target), exist_ok=True)
        os.symlink(content, root + target)
    os.mkdir(f"{root}/proc")
    _mount("proc", f"{root}/proc", "proc", _NO_SUID)
    _mount("none", root, "", _REMOUNT | _BIND | _READ_ONLY | _NO_SUID)
    os.chroot(root)


def _bind(source: str, target: str, writable: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    _mount(source, target, "", _BIND | _RECURSIVE)
    if not writable:
        found = os.statvfs(target).f_flag
        kept = sum(flag for seen, flag in _KEPT.items() if found & seen)
        _mount("none", target, "", _REMOUNT | _BIND | _READ_ONLY | kept)


def _execute(spec: dict[str, Any]) -> NoReturn:
    """Become the runtime."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        if spec["private"] and os.geteuid() != spec["private"]["user"]:
            user = spec["private"]["user"]
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _check(_libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
        os.chdir(spec["folder"])
        os.execve(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606 - that is what a guard is for
    except OSError as error:
        _tell(spec, refused=f"{error.strerror}: {error.filename or spec['command'][0]}")
    os._exit(127)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    answer = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(answer, f"mount {target}")


def _check(answer: int, what: str = "") -> None:
    if answer != 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number), what or None)


def _tell_end(spec: dict[str, Any], status: int) -> None:
    if os.WIFSIGNALED(status):
        _tell(spec, signal=os.WTERMSIG(status))
    else:
        _tell(spec, code=os.WEXITSTATUS(status))


def _tell(spec: dict[str, Any], **what: object) -> None:
    os.write(spec["status"], json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
