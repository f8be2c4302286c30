"""Where things lie in the registry, and which names may become part of a key.

Every name that reaches a key passes through here, so no caller can climb out of `registry/<system>/`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal, get_args

from twinloop.contracts.spec import SYSTEM_NAME
from twinloop.errors import BadInputError

Alias = Literal["champion", "challenger", "shadow", "previous"]
ALIASES: tuple[str, ...] = get_args(Alias)
MOVABLE = ("champion", "challenger", "shadow")
RELEASE = "release"
CHECKSUMS = "checksums.json"
MANIFEST = "manifest.json"
REFRESHED = "refreshed.json"
"""Beside the manifest of a release that a refresh made, so that a list of keys tells such releases apart."""
UNSERVED = ("metrics.json", ".npz")
"""Endings of files that serving never reads: what was measured, and what a job goes on learning from."""

_SYSTEM = re.compile(SYSTEM_NAME)
_MODEL = re.compile(r"[a-z][a-z0-9_]{0,40}")
_VERSION = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+){1,4}")


def check_system(name: str) -> str:
    """Return the name of a system; raises BadInputError."""
    return _checked(_SYSTEM, name, "a system's name (lower case letters, digits, hyphens)")


def check_component(name: str) -> str:
    """Return the name of a component; raises BadInputError, also for `release`, which is the set of them all."""
    if name == RELEASE:
        raise BadInputError("'release' names the components that move together; no single component may be called so")
    return _checked(_MODEL, name, "a component's name (lower case letters, digits, underscores)")


def check_version(version: str) -> str:
    """Return a version id such as 20260131T120000-0a1b2c3d; raises BadInputError."""
    return _checked(_VERSION, version, "a version id such as 20260131T120000-0a1b2c3d")


def is_version(text: str) -> bool:
    """Return whether a text is a version id."""
    return _VERSION.fullmatch(text) is not None


def check_alias(name: str) -> str:
    """Return the name of an alias; raises BadInputError."""
    if name not in ALIASES:
        raise BadInputError(f"{name!r} is no alias; the aliases are {', '.join(ALIASES)}")
    return name


def check_file(name: str) -> str:
    """Return the name of a file inside a version; raises BadInputError."""
    if name == CHECKSUMS:
        raise BadInputError(f"{CHECKSUMS} is written by the registry itself")
    if len(name) > 100:
        raise BadInputError(f"the file name {name[:40]!r}... is longer than 100 characters")
    return _checked(_FILE, name, "a file name such as model.onnx")


def new_version(now: datetime, content_hash: str) -> str:
    """Return the id of content that is first seen at `now`: the UTC second and 8 hex digits of its hash."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{content_hash[:8]}"


def made_at(version: str) -> datetime:
    """Return the second at which the content of a version was first seen; raises BadInputError."""
    return datetime.strptime(check_version(version)[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def model_root(system: str, model: str) -> str:
    """Return the prefix, with a trailing slash, of everything the registry holds of one model or of the releases."""
    if model != RELEASE:
        check_component(model)
    return f"registry/{check_system(system)}/{model}/"


def _checked(pattern: re.Pattern[str], name: str, what: str) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise BadInputError(f"{str(name)[:80]!r} is not {what}")
    return name
