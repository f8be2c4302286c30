"""The product problems, one package each, with the same file names inside each."""

from __future__ import annotations

import importlib
import re

from twinloop.contracts.spec import SYSTEM_NAME
from twinloop.contracts.system import System
from twinloop.errors import NotFoundError

_registered: dict[str, System] = {}


def register(system: System) -> None:
    """Make a system known under its spec's name; how a system that lives in another package joins."""
    _registered[system.spec.name] = system


def forget(name: str) -> None:
    """Take back `register`; a name that was not registered is nothing to take back."""
    _registered.pop(name, None)


def load(name: str) -> System:
    """Return the system of that name; raises NotFoundError."""
    if name in _registered:
        return _registered[name]
    if not re.fullmatch(SYSTEM_NAME, name):
        raise NotFoundError(f"{name!r} is no system's name: lower case letters, digits and hyphens")
    package = f"{__name__}.{name.replace('-', '_')}"
    try:
        system: System = importlib.import_module(f"{package}.system").SYSTEM
    except ModuleNotFoundError as error:
        if error.name not in (package, f"{package}.system"):
            raise
        raise NotFoundError(f"there is no system {name!r}") from error
    return system
