"""What a function sees around itself: its code at /var/task, its layers at /opt, AWS's variables, and no more.

A worker gets a root folder of its own. Where the kernel refuses that, the same things are plain folders elsewhere, and
the same variables name them: what asks LAMBDA_TASK_ROOT or imports a module sees no difference, what spells out /opt
or /tmp does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinloop_localstack.lambdas.function import Function
from twinloop_localstack.lambdas.guard import may_become
from twinloop_localstack.lambdas.runtime import Runtime

_NOBODY = 65534
_PRIVATE = {"task": "/var/task", "opt": "/opt", "runtime": "/var/runtime", "lang": "/var/lang"}


@dataclass(frozen=True)
class Sandbox:
    """How workers are walled in on this machine."""

    runtime: Runtime
    private: bool

    def order(self, function: Function, layers: Path, folder: Path, address: str) -> dict[str, Any]:
        """What `guard.py` is told, but for the pipe it answers by.

        Args:
            function: What is to run.
            layers: Folder with the function's layers, merged (`merge`).
            folder: The execution environment's own folder; /tmp is in it.
            address: Host and port of the Runtime API.
        """
        scratch = folder / "tmp"
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        variables = {**function.variables, "_HANDLER": function.handler, "AWS_LAMBDA_RUNTIME_API": address}
        if not self.private:
            places = {"task": str(function.code), "opt": str(layers), "runtime": str(self.runtime.packages)}
            # The user's own folder would let that of boto3's configuration in.
            own = {"HOME": str(scratch), "TMPDIR": str(scratch)}
            return {
                "command": [str(self.runtime.python), "-m", "awslambdaric", function.handler],
                "environment": {**self._environment(places, str(self.runtime.python.parent), variables), **own},
                "folder": str(function.code),
                "private": None,
            }
        root = folder / "root"
        root.mkdir(exist_ok=True)
        if may_become(_NOBODY):
            os.chown(scratch, _NOBODY, _NOBODY)
        return {
            "command": [f"/var/runtime/bin/{self.runtime.name}", "-m", "awslambdaric", function.handler],
            "environment": self._environment(_PRIVATE, "/var/lang/bin", variables),
            "folder": "/var/task",
            "private": {"root": str(root), "user": _NOBODY, **self._view(function.code, layers, scratch)},
        }

    def _view(self, code: Path, layers: Path, scratch: Path) -> dict[str, Any]:
        name = self.runtime.name
        return {
            "binds": [
                (str(code), "/var/task", False),
                (str(layers), "/opt", False),
                (str(scratch), "/tmp", True),  # noqa: S108 - the worker's own
                (str(self.runtime.base), "/var/lang", False),
                (str(self.runtime.packages), f"/var/runtime/lib/{name}/site-packages", False),
            ],
            # An environment of its own, or packages installed beside the machine's Python could be imported.
            "files": {"/var/runtime/pyvenv.cfg": "home = /var/lang/bin\ninclude-system-site-packages = false\n"},
            "links": {f"/var/runtime/bin/{name}": f"/var/lang/bin/{name}"},
        }

    def _environment(self, places: Mapping[str, str], programs: str, variables: Mapping[str, str]) -> dict[str, str]:
        task, opt, name = places["task"], places["opt"], self.runtime.name
        packages = f"/var/runtime/lib/{name}/site-packages" if self.private else str(self.runtime.packages)
        libraries = [f"{places[key]}/lib" for key in ("lang", "runtime") if key in places and self.private]
        libraries += ["/lib64", "/usr/lib64", task, f"{task}/lib", f"{opt}/lib"]
        # After the function's own folder, which is first because it is where Python is started.
        path = [f"{opt}/python/lib/{name}/site-packages", f"{opt}/python", packages]
        own = variables.get("PYTHONPATH")
        return {
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{name}",
            "LAMBDA_RUNTIME_DIR": places["runtime"],
            "LAMBDA_TASK_ROOT": task,
            "LANG": "en_US.UTF-8",
            "LD_LIBRARY_PATH": ":".join(libraries),
            "PATH": f"{programs}:/usr/local/bin:/usr/bin/:/bin:{opt}/bin",
            "TZ": ":UTC",
            **variables,
            "PYTHONPATH": ":".join([*path, own] if own else path),
        }


def merge(layers: tuple[Path, ...], target: Path, *, link: bool) -> None:
    """Lay folders over each other, later ones on top, as they are at /opt.

    Args:
        layers: The folders; they stay as they are.
        target: The folder that is made.
        link: Whether files may be links to the originals, which is quick, but needs a mount that is read only: through
            a link, a new mode or new content gets into the original.
    """
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for layer in layers:
        shutil.copytree(layer, partial, symlinks=True, dirs_exist_ok=True, copy_function=_link if link else _copy)
    partial.chmod(0o755)  # as LocalStack leaves what it unpacks: workers are not root
    partial.rename(target)


def make_read_only(folder: Path) -> None:
    """Take the right to write from everybody; root needs none, so that it binds ordinary users only.

    Not for a folder with links to files of elsewhere: they have one mode with them.
    """
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)


def remove(folder: Path) -> None:
    """Remove a folder with what was made read only in it."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _link(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _copy(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # of an earlier layer: a symbolic link would be written through
    shutil.copy2(source, target)
