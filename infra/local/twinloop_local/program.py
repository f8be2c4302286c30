"""What the programs of a stack have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass

from twinloop_local.settings import LocalSettings


@dataclass(frozen=True)
class Program:
    """One program of the stack.

    Attributes:
        name: What `status` calls it, and its log.
        command: How it is started.
        environment: All that it gets of an environment.
        port: Where it listens, on 127.0.0.1.
        port_variable: The variable that changes the port.
        health: An address that answers 200 once the program serves.
        notes: What its user should know, a line each.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    port: int
    port_variable: str
    health: str
    notes: tuple[str, ...] = ()


def base_environment(settings: LocalSettings) -> dict[str, str]:
    """Nothing of the caller's own: what handlers inherit here would otherwise differ from shell to shell."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        **kept,
        "HOME": str(settings.state_dir / "home"),
        "TMPDIR": str(settings.state_dir / "tmp"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
